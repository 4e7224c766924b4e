"""`make bench`: all that is measured, as one table, `build/bench.json` and a page with plots, `build/bench.html`.

Parts run one after another, each with rounds of its own in which what is compared takes turns. Ends with 0 when all
was measured, with 1 when something could not be, and with `--gates` with 2 when a gate is missed.
"""

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.standalone.embedded import EmbeddedServerError
from shared.runtime import logging
from shared.runtime.sections import Log
from tests import servers
from tests.bench.load import LoadError
from tests.bench.options import Options
from tests.bench.page import HEADINGS, cells, draw, fill, in_order, markdown
from tests.bench.results import Result, machine, write
from tests.bench.world import versions

SECONDS, FULL_SECONDS = 4.0, 10.0
PARTS = ("paths", "activation", "scale", "lag", "overload")
FAILURES = (LoadError, EmbeddedServerError, servers.ServersMissingError, TimeoutError, OSError)
"""What says in a line what was missing, or went wrong."""


def main() -> int:
    options = _options()
    logging.configure(Log(level="error"))
    began = time.monotonic()
    seconds = options.seconds or (FULL_SECONDS if options.full else SECONDS)
    measured, failed = [], False
    for part in options.only or PARTS:
        try:
            servers.require("wrk", package="wrk")
            module = importlib.import_module(f"tests.bench.{part}")
            measured += module.measure(
                Options(rounds=options.rounds, seconds=seconds, full=options.full),
                lambda what, part=part: _tell(f"{part}: {what}"),
            )
        except FAILURES as error:
            print(f"seatkeeper: {part}: {error}", file=sys.stderr)
            failed = True
        except Exception:
            print(f"seatkeeper: {part} failed:", file=sys.stderr)
            traceback.print_exc()
            failed = True
    _tell("")
    _show(measured)
    about = machine(**versions(), minutes=round((time.monotonic() - began) / 60, 1))
    write("bench", about, measured)
    draw(about, measured, options.images)
    for document in options.markdown:
        fill(document, markdown(about, measured))
    return exit_code(measured, failed=failed, gates=options.gates)


def exit_code(results: Sequence[Result], *, failed: bool, gates: bool) -> int:
    """What was not measured weighs more than what was missed."""
    if failed:
        return 1
    return 2 if gates and any(one.met is False for one in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone; may be repeated")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of one run within a round: 4, with --full 10")
    parser.add_argument("--full", action="store_true", help="what takes an hour, ten million devices among it")
    parser.add_argument("--gates", action="store_true", help="end with 2 when a gate is missed")
    parser.add_argument("--images", type=Path, help="a folder that takes the plots that the README shows")
    parser.add_argument("--markdown", type=Path, action="append", default=[], help="a document that shows the table")
    return parser.parse_args()


def _tell(what: str) -> None:
    """Progress for whoever looks on."""
    if sys.stderr.isatty():
        print(f"\r{what:<79.79}", end="\r" if not what else "", file=sys.stderr, flush=True)


def _show(results: Sequence[Result]) -> None:
    table = Table(*HEADINGS)
    for some in in_order(results):
        for one in some:
            table.add_row(*cells(one))
        table.add_section()
    Console(width=170).print(table)


if __name__ == "__main__":
    sys.exit(main())
