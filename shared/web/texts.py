"""What a problem document says to a reader, one table per language.

Rules: every table has an entry for every `Code` and every `Fault` (a test holds this). A detail tells the reader what
to do next, in one or two sentences, and never repeats a value that the client sent. In a fault, `{field}` is the path
of a field that our own schema declares.
"""

from enum import StrEnum

from shared.licensing.codes import Code


class Fault(StrEnum):
    """What exactly is wrong with a request, where the text of its code alone would not tell."""

    EMPTY = "EMPTY"
    MALFORMED = "MALFORMED"
    NOT_UTF8 = "NOT_UTF8"
    TOO_DEEP = "TOO_DEEP"
    NOT_AN_OBJECT = "NOT_AN_OBJECT"
    ENCODED = "ENCODED"
    INCOMPLETE = "INCOMPLETE"
    FIELD_MISSING = "FIELD_MISSING"
    FIELD_TYPE = "FIELD_TYPE"
    FIELD_VALUE = "FIELD_VALUE"
    FIELD_UNKNOWN = "FIELD_UNKNOWN"
    FIELD_REPEATED = "FIELD_REPEATED"
    NOT_HTTP = "NOT_HTTP"
    THROTTLED_ADDRESS = "THROTTLED_ADDRESS"
    THROTTLED_LICENSE = "THROTTLED_LICENSE"
    KEY_OR_TOKEN = "KEY_OR_TOKEN"  # noqa: S105 - no password
    KEY_MISTYPED = "KEY_MISTYPED"
    KEY_NOT_SENT = "KEY_NOT_SENT"
    BEARER_NOT_SENT = "BEARER_NOT_SENT"
    QUERY = "QUERY"
    OFFLINE_DOCUMENT = "OFFLINE_DOCUMENT"
    OFFLINE_SIGNATURE = "OFFLINE_SIGNATURE"
    OFFLINE_OTHER_PRODUCT = "OFFLINE_OTHER_PRODUCT"
    OFFLINE_REQUEST_OLD = "OFFLINE_REQUEST_OLD"
    OFFLINE_REQUEST_USED = "OFFLINE_REQUEST_USED"
    OFFLINE_OTHER_KEY = "OFFLINE_OTHER_KEY"
    AWAITS_APPROVAL = "AWAITS_APPROVAL"


CODES_EN: dict[Code, tuple[str, str]] = {
    Code.LICENSE_KEY_INVALID: (
        "License key not recognised",
        "Check the license key for typing errors and enter it again. If it is right, ask the vendor for help.",
    ),
    Code.TOKEN_INVALID: ("Token not recognised", "Activate again with the license key or a new activation token."),
    Code.TOKEN_EXPIRED: (
        "Token expired",
        "Ask the vendor for a new activation token, or activate with the license key.",
    ),
    Code.TOKEN_EXHAUSTED: (
        "Token used up",
        "Every use of this activation token is taken. Ask the vendor for a new one, or activate with the license key.",
    ),
    Code.TOKEN_REVOKED: (
        "Token revoked",
        "The vendor withdrew this token. Ask the vendor for a new one, or activate with the license key.",
    ),
    Code.REQUEST_INVALID: ("Request not valid", "Correct the request and send it again."),
    Code.REQUEST_TOO_LARGE: ("Request too large", "Send a smaller body: at most {limit} bytes are accepted."),
    Code.NOT_FOUND: ("Nothing here", "Check the path of the request."),
    Code.METHOD_NOT_ALLOWED: ("Method not allowed", "Use one of the methods listed in the Allow header."),
    Code.TIMESTAMP_SKEWED: (
        "Timestamp too far from the server's time",
        "Set the device's clock right, or send the request again with the time given in serverTime.",
    ),
    Code.REPLAYED: ("Request already used", "Send a new request with a fresh nonce and timestamp."),
    Code.LICENSE_SUSPENDED: ("License suspended", "Ask the vendor to reinstate the license, then try again."),
    Code.LICENSE_EXPIRED: ("License expired", "Renew the license with the vendor, then try again."),
    Code.LICENSE_REVOKED: ("License revoked", "This license cannot be used any more. Ask the vendor for a new one."),
    Code.VERSION_NOT_SUPPORTED: (
        "Application version not covered",
        "Install a version of the application that this license covers, or ask the vendor. Requests tell `version`.",
    ),
    Code.ENTITLEMENT_MISSING: (
        "Feature not covered",
        "This license does not cover a feature that was asked for. Ask the vendor for one that does.",
    ),
    Code.TOO_MANY_REQUESTS: (
        "Too many requests",
        "This license takes no more new devices for now. Try again after the time given in Retry-After.",
    ),
    Code.RELEASE_LIMIT_EXCEEDED: (
        "Too many devices were released",
        "This license frees no more devices before the time given in `until`. Ask the vendor to free this one.",
    ),
    Code.DEVICE_LIMIT_EXCEEDED: (
        "Every seat is taken",
        "Free a device of this license, or ask the vendor for more seats, then activate again.",
    ),
    Code.DEVICE_NOT_ALLOWED: (
        "Device not allowed",
        "The license does not allow this device. Use a device that it covers, or ask the vendor.",
    ),
    Code.DEVICE_BLOCKED: ("Device blocked", "The vendor blocked this device. Ask the vendor to unblock it."),
    Code.DEVICE_NOT_FOUND: ("Device not found", "Check the device id and that it belongs to this license."),
    Code.LEASE_LOST: ("Seat lost", "This device no longer holds a seat. Activate it again."),
    Code.CLONE_SUSPECTED: (
        "Another machine uses this activation",
        "This activation was used elsewhere since. Activate this device anew, each machine by itself.",
    ),
    Code.OFFLINE_HELD: (
        "Held by an offline license file",
        "Give the offline license file back first, wait until the time given in `until`, or ask the vendor.",
    ),
    Code.OFFLINE_NOT_ALLOWED: (
        "Offline file not allowed",
        "This license allows no offline license file of that length. Ask for a shorter one, or ask the vendor.",
    ),
    Code.OVERLOADED: ("Server busy", "Try again after the time given in Retry-After."),
    Code.OUTCOME_UNKNOWN: (
        "Outcome unknown",
        "The change may or may not have been made. Repeat the same request: a repeat never takes a second seat.",
    ),
    Code.INTERNAL: ("Internal error", "Try again. If it keeps failing, report the id of this answer to the operator."),
}

