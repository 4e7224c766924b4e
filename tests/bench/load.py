"""One measured run of wrk against one path: requests a second, and not one answered otherwise than it should be."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import msgspec

SCRIPT = Path(__file__).with_name("bodies.lua")

_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)", re.MULTILINE)
_REQUESTS = re.compile(r"^\s*(\d+) requests in ", re.MULTILINE)
_REFUSED = re.compile(r"^\s*Non-2xx or 3xx responses: (\d+)", re.MULTILINE)
_P99 = re.compile(r"^\s+99%\s+([\d.]+)(us|ms|s)", re.MULTILINE)
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class LoadError(Exception):
    """A run that measured something else than what it should: refusals, or broken connections."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    rate: float
    requests: int
    p99_ms: float


def load(
    url: str,
    bodies: Path,
    *,
    connections: int,
    seconds: float,
    refused: bool = False,
    each_holds: tuple[str, int] | None = None,
) -> Run:
    """Post `bodies` to `url` as fast as `connections` allow. Raises `LoadError`.

    Every answer is a 2xx, or with `refused` none is. `each_holds` is a text and how often it is in each answer.
    """
    return load_all([url], bodies, connections=connections, seconds=seconds, refused=refused, each_holds=each_holds)


def load_all(
    urls: Sequence[str],
    bodies: Path,
    *,
    connections: int,
    seconds: float,
    refused: bool = False,
    each_holds: tuple[str, int] | None = None,
) -> Run:
    """The same to several at once, each with so many connections; the p99 is that of the slowest."""
    expected = [] if each_holds is None else [each_holds[0], str(each_holds[1])]
    processes = [
        (url, _start(url, [str(bodies), uuid4().hex[:8], *expected], connections, max(1, round(seconds))))
        for url in urls
    ]
    runs = [_outcome(url, process, seconds + 60, refused=refused) for url, process in processes]
    return Run(
        rate=sum(run.rate for run in runs),
        requests=sum(run.requests for run in runs),
        p99_ms=max(run.p99_ms for run in runs),
    )


def _start(url: str, arguments: Sequence[str], connections: int, seconds: int) -> "subprocess.Popen[str]":
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(SCRIPT), url, "--"]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _outcome(url: str, process: "subprocess.Popen[str]", timeout_s: float, *, refused: bool) -> Run:
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise LoadError(f"{url}: wrk did not end") from None
    run = None if process.returncode or errors else read(output, refused=refused)
    if run is None:
        raise LoadError(f"{url}: {output}{errors}")
    return run


def read(output: str, *, refused: bool = False) -> Run | None:
    """What wrk printed; None unless every answer was as it should be."""
    rate, requests, p99 = _RATE.search(output), _REQUESTS.search(output), _P99.search(output)
    if rate is None or requests is None or p99 is None or "Socket errors" in output or "Wrong answers" in output:
        return None
    others = _REFUSED.search(output)
    if (int(others[1]) if others else 0) != (int(requests[1]) if refused else 0):
        return None
    return Run(rate=float(rate[1]), requests=int(requests[1]), p99_ms=float(p99[1]) * _MS[p99[2]])
