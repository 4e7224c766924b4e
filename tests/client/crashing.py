"""A program that dies: once before each step of what it writes, each time as another device.

    python -m tests.client.crashing < OPTIONS.json

Each death is one of a process of its own. Prints how many there were, once a program lived to its end.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import seatkeeper

STEPS = ("fsync", "replace", "unlink")
DIED = 9


def _dying_before(step: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    left = step

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(DIED)
            return real(*args, **options)

        return call

    return dying


def _live(options: dict[str, Any], step: int) -> None:
    dying = _dying_before(step)
    for name in STEPS:
        setattr(os, name, dying(getattr(os, name)))
    with seatkeeper.SyncClient(**options) as license:
        license.heartbeat()
    with seatkeeper.SyncClient(**options, release_at_exit=True):
        pass
    os._exit(0)


def main(options: dict[str, Any]) -> None:
    died = 0
    while True:
        child = os.fork()
        if child == 0:
            name = f"device {died + 1}"
            _live(options | {"fingerprint": name, "directory": Path(options["directory"]) / name}, died + 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            print(died)
            return
        if code != DIED:
            raise SystemExit(f"the program ended with {code}")
        died += 1


if __name__ == "__main__":
    main(json.load(sys.stdin))
