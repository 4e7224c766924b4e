"""`python -m services.standalone.stack`: every service as processes of its own, over Postgres, Valkey and RabbitMQ.

REPLICAS of each (1) behind one PORT (8080), with the demo account; data in `.run/stack`, `demo.json` in `.run`. With
`--story` it plays the story of `make demo` on data of its own and ends. Whatever ends it ends all of it.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from aiohttp import web

from services.standalone.__main__ import HOST, RUN, chosen_port, end_on_term, is_free, wants_chaos, welcome
from services.standalone.demo_account import ensure_demo
from services.standalone.embedded import EmbeddedServerError, die_with_parent, free_port
from services.standalone.ingress import ingress
from services.standalone.rabbitmq import RabbitServer, find_rabbitmq, start_rabbitmq
from services.standalone.servers import DATABASE, Servers, prepare, running_servers
from services.standalone.settings import Settings
from services.standalone.story import Stage, Story, StoryError
from shared.facts import topology
from shared.facts.consumer import Consumer
from shared.facts.topology import Subscriber
from shared.ledger.simulated_clock import move_clock
from shared.licensing.facts import Fact
from shared.runtime import lifecycle, logging
from shared.runtime.background import background
from shared.runtime.resources import Resources, open_resources
from shared.runtime.sections import Log

SERVICES = ("activation", "heartbeat", "reaper", "portal")
LISTENER = Subscriber(queue="seatkeeper.story", keys=("fact.#",))
START_S = 60.0
SIMULATED_CLOCK = {"SEATKEEPER_ENVIRONMENT": "development", "SEATKEEPER_TESTING_SIMULATED_CLOCK": "true"}
CHAOS = {"SEATKEEPER_ENVIRONMENT": "development", "SEATKEEPER_TESTING_CHAOS": "true"}


class Replica:
    """One process of one service, on ports that it keeps when it is started again."""

    def __init__(self, name: str, variables: Mapping[str, str]) -> None:
        self._name = name
        self._variables = variables
        self.address = f"http://{HOST}:{variables['SEATKEEPER_SERVER_PORT']}"
        self._health = f"http://{HOST}:{variables['SEATKEEPER_SERVER_HEALTH_PORT']}"
        self.start()

    def start(self) -> None:
        parent = os.getpid()
        self.process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", f"services.{self._name}"],
            env={**os.environ, **self._variables},
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM, parent),
        )

    def await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self._health}/readyz", timeout=2).close()  # noqa: S310 - our own  # nosec B310
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
            else:
                return
        raise TimeoutError(f"{self._name} was not ready within {START_S:.0f} s; what it said is above")

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def kill(self) -> None:
        """End it as a crash would; `start` brings it back."""
        self.process.kill()
        self.process.wait()


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """Running processes, and what they all stand on."""

    servers: Servers
    rabbitmq: RabbitServer
    replicas: dict[str, list[Replica]]

    @property
    def addresses(self) -> dict[str, list[str]]:
        return {name: [replica.address for replica in replicas] for name, replicas in self.replicas.items()}


def main(argv: Sequence[str]) -> int:
    options = _options(argv)
    end_on_term()
    port = free_port() if options.story else chosen_port()
    if port is None or not is_free(port):
        return 1
    try:
        with ExitStack() as stack:
            folder = RUN / "stack"
            if options.story:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seatkeeper-stack-")))
            logging.configure(Log(level="error"))
            declared = SIMULATED_CLOCK if options.story else CHAOS if wants_chaos() else None
            running = stack.enter_context(running_stack(folder, options.replicas, declared))
            return asyncio.run(_play(running, port)) if options.story else _serve(running, port)
    except (EmbeddedServerError, StoryError, TimeoutError) as error:
        print(f"seatkeeper: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="services.standalone.stack", description=__doc__)
    parser.add_argument("--replicas", type=int, default=int(os.environ.get("REPLICAS") or 1))
    parser.add_argument("--story", action="store_true", help="play the story and end")
    return parser.parse_args(argv)


@contextmanager
def running_stack(folder: Path, replicas: int, declared: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Start everything with its data in `folder`; `declared` are variables for each service. From the main thread,
    before any event loop."""
    programs = find_rabbitmq()
    if programs is None:
        raise EmbeddedServerError(
            "the stack needs RabbitMQ: run 'apt-get install --no-install-recommends rabbitmq-server' as root"
        )
    with ExitStack() as stack:
        servers = stack.enter_context(running_servers(folder))
        rabbitmq = stack.enter_context(start_rabbitmq(folder, programs=programs))
        asyncio.run(_prepare(servers, rabbitmq))
        started: dict[str, list[Replica]] = {name: [] for name in SERVICES}
        for name in SERVICES * replicas:
            variables = environment(servers, rabbitmq.url, name, free_port(), free_port())
            replica = Replica(name, {**variables, **(declared or {})})
            stack.callback(replica.end)
            started[name].append(replica)
        for replica in [replica for replicas_of_one in started.values() for replica in replicas_of_one]:
            replica.await_ready()
        yield Stack(servers=servers, rabbitmq=rabbitmq, replicas=started)


