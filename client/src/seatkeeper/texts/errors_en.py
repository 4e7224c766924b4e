"""What the SDK's errors say, in English: of the settings, of the way to the server, of what came back."""

TEXTS = {
    # --- Settings ---
    "error.setting.key_and_token": "Give license_key or token, not both.",
    "error.setting.no_credential": "Give license_key or token, or install a license file.",
    "error.setting.no_product": "product is empty: write the code of the product, as the vendor gave it.",
    "error.setting.url": "url is not the address of a server: write https://name, without user, ? and #",
    "error.setting.clear": (
        "url is http:// to another machine, so that license keys would travel in clear: write https://,"
        " or set {variable}=1 for tests"
    ),
    "error.setting.clear_by_proxy": (
        "url is http:// to another machine by way of a proxy, so that license keys would travel in clear:"
        " write https://, or set {variable}=1 for tests"
    ),
    "error.setting.proxy": (
        "{setting} is not the address of a proxy: write http://host:port or socks5://host:port, and percent-encode"
        " special characters of a user name and password"
    ),
    "error.setting.proxy_scheme": "{setting} has an unknown scheme: write http://, https:// or socks5://",
    "error.setting.proxy_credentials": (
        "{setting} has a user name or password that SOCKS5 cannot carry: up to 255 of ASCII"
    ),
    "error.setting.fingerprint": "{variable} is no fingerprint: write 1 to {longest} printable characters",
    "error.setting.unreadable": "{setting} cannot be read ({why}): {path}",
    "error.setting.no_certificates": "{setting} holds no certificates in PEM: {path}",
    "error.setting.client_key_alone": "client_key is set without client_cert: set both, or none",
    "error.setting.client_key_encrypted": (
        "client_key is encrypted: write it without a password, readable by its owner only (0600)"
    ),
    "error.setting.client_mismatch": (
        "client_cert and client_key cannot be used together: the key is not of this certificate"
    ),
    "error.setting.client_not_pem": "client_cert and client_key cannot be used together: one is not PEM",
    # --- Names, connections, time ---
    "error.dns": "the name {host} does not resolve: check the URL and this machine's DNS",
    "error.connect": "{host} cannot be connected to ({why}): check the URL, the network and its firewall",
    "error.timeout.answer": "{host} did not answer within {seconds:g} s: try again later",
    "error.timeout.connection": ("no connection to {host} within {seconds:g} s: check the network and its firewall"),
    "error.timeout.proxy": "no connection to {host} within {seconds:g} s: check the proxy {proxy}",
    "error.reset": "the connection to {host} broke before the whole answer was there: try again later",
    "error.reset.encrypted": (
        "the connection to {host} broke before the whole answer was there: try again later,"
        " and check client_cert if the server asks for a certificate"
    ),
    # --- What the system says ---
    "error.system.no_connection": "no connection",
    "error.system.refused": "connection refused",
    "error.system.no_network": "network is unreachable",
    "error.system.no_route": "no route to host",
    "error.system.no_file": "no such file or folder",
    "error.system.no_permission": "permission denied",
    "error.system.is_folder": "it is a folder",
    "error.system.no_folder": "a part of the path is no folder",
    "error.system.full": "no space left on the disk",
    "error.system.read_only": "the file system is read-only",
    # --- Proxies ---
    "error.proxy.credentials": (
        "the proxy {proxy} asks for other credentials: write them into the proxy's address,"
        " as http://user:password@host:port"
    ),
    "error.proxy.forbidden": (
        "the proxy {proxy} does not allow this server: have its administrator allow {host}, or list {host} in no_proxy"
    ),
    "error.proxy.not_reached": (
        "the proxy {proxy} could not reach {host}: check the URL, and whether the proxy may go there"
    ),
    "error.proxy.no_answer": "the proxy {proxy} had no answer of {host} in time: try again later",
    "error.proxy.status": (
        "the proxy {proxy} answered with status {status}: check that it is a proxy for this kind of URL"
    ),
    "error.proxy.name": "the name of the proxy {proxy} does not resolve: check its address",
    "error.proxy.connect": "the proxy {proxy} cannot be connected to: check its address, and that it runs",
    "error.proxy.broke": "the proxy {proxy} broke the connection off: check that it is one of this scheme",
    "error.socks.failed": "the proxy {proxy} failed: check its log",
    "error.socks.forbidden": ("the proxy {proxy} does not allow this server: have its administrator allow {host}"),
    "error.socks.no_route": "the proxy {proxy} has no route to {host}: check the URL, and the proxy's network",
    "error.socks.not_reached": "the proxy {proxy} could not reach {host}: check the URL, and the proxy's DNS",
    "error.socks.refused": ("the proxy {proxy} was refused by {host}: check the port of the URL, or try again later"),
    "error.socks.credentials": (
        "the proxy {proxy} does not accept the credentials: write them as socks5://user:password@host:port"
    ),
    "error.socks.none": "the proxy {proxy} does not answer as one of SOCKS5: check its address and scheme",
    # --- TLS ---
    "error.tls.not_yet": "the certificate of {host} is not valid yet: set this machine's clock right",
    "error.tls.expired": (
        "the certificate of {host} has expired: set this machine's clock right, or have the operator renew it"
    ),
    "error.tls.self_signed": "the certificate of {host} is self-signed: {advice}",
    "error.tls.untrusted": "the certificate of {host} ends in a root that is not trusted here: {advice}",
    "error.tls.unknown_issuer": (
        "the certificate of {host} is by an unknown issuer: {advice}, or install the system's root certificates"
    ),
    "error.tls.incomplete": (
        "the certificate of {host} cannot be checked up to a root, the server may send an incomplete chain: {advice}"
    ),
    "error.tls.other_name": (
        "the certificate of {host} is for another name: use the name that it was made for in the URL"
    ),
    "error.tls.other_address": (
        "the certificate of {host} is for another address: use the name that it was made for in the URL"
    ),
    "error.tls.not_accepted": "the certificate of {host} is not accepted ({why}): have the operator renew it",
    "error.tls.trust": (
        "name the file of its root in ca_file (SEATKEEPER_CA_FILE) if your organisation signs certificates itself"
    ),
    "error.tls.certificate": (
        "set client_cert and client_key (SEATKEEPER_CLIENT_CERT, SEATKEEPER_CLIENT_KEY) to one it accepts"
    ),
    "error.tls.asks": "{host} asks for a client certificate: {advice}",
    "error.tls.client_issuer": "{host} does not know the issuer of the client certificate: {advice}",
    "error.tls.client_bad": "{host} does not accept the client certificate: {advice}",
    "error.tls.client_expired": "{host} takes the client certificate as expired: {advice}",
    "error.tls.client_revoked": "{host} takes the client certificate as revoked: {advice}",
    "error.tls.refuses": "{host} refuses the handshake; if it asks for a client certificate, {advice}",
    "error.tls.version": "{host} speaks no TLS 1.2 or newer: have the operator switch it on",
    "error.tls.none": "{host} does not speak TLS on this port: check scheme and port of the URL",
    "error.tls.broke": "{host} broke the TLS handshake off ({why}): try again later",
    "error.tls.hung_up": (
        "{host} hung up in the TLS handshake: check what stands between, and client_cert if it asks for one"
    ),
    # --- Answers ---
    "error.answer.not_http": "what {host} answered is not HTTP: check the URL",
    "error.answer.compressed": "the answer is compressed, which was not asked for: check what stands between",
    "error.answer.too_long": "the answer is longer than any of this server: check the URL",
    "error.answer.not_own": ("the answer is not the license server's own: check the URL, and what stands between"),
    "error.answer.status": (
        "status {status} is not the license server's answer: check the URL, and what stands between"
    ),
    "error.answer.unreadable": (
        "the answer is not one of the license server's: check the URL, and what stands between"
    ),
    "error.answer.other_seat": "the lease is for another device, or for another activation of this one",
    "error.unreachable": "The license server is out of reach: {why}",
    "error.unreachable.busy": "The license server cannot answer now: {why}",
    # --- Entitlements ---
    "error.entitlement.not_in_force": "The license is not in force: {why}",
    "error.entitlement.missing": "The license does not cover {feature}: ask the vendor for it.",
    "error.entitlement.not_open": "No license is open here: open a seatkeeper.Client first.",
}
