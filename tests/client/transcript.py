"""A transcript in a document, played: its commands are run, and what they print is what stands there.

Rules of a transcript, which is the ```` ```console ```` blocks between two marks:
- `$ command` is typed into the first terminal, a shell; `server$ command` starts a program in a second one, and
  `server$ ^C` ends it there. A command whose line ends with a backslash goes on in the next, after `> `.
- All other lines are what the first terminal prints. `…` stands for some text of one line, and for any lines where it
  stands alone. Spaces count as one, for columns are as wide as what they hold; nothing else may differ.
- A value of the document that is another machine's, such as a key, is replaced by the player's own.
"""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"^(server)?\$ (.*)$")
_END = "the-command-has-ended"


@dataclass(kw_only=True)
class Step:
    command: str
    in_server: bool
    prints: list[str] = field(default_factory=list)

    def with_values(self, values: Mapping[str, str]) -> "Step":
        """With our own values in the place of those that the document shows."""
        return replace(self, command=_put(self.command, values), prints=[_put(line, values) for line in self.prints])


def steps(document: str, mark: str) -> list[Step]:
    """What stands between `<!-- mark -->` and `<!-- /mark -->`."""
    part = document.partition(f"<!-- {mark} -->")[2].partition(f"<!-- /{mark} -->")[0]
    found: list[Step] = []
    for line in (line for block in _BLOCK.findall(part) for line in block.splitlines()):
        if prompt := _PROMPT.match(line):
            found.append(Step(command=prompt[2], in_server=bool(prompt[1])))
        elif found[-1].command.endswith("\\"):
            found[-1].command += "\n" + line.removeprefix("> ")
        else:
            found[-1].prints.append(line)
    return found


def _put(text: str, values: Mapping[str, str]) -> str:
    for shown, ours in values.items():
        text = text.replace(shown, ours)
    return text


def agrees(printed: list[str], expected: list[str]) -> bool:
    """Whether the lines are those of the transcript."""
    pattern = "".join(_lines_pattern(_spaced(line)) for line in expected)
    return re.fullmatch(pattern, "".join(_spaced(line) + "\n" for line in printed)) is not None


def _spaced(line: str) -> str:
    return " ".join(line.split())


def _lines_pattern(line: str) -> str:
    if line == "…":
        return r"(?:.*\n)*?"
    return ".*?".join(re.escape(part) for part in line.split("…")) + r"\n"


class Terminal:
    """A shell, into which one command after the other is typed."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str, *, within_s: float) -> list[str]:
        """The lines it printed."""
        assert self._shell.stdin
        assert self._shell.stdout
        watch = threading.Timer(within_s, self.close)
        watch.start()
        try:
            self._shell.stdin.write(f"{{ {command}\n}} </dev/null\necho; echo {_END}\n")
            self._shell.stdin.flush()
            lines = []
            for line in self._shell.stdout:
                if line.rstrip("\n") == _END:
                    break
                lines.append(line.rstrip("\n"))
            else:
                raise AssertionError(f"{command}\n…did not end within {within_s} s:\n" + "\n".join(lines))
        finally:
            watch.cancel()
        return lines[:-1] if lines and not lines[-1] else lines

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
