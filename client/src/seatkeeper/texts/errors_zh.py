"""What the SDK's errors say, in Chinese."""

TEXTS = {
    # --- Settings ---
    "error.setting.key_and_token": "license_key 和 token 只能填写一个。",
    "error.setting.no_credential": "请填写 license_key 或 token，或者安装许可证文件。",
    "error.setting.no_product": "product 为空：请填写供应商给出的产品代码。",
    "error.setting.url": "url 不是服务器地址：请填写 https://名称，不要带用户名、? 和 #",
    "error.setting.clear": (
        "url 以 http:// 指向另一台机器，许可证密钥会以明文传输：请改用 https://，仅测试时可设置 {variable}=1"
    ),
    "error.setting.clear_by_proxy": (
        "url 以 http:// 经代理指向另一台机器，许可证密钥会以明文传输：请改用 https://，仅测试时可设置 {variable}=1"
    ),
    "error.setting.proxy": (
        "{setting} 不是代理地址：请填写 http://主机:端口 或 socks5://主机:端口，用户名和密码中的特殊字符须用百分号编码"
    ),
    "error.setting.proxy_scheme": "{setting} 的协议无法识别：请填写 http://、https:// 或 socks5://",
    "error.setting.proxy_credentials": "{setting} 的用户名或密码超出 SOCKS5 的限制：最多 255 个 ASCII 字符",
    "error.setting.fingerprint": "{variable} 不是有效的指纹：请填写 1 到 {longest} 个可显示的字符",
    "error.setting.unreadable": "无法读取 {setting}（{why}）：{path}",
    "error.setting.no_certificates": "{setting} 中没有 PEM 格式的证书：{path}",
    "error.setting.client_key_alone": "只设置了 client_key，没有设置 client_cert：请同时设置，或都不设置",
    "error.setting.client_key_encrypted": "client_key 已加密：请保存为无密码的文件，且仅所有者可读（0600）",
    "error.setting.client_mismatch": "client_cert 与 client_key 不能一起使用：密钥不属于该证书",
    "error.setting.client_not_pem": "client_cert 与 client_key 不能一起使用：其中之一不是 PEM 格式",
    # --- Names, connections, time ---
    "error.dns": "无法解析名称 {host}：请检查 URL 和本机的 DNS",
    "error.connect": "无法连接 {host}（{why}）：请检查 URL、网络和防火墙",
    "error.timeout.answer": "{host} 在 {seconds:g} 秒内没有应答：请稍后重试",
    "error.timeout.connection": "在 {seconds:g} 秒内未能连接 {host}：请检查网络和防火墙",
    "error.timeout.proxy": "在 {seconds:g} 秒内未能连接 {host}：请检查代理 {proxy}",
    "error.reset": "与 {host} 的连接在收到完整应答之前中断：请稍后重试",
    "error.reset.encrypted": (
        "与 {host} 的连接在收到完整应答之前中断：请稍后重试；如果服务器要求证书，请检查 client_cert"
    ),
    # --- What the system says ---
    "error.system.no_connection": "没有连接",
    "error.system.refused": "连接被拒绝",
    "error.system.no_network": "网络不可达",
    "error.system.no_route": "没有到主机的路由",
    "error.system.no_file": "没有这个文件或文件夹",
    "error.system.no_permission": "没有权限",
    "error.system.is_folder": "这是一个文件夹",
    "error.system.no_folder": "路径中有一部分不是文件夹",
    "error.system.full": "磁盘空间不足",
    "error.system.read_only": "文件系统为只读",
    # --- Proxies ---
    "error.proxy.credentials": ("代理 {proxy} 要求其他凭据：请写入代理地址，格式为 http://用户名:密码@主机:端口"),
    "error.proxy.forbidden": ("代理 {proxy} 不允许访问该服务器：请让代理管理员放行 {host}，或将 {host} 列入 no_proxy"),
    "error.proxy.not_reached": "代理 {proxy} 无法连接 {host}：请检查 URL，以及代理是否可以访问该地址",
    "error.proxy.no_answer": "代理 {proxy} 未能及时得到 {host} 的应答：请稍后重试",
    "error.proxy.status": "代理 {proxy} 的应答状态为 {status}：请检查它是否支持此类 URL",
    "error.proxy.name": "无法解析代理 {proxy} 的名称：请检查其地址",
    "error.proxy.connect": "无法连接代理 {proxy}：请检查其地址，以及它是否在运行",
    "error.proxy.broke": "代理 {proxy} 中断了连接：请检查它的协议是否正确",
    "error.socks.failed": "代理 {proxy} 出错：请查看它的日志",
    "error.socks.forbidden": "代理 {proxy} 不允许访问该服务器：请让代理管理员放行 {host}",
    "error.socks.no_route": "代理 {proxy} 没有到 {host} 的路由：请检查 URL 和代理的网络",
    "error.socks.not_reached": "代理 {proxy} 无法连接 {host}：请检查 URL 和代理的 DNS",
    "error.socks.refused": "代理 {proxy} 被 {host} 拒绝：请检查 URL 的端口，或稍后重试",
    "error.socks.credentials": "代理 {proxy} 不接受凭据：请按 socks5://用户名:密码@主机:端口 的格式填写",
    "error.socks.none": "代理 {proxy} 的应答不是 SOCKS5：请检查其地址和协议",
    # --- TLS ---
    "error.tls.not_yet": "{host} 的证书尚未生效：请校准本机时钟",
    "error.tls.expired": "{host} 的证书已过期：请校准本机时钟，或让运维人员更新证书",
    "error.tls.self_signed": "{host} 的证书是自签名的：{advice}",
    "error.tls.untrusted": "{host} 的证书的根证书不受本机信任：{advice}",
    "error.tls.unknown_issuer": "{host} 的证书的签发者未知：{advice}，或安装系统的根证书",
    "error.tls.incomplete": "{host} 的证书无法验证到根证书，服务器发送的证书链可能不完整：{advice}",
    "error.tls.other_name": "{host} 的证书属于另一个名称：请在 URL 中使用证书上的名称",
    "error.tls.other_address": "{host} 的证书属于另一个地址：请在 URL 中使用证书上的名称",
    "error.tls.not_accepted": "{host} 的证书未被接受（{why}）：请让运维人员更新证书",
    "error.tls.trust": "如果贵组织自行签发证书，请在 ca_file（SEATKEEPER_CA_FILE）中填写根证书文件",
    "error.tls.certificate": (
        "请将 client_cert 和 client_key（SEATKEEPER_CLIENT_CERT、SEATKEEPER_CLIENT_KEY）设置为它所接受的证书"
    ),
    "error.tls.asks": "{host} 要求客户端证书：{advice}",
    "error.tls.client_issuer": "{host} 不认识客户端证书的签发者：{advice}",
    "error.tls.client_bad": "{host} 不接受客户端证书：{advice}",
    "error.tls.client_expired": "{host} 认为客户端证书已过期：{advice}",
    "error.tls.client_revoked": "{host} 认为客户端证书已被吊销：{advice}",
    "error.tls.refuses": "{host} 拒绝握手；如果它要求客户端证书，{advice}",
    "error.tls.version": "{host} 不支持 TLS 1.2 或更高版本：请让运维人员启用",
    "error.tls.none": "{host} 在此端口上不使用 TLS：请检查 URL 的协议和端口",
    "error.tls.broke": "{host} 中断了 TLS 握手（{why}）：请稍后重试",
    "error.tls.hung_up": "{host} 在 TLS 握手中断开：请检查中间设备；如果它要求证书，请检查 client_cert",
    # --- Answers ---
    "error.answer.not_http": "{host} 的应答不是 HTTP：请检查 URL",
    "error.answer.compressed": "应答被压缩，而并未要求压缩：请检查中间设备",
    "error.answer.too_long": "应答过长，不是许可证服务器的应答：请检查 URL",
    "error.answer.not_own": "应答不是由许可证服务器本身发出的：请检查 URL 和中间设备",
    "error.answer.status": "状态 {status} 不是许可证服务器的应答：请检查 URL 和中间设备",
    "error.answer.unreadable": "应答不是许可证服务器的应答：请检查 URL 和中间设备",
    "error.answer.other_seat": "该租约属于另一台设备，或属于本机的另一次激活",
    "error.unreachable": "无法连接许可证服务器：{why}",
    "error.unreachable.busy": "许可证服务器暂时无法应答：{why}",
    # --- Entitlements ---
    "error.entitlement.not_in_force": "许可证未生效：{why}",
    "error.entitlement.missing": "许可证不包含 {feature}：请向供应商购买。",
    "error.entitlement.not_open": "这里没有打开的许可证：请先打开 seatkeeper.Client。",
}
