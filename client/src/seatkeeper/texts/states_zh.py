"""The states of the SDK, in Chinese."""

TEXTS = {
    "state.PENDING": "等待中",
    "state.ACTIVE": "已激活",
    "state.LIMITED": "受限",
    "reason.ACTIVE": "许可证有效。",
    "reason.STARTING": "正在激活许可证，请稍候。",
    "reason.WAITING_FOR_APPROVAL": "供应商须先批准此设备。请联系供应商或等待，批准后会自动继续。",
    "reason.UNREACHABLE": "无法连接许可证服务器。可继续使用至 {until}，请在此之前检查网络。",
    "reason.CLOCK_SET_BACK": "本机时钟被调回。请校正时钟；可继续使用至 {until}。",
    "reason.CLOCK_FROZEN": "本机时钟停止不动。请校正时钟；可继续使用至 {until}。",
    "reason.OFFLINE_FILE": "已安装许可证文件：{until} 之前无需网络。",
    "reason.LEASE_ENDED": "无法连接许可证服务器的时间过长。请连接网络后继续。",
    "reason.NOT_ACTIVATED": "此设备尚未激活。",
    "reason.RELEASED": "此设备已归还席位。请重新激活后继续。",
    "reason.REFUSED": "许可证服务器拒绝此设备（{code}）。请联系供应商。",
}