CODES_ZH: dict[Code, tuple[str, str]] = {
    Code.LICENSE_KEY_INVALID: (
        "无法识别许可证密钥",
        "请检查许可证密钥是否输入有误后重试。如确认无误，请联系软件供应商。",
    ),
    Code.TOKEN_INVALID: ("无法识别令牌", "请使用许可证密钥或新的激活令牌重新激活。"),
    Code.TOKEN_EXPIRED: ("令牌已过期", "请向软件供应商索取新的激活令牌，或使用许可证密钥激活。"),
    Code.TOKEN_EXHAUSTED: (
        "令牌次数已用完",
        "此激活令牌的可用次数已用完。请向软件供应商索取新的令牌，或使用许可证密钥激活。",
    ),
    Code.TOKEN_REVOKED: ("令牌已撤销", "软件供应商已撤销此令牌。请索取新的令牌，或使用许可证密钥激活。"),
    Code.REQUEST_INVALID: ("请求无效", "请更正请求内容后重新发送。"),
    Code.REQUEST_TOO_LARGE: ("请求过大", "请减小请求正文：最多接受 {limit} 字节。"),
    Code.NOT_FOUND: ("资源不存在", "请检查请求路径。"),
    Code.METHOD_NOT_ALLOWED: ("不支持该请求方法", "请使用 Allow 响应头中列出的方法。"),
    Code.TIMESTAMP_SKEWED: ("时间戳与服务器时间相差过大", "请校准设备时钟，或使用 serverTime 给出的时间重新发送请求。"),
    Code.REPLAYED: ("请求已被使用", "请使用新的随机数和时间戳发送新的请求。"),
    Code.LICENSE_SUSPENDED: ("许可证已暂停", "请联系软件供应商恢复许可证后重试。"),
    Code.LICENSE_EXPIRED: ("许可证已过期", "请向软件供应商续订许可证后重试。"),
    Code.LICENSE_REVOKED: ("许可证已吊销", "此许可证不能再使用。请向软件供应商获取新的许可证。"),
    Code.VERSION_NOT_SUPPORTED: (
        "许可证不包含此应用版本",
        "请安装许可证所包含的应用版本，或联系软件供应商。请求中请提供 `version`。",
    ),
    Code.ENTITLEMENT_MISSING: (
        "许可证不包含此功能",
        "此许可证不包含所请求的功能。请向软件供应商获取包含该功能的许可证。",
    ),
    Code.TOO_MANY_REQUESTS: ("请求过多", "此许可证暂时不再接受新设备。请在 Retry-After 给出的时间之后重试。"),
    Code.RELEASE_LIMIT_EXCEEDED: (
        "释放设备次数过多",
        "在 `until` 给出的时间之前，此许可证不能再释放设备。请联系软件供应商释放此设备。",
    ),
    Code.DEVICE_LIMIT_EXCEEDED: ("席位已用完", "请先释放此许可证下的一台设备，或向软件供应商增购席位，然后重新激活。"),
    Code.DEVICE_NOT_ALLOWED: ("不允许使用此设备", "许可证不允许此设备。请使用许可范围内的设备，或联系软件供应商。"),
    Code.DEVICE_BLOCKED: ("设备已被禁用", "软件供应商已禁用此设备。请联系软件供应商解除禁用。"),
    Code.DEVICE_NOT_FOUND: ("找不到设备", "请检查设备编号，并确认它属于此许可证。"),
    Code.LEASE_LOST: ("席位已失效", "此设备不再占有席位。请重新激活。"),
    Code.CLONE_SUSPECTED: ("另一台机器正在使用此激活", "此激活之后曾在别处使用。请在每台机器上分别重新激活。"),
    Code.OFFLINE_HELD: (
        "席位由离线许可证文件占用",
        "请先归还离线许可证文件，或等到 `until` 给出的时间，或联系软件供应商。",
    ),
    Code.OFFLINE_NOT_ALLOWED: (
        "不允许离线许可证文件",
        "此许可证不允许该时长的离线许可证文件。请缩短时长，或联系软件供应商。",
    ),
    Code.OVERLOADED: ("服务器繁忙", "请在 Retry-After 给出的时间之后重试。"),
    Code.OUTCOME_UNKNOWN: ("结果未知", "更改可能已完成，也可能未完成。请重复同一请求：重复请求不会多占席位。"),
    Code.INTERNAL: ("内部错误", "请重试。如果持续失败，请将此响应中的 id 告知运维人员。"),
}

