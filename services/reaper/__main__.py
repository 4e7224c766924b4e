"""`python -m services.reaper --config FILE`: the worker. `--once` makes one pass, `--dry-run` only shows it."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import uvloop
from aiohttp import web

from services.reaper import command
from services.reaper.app import floating, reap, sealing, worker
from services.reaper.settings import Settings
from shared.facts.topology import REAPER
from shared.ledger.connections import UnavailableError
from shared.runtime import lifecycle, logging
from shared.runtime.background import background
from shared.runtime.facts import facts_flowing
from shared.runtime.resources import open_resources
from shared.runtime.settings import load_settings
from shared.web.endpoints import add_routes
from shared.web.service import probes

APPLICATION = "seatkeeper-reaper"


def main(argv: list[str]) -> int:
    options = _options(argv)
    settings = load_settings(Settings, options.config, os.environ, "services.reaper")
    as_command = options.once or options.dry_run
    logging.configure(settings.log, stream=sys.stderr if as_command else None)  # a command's output is its answer
    if as_command:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_once(settings, options))
    return lifecycle.run(lambda stop: _work(settings, stop))


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="services.reaper", description="Frees the seats of silent devices.")
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings in TOML or YAML")
    parser.add_argument("--once", action="store_true", help="make one pass and end")
    parser.add_argument("--dry-run", action="store_true", help="show which devices a pass would free, change nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args(argv)


async def _work(settings: Settings, stop: asyncio.Event) -> None:
    committed = asyncio.Event()
    async with open_resources(settings, application=APPLICATION, on_commit=committed.set) as resources:
        leases = floating(resources)
        async with (
            facts_flowing(settings, resources, committed, name=APPLICATION, wanted=[(REAPER, leases)]),
            background(leases.run),
            background(worker(resources, settings).run),
            background(sealing(resources).run),
        ):
            app = web.Application()
            add_routes(app, resources.metrics, [])
            await lifecycle.serve(app, settings.server, probes(resources), stop)


async def _once(settings: Settings, options: argparse.Namespace) -> int:
    try:
        async with open_resources(settings, application=APPLICATION) as resources:
            if (lack := await resources.check_postgres()) is not None:
                return _not_done(lack)
            run = command.dry_run if options.dry_run else command.once
            return await run(reap(resources, settings.reaper), as_json=options.json)
    except UnavailableError:
        return _not_done("out of reach")


def _not_done(why: str) -> int:
    print(f"services.reaper: Postgres: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
