"""The words of `seatkeeper bundle`, in Chinese."""

TEXTS = {
    "bundle.option.log": "应用程序的日志文件，取其最后 100 行。可以重复。",
    "bundle.option.output": "写到哪里：文件，或已有的文件夹。默认为当前文件夹。",
    "bundle.option.yes": "写到别的文件夹时不询问。",
    "bundle.progress": "正在收集……",
    "bundle.ask": "写入 {path}？",
    "bundle.exists": "{path} 已经存在。请用 --output 指定别的文件。",
    "bundle.written": "已写入 {path}（{size} 字节）。没有发送到任何地方：请先查看，再自行发送。",
    "bundle.column.file": "文件",
    "bundle.column.bytes": "字节",
    "bundle.column.redacted": "已隐去",
}