FAULTS_EN: dict[Fault, str] = {
    Fault.EMPTY: "The body is empty. Send a JSON object.",
    Fault.MALFORMED: "The body is not well-formed JSON. Send one JSON object and nothing after it.",
    Fault.NOT_UTF8: "The body is not valid UTF-8. Send JSON encoded as UTF-8.",
    Fault.TOO_DEEP: "The body is nested too deeply. Send a flatter JSON object.",
    Fault.NOT_AN_OBJECT: "The body is not a JSON object. Send an object, not an array or a single value.",
    Fault.ENCODED: "The body carries a Content-Encoding. Send it uncompressed.",
    Fault.INCOMPLETE: "The body did not arrive whole or in time. Send the request again.",
    Fault.FIELD_MISSING: "The field `{field}` is missing. Add it and send the request again.",
    Fault.FIELD_TYPE: "The field `{field}` has the wrong type. Correct it and send the request again.",
    Fault.FIELD_VALUE: "The value of the field `{field}` is not accepted. Correct it and send the request again.",
    Fault.FIELD_UNKNOWN: "The body has a field that is not known. Remove it and send the request again.",
    Fault.FIELD_REPEATED: "The body has a field twice. Send each once.",
    Fault.NOT_HTTP: "This is not well-formed HTTP, or its head is too large. Correct it and connect again.",
    Fault.THROTTLED_ADDRESS: (
        "Too many keys or tokens from this address were not recognised. Try again after the time given in Retry-After."
    ),
    Fault.THROTTLED_LICENSE: (
        "Too many requests came for this license or its vendor. Try again after the time given in Retry-After."
    ),
    Fault.KEY_OR_TOKEN: "Send either `licenseKey` or `token`, not both.",
    Fault.KEY_MISTYPED: "This is not a well-formed license key: some of it is mistyped or missing. Enter it again.",
    Fault.KEY_NOT_SENT: "Send the license key in the header `Authorization: License KEY`.",
    Fault.BEARER_NOT_SENT: "Send the device token as `deviceToken`, or in the header `Authorization: Bearer TOKEN`.",
    Fault.QUERY: "A query parameter is not accepted: `state` a device's state, `after` a device id, `limit` 1 to 500.",
    Fault.OFFLINE_DOCUMENT: "`{field}` is not what the application wrote, or it was damaged. Choose that file again.",
    Fault.OFFLINE_SIGNATURE: "`{field}` was altered, or another device signed it. Choose this device's file again.",
    Fault.OFFLINE_OTHER_PRODUCT: "The request is for another product than the license key. Use that product's key.",
    Fault.OFFLINE_REQUEST_OLD: (
        "The request is more than a year old. Set the device's clock if it is wrong, then make a new request there."
    ),
    Fault.OFFLINE_REQUEST_USED: "This request was answered before, and its seat has ended since. Make a new request.",
    Fault.OFFLINE_OTHER_KEY: (
        "The device has shown another key before. Give its offline license file back, or wait until the time given in "
        "`until`, then deactivate the device; or ask the vendor to free it."
    ),
    Fault.AWAITS_APPROVAL: "The vendor has to approve this device first. Send the same request again afterwards.",
}

