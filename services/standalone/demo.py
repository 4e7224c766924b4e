"""`python -m services.standalone.demo`: start the standalone on data of its own, play the story, leave nothing."""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from services.standalone.__main__ import HOST, end_on_term
from services.standalone.app import Standalone, open_standalone
from services.standalone.demo_account import ensure_demo
from services.standalone.embedded import EmbeddedServerError
from services.standalone.servers import Servers, prepare, running_servers
from services.standalone.story import Stage, Story, StoryError
from shared.ledger.simulated_clock import move_clock
from shared.licensing.facts import Fact
from shared.runtime import lifecycle, logging
from shared.runtime.sections import Log, Testing


def main() -> int:
    end_on_term()
    try:
        with tempfile.TemporaryDirectory(prefix="seatkeeper-demo-") as folder, running_servers(Path(folder)) as servers:
            logging.configure(Log(level="error"))
            asyncio.run(_play(servers, Path(folder)))
    except (EmbeddedServerError, StoryError) as error:
        print(f"seatkeeper: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


async def _play(servers: Servers, folder: Path) -> None:
    facts: list[Fact] = []

    async def hear(delivered: Sequence[Fact]) -> None:
        facts.extend(delivered)

    await prepare(servers)
    settings = servers.settings(port=0, log=Log(level="error"), testing=Testing(simulated_clock=True))
    async with open_standalone(settings, receivers=[hear]) as standalone:
        runner = web.AppRunner(standalone.app, **lifecycle.PROTOCOL_OPTIONS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, HOST, 0)
            await site.start()
            url = f"http://{HOST}:{runner.addresses[0][1]}"
            demo = await ensure_demo(standalone.resources, folder / "demo.json", url)
            print(f"Seatkeeper is running at {url} with a node-locked license of 3 seats.")
            await Story(demo, _stage(servers, standalone, facts), print).play()
        finally:
            await runner.cleanup()


def _stage(servers: Servers, standalone: Standalone, facts: list[Fact]) -> Stage:
    async def move_clock_to_day(day: int) -> None:
        await move_clock(servers.owner_dsn, days=day)
        await standalone.resources.clock.read()

    async def let_reaper_pass() -> None:
        await standalone.reap()

    async def delivered() -> list[Fact]:
        await standalone.relay.drain()
        return facts

    return Stage(move_clock_to_day=move_clock_to_day, let_reaper_pass=let_reaper_pass, facts=delivered)


if __name__ == "__main__":
    sys.exit(main())
