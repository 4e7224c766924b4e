"""An open-loop load: so many activations of new devices a second, whether or not the last were answered.

Prints as JSON how many were sent, how they were answered and how long that took; ends sooner when it is terminated.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

import aiohttp
import uvloop

TICK_S = 0.01


async def load(url: str, keys: list[str], waits: list[float], *, rate: int, seconds: int) -> Counter[str]:
    """Activate `rate` new devices a second, each sent again until its outcome is known; `waits` takes the seconds."""
    answers: Counter[str] = Counter()
    run, sent, begun = uuid4().hex[:8], 0, time.monotonic()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    connector = aiohttp.TCPConnector(limit=256)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        while (elapsed := time.monotonic() - begun) < seconds and not stop.is_set():
            while sent < elapsed * rate:
                body = {"licenseKey": keys[sent % len(keys)], "fingerprint": f"{run}-{sent}", "timestamp": time.time()}
                tasks.create_task(_activate(session, url, body, answers, waits))
                sent += 1
            await asyncio.sleep(TICK_S)
    answers["sent"] = sent
    return answers


async def _activate(
    session: aiohttp.ClientSession, url: str, body: dict[str, object], answers: Counter[str], waits: list[float]
) -> None:
    began = time.monotonic()
    for _ in range(60):
        try:
            async with session.post(f"{url}/v1/activate", json=body) as response:
                await response.read()
                status = response.status
        except aiohttp.ClientError:
            status = 0
        if status in (200, 201):
            answers["acknowledged"] += 1
            waits.append(time.monotonic() - began)
            return
        answers[f"status {status}"] += 1
        await asyncio.sleep(0.5)
    answers["given up"] += 1


if __name__ == "__main__":
    where, keys_file, per_second, duration = sys.argv[1:]
    known = Path(keys_file).read_text().split()
    taken: list[float] = []
    counts = uvloop.run(load(where, known, taken, rate=int(per_second), seconds=int(duration)))
    print(json.dumps({**counts, "p99_ms": round(1000 * quantiles(taken, n=100)[98], 1) if len(taken) > 1 else None}))
