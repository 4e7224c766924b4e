"""The findings as people read them, and as support desks do."""

import io
from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from seatkeeper.command.doctor.finding import Finding, Level, words
from seatkeeper.command.output import printable
from seatkeeper.texts import text

_SIGNS = {
    Level.OK: ("✓", "green"),
    Level.WARN: ("!", "yellow"),
    Level.FAIL: ("✗", "bold red"),
    Level.SKIP: ("-", "dim"),
}


def is_sound(findings: Sequence[Finding]) -> bool:
    return all(finding.level is not Level.FAIL for finding in findings)


def as_document(findings: Sequence[Finding], language: str) -> dict[str, object]:
    """`sound` is false when something is wrong. `code` tells findings apart in every language."""
    return {
        "sound": is_sound(findings),
        "counts": _counts(findings),
        "findings": [_as_members(finding, language) for finding in findings],
    }


def _as_members(finding: Finding, language: str) -> dict[str, object]:
    said = words(finding, language)
    return {
        "name": finding.name,
        "level": finding.level.value,
        "code": finding.code,
        "what": said.what,
        "nextStep": said.next_step or None,
        "command": finding.command,
        "data": dict(finding.data),
    }


def print_report(console: Console, findings: Sequence[Finding], language: str) -> None:
    """A line for each check, then what to do about each that is not in order. Commands stand on lines of their own,
    neither cut nor wrapped however narrow it is, so that they can be copied."""
    columns = (Column(), Column(), Column(overflow="fold"))
    table = Table(*columns, box=box.SIMPLE_HEAD, show_header=False, show_edge=False, pad_edge=False)
    steps: list[Text] = []
    for finding in findings:
        sign, style = _SIGNS[finding.level]
        said = words(finding, language)
        table.add_row(Text(sign, style), Text(said.title, style), Text(printable(said.what)))
        if finding.level in (Level.WARN, Level.FAIL):
            steps += _steps(finding, said.title, printable(said.next_step))
    if steps:
        steps.insert(0, Text(f"\n{text('doctor.next-step', language)}", "bold"))
    end = text("doctor.sum", language, **_counts(findings))
    console.print(table)
    console.print(*steps, Text(f"\n{end}", "bold"), sep="\n", soft_wrap=True)


def as_text(findings: Sequence[Finding], language: str) -> str:
    """The table without colours."""
    console = Console(width=160, color_system=None, file=io.StringIO())
    with console.capture() as printed:
        print_report(console, findings, language)
    return printed.get()


def _steps(finding: Finding, title: str, next_step: str) -> list[Text]:
    lines = [Text(f"  {title}: {next_step}")] if next_step else []
    if finding.command:
        lines.append(Text(f"    {printable(finding.command)}", "cyan"))
    return lines


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    counted = Counter(finding.level for finding in findings)
    return {level.value: counted[level] for level in Level}
