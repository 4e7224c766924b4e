"""The words of `seatkeeper bundle`, in English."""

TEXTS = {
    "bundle.option.log": "A log file of the application, of which the last 100 lines are taken. May be repeated.",
    "bundle.option.output": "Where to write it: a file, or a folder that is there. Else the current folder.",
    "bundle.option.yes": "Write it to another folder without asking.",
    "bundle.progress": "Collecting …",
    "bundle.ask": "Write this to {path}?",
    "bundle.exists": "{path} is there already. Name another file with --output.",
    "bundle.written": "Written to {path} ({size} bytes). It was sent nowhere: look into it, then send it yourself.",
    "bundle.column.file": "File",
    "bundle.column.bytes": "Bytes",
    "bundle.column.redacted": "Redacted",
}
