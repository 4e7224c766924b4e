"""The systemd unit of an application, stopped and started. Where there is no systemd, the user is told so."""

import asyncio

from seatkeeper.command.failures import CommandError

LIMIT_S = 120.0


async def stop(unit: str) -> None:
    await _systemctl("stop", unit)


async def start(unit: str) -> None:
    await _systemctl("start", unit)


async def _systemctl(verb: str, unit: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "systemctl",
            verb,
            "--",
            unit,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError:
        raise CommandError("failure.no_systemd", unit=unit) from None
    try:
        _, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise CommandError("failure.unit", verb=verb, unit=unit, why=f"{LIMIT_S:.0f} s") from None
    if process.returncode:
        why = " ".join(err.decode(errors="replace").split())[:300] or f"exit code {process.returncode}"
        raise CommandError("failure.unit", verb=verb, unit=unit, why=why)
