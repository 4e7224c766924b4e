"""One measured run of wrk against one path: requests a second, and not one that was refused."""

import re
import subprocess
from pathlib import Path
from uuid import uuid4

import msgspec

SCRIPT = Path(__file__).with_name("bodies.lua")

_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
_P99 = re.compile(r"^\s+99%\s+([\d.]+)(us|ms|s)", re.MULTILINE)
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class LoadError(Exception):
    """A run that measured something else than what it should: refusals, or broken connections."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    rate: float
    p99_ms: float


def load(url: str, bodies: Path, *, connections: int, seconds: int) -> Run:
    """Post `bodies` to `url` as fast as `connections` allow. Raises `LoadError`."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(SCRIPT), url]
    done = subprocess.run(
        [*command, "--", str(bodies), uuid4().hex[:8]],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    rate, p99 = _RATE.search(done.stdout), _P99.search(done.stdout)
    if done.returncode or rate is None or p99 is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise LoadError(f"{url}: {done.stdout}{done.stderr}")
    return Run(rate=float(rate[1]), p99_ms=float(p99[1]) * _MS[p99[2]])