async def _prepare(servers: Servers, rabbitmq: RabbitServer) -> None:
    await prepare(servers)
    await topology.declare(rabbitmq.url)


def environment(servers: Servers, rabbitmq_url: str, name: str, port: int, health_port: int) -> dict[str, str]:
    """The variables of one service's process, with its own database role."""
    settings = servers.settings(port=port)
    return {
        "SEATKEEPER_SERVER_HOST": HOST,
        "SEATKEEPER_SERVER_PORT": str(port),
        "SEATKEEPER_SERVER_HEALTH_HOST": HOST,
        "SEATKEEPER_SERVER_HEALTH_PORT": str(health_port),
        "SEATKEEPER_SERVER_TRUSTED_PROXIES": HOST,
        "SEATKEEPER_POSTGRES_DSN": servers.postgres.dsn(DATABASE, f"seatkeeper_{name}"),
        "SEATKEEPER_REDIS_URL": servers.redis.url,
        "SEATKEEPER_RABBITMQ_URL": rabbitmq_url,
        "SEATKEEPER_SECRETS_KEYS": ",".join(f"{id}:{key}" for id, key in settings.secrets.keys.items()),
        "SEATKEEPER_SECRETS_CURRENT": settings.secrets.current,
        "SEATKEEPER_LOG_LEVEL": "warning",
    }


def _operator_settings(stack: Stack) -> Settings:
    """As the operator's command has them: the demo account is made with its role."""
    settings = stack.servers.settings(port=0, log=Log(level="error"))
    dsn = environment(stack.servers, stack.rabbitmq.url, "operator", 0, 0)["SEATKEEPER_POSTGRES_DSN"]
    return msgspec.structs.replace(settings, postgres=type(settings.postgres)(dsn=type(settings.postgres.dsn)(dsn)))


def _serve(stack: Stack, port: int) -> int:
    async def serve(stop: asyncio.Event) -> None:
        async with open_resources(_operator_settings(stack), application="seatkeeper-stack") as resources:
            demo = await ensure_demo(resources, RUN / "demo.json", f"http://{HOST}:{port}")
        print(welcome(demo), flush=True)
        settings = stack.servers.settings(port=port, host=HOST)
        await lifecycle.serve(ingress(stack.addresses), settings.server, None, stop)

    return lifecycle.run(serve)


async def _play(stack: Stack, port: int) -> int:
    facts: list[Fact] = []

    async def hear(delivered: Sequence[Fact]) -> None:
        facts.extend(delivered)

    await topology.declare(stack.rabbitmq.url, [LISTENER])
    runner = web.AppRunner(ingress(stack.addresses))
    await runner.setup()
    try:
        async with (
            background(Consumer(stack.rabbitmq.url, LISTENER, hear).run),
            open_resources(_operator_settings(stack), application="seatkeeper-stack") as resources,
        ):
            await web.TCPSite(runner, HOST, port).start()
            url = f"http://{HOST}:{port}"
            demo = await ensure_demo(resources, stack.servers.folder / "demo.json", url)
            count = sum(map(len, stack.addresses.values()))
            print(f"Seatkeeper is running at {url} as {count} processes over RabbitMQ, with a license of 3 seats.")
            await Story(demo, _stage(stack, resources, facts), print).play()
    finally:
        await runner.cleanup()
    return 0


def _stage(stack: Stack, resources: Resources, facts: list[Fact]) -> Stage:
    async def move_clock_to_day(day: int) -> None:
        await move_clock(stack.servers.owner_dsn, days=day)
        await asyncio.sleep(1.5)  # every process reads the clock once a second

    async def let_reaper_pass() -> None:
        variables = environment(stack.servers, stack.rabbitmq.url, "reaper", 0, 0)
        await asyncio.to_thread(_reap_once, variables | SIMULATED_CLOCK)

    async def delivered() -> list[Fact]:
        await _until_relayed(resources)
        return facts

    return Stage(move_clock_to_day=move_clock_to_day, let_reaper_pass=let_reaper_pass, facts=delivered)


def _reap_once(variables: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "services.reaper", "--once"]
    subprocess.run(command, env={**os.environ, **variables}, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


async def _until_relayed(resources: Resources) -> None:
    """Until no fact waits in the outbox, and what was handed to the broker had time to arrive."""
    while await resources.pool.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL"):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