FAULTS_ZH: dict[Fault, str] = {
    Fault.EMPTY: "请求正文为空。请发送一个 JSON 对象。",
    Fault.MALFORMED: "请求正文不是格式正确的 JSON。请只发送一个 JSON 对象，其后不要有其他内容。",
    Fault.NOT_UTF8: "请求正文不是有效的 UTF-8。请发送 UTF-8 编码的 JSON。",
    Fault.TOO_DEEP: "请求正文嵌套过深。请发送层级较少的 JSON 对象。",
    Fault.NOT_AN_OBJECT: "请求正文不是 JSON 对象。请发送对象，而不是数组或单个值。",
    Fault.ENCODED: "请求正文带有 Content-Encoding。请不要压缩。",
    Fault.INCOMPLETE: "请求正文未完整或未及时到达。请重新发送请求。",
    Fault.FIELD_MISSING: "缺少字段 `{field}`。请补充后重新发送。",
    Fault.FIELD_TYPE: "字段 `{field}` 的类型不正确。请更正后重新发送。",
    Fault.FIELD_VALUE: "字段 `{field}` 的值不被接受。请更正后重新发送。",
    Fault.FIELD_UNKNOWN: "请求正文含有未知字段。请删除后重新发送。",
    Fault.FIELD_REPEATED: "请求正文中有字段出现了两次。每个字段请只发送一次。",
    Fault.NOT_HTTP: "这不是格式正确的 HTTP 请求，或请求头过大。请更正后重新连接。",
    Fault.THROTTLED_ADDRESS: "来自此地址的无法识别的密钥或令牌过多。请在 Retry-After 给出的时间之后重试。",
    Fault.THROTTLED_LICENSE: "此许可证或其供应商的请求过多。请在 Retry-After 给出的时间之后重试。",
    Fault.KEY_OR_TOKEN: "请只提供 `licenseKey` 或 `token` 之一，不要同时提供。",
    Fault.KEY_MISTYPED: "许可证密钥格式不正确：有字符输错或缺失。请重新输入。",
    Fault.KEY_NOT_SENT: "请在请求头 `Authorization: License 密钥` 中提供许可证密钥。",
    Fault.BEARER_NOT_SENT: "请以 `deviceToken` 字段或请求头 `Authorization: Bearer 令牌` 提供设备令牌。",
    Fault.QUERY: "查询参数无效：`state` 为设备状态，`after` 为设备编号，`limit` 为 1 到 500。",
    Fault.OFFLINE_DOCUMENT: "`{field}` 不是应用程序生成的文件，或者已损坏。请重新选择该文件。",
    Fault.OFFLINE_SIGNATURE: "`{field}` 已被改动，或由另一台设备签名。请重新选择此设备的文件。",
    Fault.OFFLINE_OTHER_PRODUCT: "此请求属于另一产品，与该许可证密钥不符。请使用该产品的许可证密钥。",
    Fault.OFFLINE_REQUEST_OLD: "此请求已超过一年。如设备时钟有误，请先校准，再在该设备上生成新的请求。",
    Fault.OFFLINE_REQUEST_USED: "此请求先前已得到答复，其席位此后已结束。请生成新的请求。",
    Fault.OFFLINE_OTHER_KEY: (
        "此设备先前出示过另一个密钥。请归还其离线许可证文件，或等到 `until` 给出的时间后停用此设备，"
        "或联系软件供应商释放席位。"
    ),
    Fault.AWAITS_APPROVAL: "须先由软件供应商批准此设备。批准后请再次发送同一请求。",
}

CODES = {"en": CODES_EN, "zh": CODES_ZH}
FAULTS = {"en": FAULTS_EN, "zh": FAULTS_ZH}
