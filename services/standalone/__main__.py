"""`python -m services.standalone`: start everything on PORT (8080) with its data in `.run`; Ctrl-C stops it."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from services.standalone.app import open_standalone
from services.standalone.demo_account import Demo, ensure_demo
from services.standalone.embedded import EmbeddedServerError, die_with_parent
from services.standalone.servers import Servers, prepare, running_servers
from shared.runtime import lifecycle, logging
from shared.runtime.sections import Log, Testing
from shared.web.service import probes

RUN = Path(".run")
HOST = "127.0.0.1"

CHAOS = "CHAOS: of the calls to the API 5 % each are rejected, delayed, cut off, and answered twice."

WELCOME = """
Seatkeeper is running at {url}   (Ctrl-C stops it; data and keys stay in {run})

  node-locked license   {key}   3 devices
  floating license      {floating_key}   2 seats
  product               {product}
  root key              {root_key}
  more in {run}/demo.json

Try it:

  curl -sX POST {url}/v1/activate -d '{{"licenseKey": "{key}", "fingerprint": "laptop-1", "timestamp": '$(date +%s)'}}'
  curl -sX POST {url}/v1/validate -d '{{"key": "{key}", "fingerprint": "laptop-1"}}'
  curl -s {url}/v1/devices -H 'Authorization: License {key}'

The client: pip install ./client   (client/README.md);  offline files by hand: {url}/offline
"""


def main() -> int:
    port = chosen_port()
    end_on_term()
    if port is None or not is_free(port):
        return 1
    try:
        with running_servers(RUN) as servers:
            return _serve(servers, port)
    except EmbeddedServerError as error:
        print(f"seatkeeper: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


def _serve(servers: Servers, port: int) -> int:
    testing = Testing(chaos=True) if wants_chaos() else None
    settings = servers.settings(port=port, host=HOST, log=Log(level="warning"), testing=testing)
    logging.configure(settings.log)

    async def serve(stop: asyncio.Event) -> None:
        await prepare(servers)
        async with open_standalone(settings) as standalone:
            demo = await ensure_demo(standalone.resources, RUN / "demo.json", f"http://{HOST}:{port}")
            print(welcome(demo), flush=True)
            await lifecycle.serve(standalone.app, settings.server, probes(standalone.resources), stop)

    return lifecycle.run(serve)


def welcome(demo: Demo) -> str:
    return WELCOME.format(
        url=demo.url,
        run=RUN,
        key=demo.license_key,
        floating_key=demo.floating_license_key,
        product=demo.product,
        root_key=demo.root_key,
    )


def chosen_port() -> int | None:
    text = os.environ.get("PORT") or "8080"
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    print(f"seatkeeper: PORT must be a number from 1 to 65535, not {text!r}", file=sys.stderr)
    return None


def wants_chaos() -> bool:
    """Whether CHAOS asks for calls that go wrong; says so where it does."""
    if os.environ.get("CHAOS", "0") in ("", "0"):
        return False
    print(CHAOS, flush=True)
    return True


def is_free(port: int) -> bool:
    """Told before any server starts, in one line."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            print(f"seatkeeper: cannot use port {port} ({error.strerror}); try PORT={port + 1}", file=sys.stderr)
            return False
    return True


def end_on_term() -> None:
    """TERM ends the start like Ctrl-C, until an event loop takes over; and so does the end of the parent."""
    signal.signal(signal.SIGTERM, _interrupt)
    if parent := os.environ.get("SEATKEEPER_PARENT_PID"):
        die_with_parent(signal.SIGTERM, int(parent))


def _interrupt(_signum: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
