"""The faults of license keys, leases, license files and of working offline in Chinese, by their English.

Every fault has its text here (a test holds it).
"""

from collections.abc import Mapping
from typing import Final

from seatkeeper.lease import LeaseFault
from seatkeeper.license_file import FileFault
from seatkeeper.license_key import KeyFault
from seatkeeper.offline_faults import OfflineFault
from seatkeeper.public_keys import NO_ROOT_KEY
from seatkeeper.qr import TOO_LONG

CHINESE: Final[Mapping[str, str]] = {
    KeyFault.EMPTY: "许可证密钥为空",
    KeyFault.TOO_SHORT: "许可证密钥太短",
    KeyFault.TOO_LONG: "许可证密钥太长",
    KeyFault.BAD_CHARACTER: "许可证密钥含有无法显示的字符",
    KeyFault.CHECK_MISMATCH: "许可证密钥输入有误：校验字符不匹配",
    LeaseFault.UNTRUSTED: "租约被篡改，或者不是由本应用的供应商签发的：请检查 root_key 和 url",
    LeaseFault.OTHER_PRODUCT: "该租约属于另一个产品",
    LeaseFault.OTHER_DEVICE: "该租约属于另一台设备",
    FileFault.MALFORMED: "这不是许可证文件，或者文件已损坏：请重新获取",
    FileFault.UNTRUSTED: "许可证文件被篡改，或者不是由本应用的供应商签发的",
    FileFault.OTHER_PRODUCT: "该许可证文件属于另一个产品",
    FileFault.OTHER_DEVICE: "该许可证文件属于另一台设备：请在本机上生成请求",
    FileFault.NOT_YET: "许可证文件的签发时间晚于本机时间：请校准本机时钟",
    FileFault.EXPIRED: "许可证文件已过期：请生成新的请求；如果本机时钟偏快，请校准时钟",
    OfflineFault.KEY_DAMAGED: (
        "本机的离线密钥已损坏，已改名保存在原处：已安装的许可证文件可以继续使用，但到期前无法归还；"
        "如果没有安装许可证文件，请生成新的请求，届时会生成新的密钥"
    ),
    OfflineFault.KEY_GONE: (
        "本机的离线密钥已丢失，而用它申请的许可证文件仍然有效：该文件可以使用到期满，但之前无法归还；"
        "如需提前释放席位，请联系供应商"
    ),
    OfflineFault.GIVEN_BACK: "该许可证文件已归还：请生成新的请求",
    OfflineFault.OLDER: "已安装了更新的许可证文件",
    OfflineFault.OTHER_LICENSE: "本机安装着另一个许可证的文件：请先归还那个文件",
    OfflineFault.NOTHING_INSTALLED: "本机没有安装许可证文件：没有可归还的内容",
    OfflineFault.DAYS: "许可证文件的期限至少为一天：请申请更多天数",
    TOO_LONG: "该文件太长，无法生成二维码。请直接传递文件本身。",
    NO_ROOT_KEY: (
        "根密钥无效。请填写创建账户时向供应商显示的 43 个字符或 JWK（用 account root-key 可再次显示），"
        "或者填写保存它的文件的路径。"
    ),
}
