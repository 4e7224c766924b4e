"""`python -m services.reaper --config FILE`: the worker. `--once` makes one pass, `--dry-run` only shows it."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

from aiohttp import web
from rich.console import Console
from rich.table import Table

from services.reaper.app import floating, reap, worker
from services.reaper.settings import Settings
from shared.facts.topology import REAPER
from shared.ledger.connections import UnavailableError
from shared.ledger.reaping import Candidate
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
        return asyncio.run(_once(settings, dry_run=options.dry_run, as_json=options.json))
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
            background(worker(resources, settings.reaper).run),
        ):
            app = web.Application()
            add_routes(app, resources.metrics, [])
            await lifecycle.serve(app, settings.server, probes(resources), stop)


async def _once(settings: Settings, *, dry_run: bool, as_json: bool) -> int:
    try:
        async with open_resources(settings, application=APPLICATION) as resources:
            if (lack := await resources.check_postgres()) is not None:
                return _not_done(lack)
            one_pass = reap(resources, settings.reaper)
            if dry_run:
                _show(await one_pass.plan(), as_json=as_json)
                return 0
            done = await one_pass()
    except UnavailableError:
        return _not_done("out of reach")
    said = {"announced": done.announced, "freed": done.freed, "failed": done.failed}
    print(json.dumps(said) if as_json else ", ".join(f"{count} {what}" for what, count in said.items()))
    return 1 if done.failed else 0


def _not_done(why: str) -> int:
    print(f"services.reaper: Postgres: {why}", file=sys.stderr)
    return 1


def _show(found: list[Candidate], *, as_json: bool) -> None:
    rows = [
        {
            "license": f"{one.key_prefix}…",
            "customer": one.customer,
            "deviceId": str(one.device_id),
            "lastContact": one.last_contact_at.isoformat() if one.last_contact_at else "",
            "leaseEnded": one.lease_expires_at.isoformat(),
        }
        for one in found
    ]
    if as_json:
        print(json.dumps(rows))
        return
    table = Table(*(rows[0] if rows else ["nothing to free"]))
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
