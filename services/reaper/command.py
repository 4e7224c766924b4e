"""The reaper as a command: one pass (`--once`), or a look at what it would do (`--dry-run`).

It ends with 0 when all is done, and with 1 where a command failed or a breaker halts, saying what to do.
"""

import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from services.reaper.breakers import Trip
from services.reaper.reap import Plan, Progress, Reap, Stand
from shared.ledger.reaping import Candidate

ADMIN = "python -m services.portal.admin reaper"


async def once(reap: Reap, *, as_json: bool) -> int:
    """Make one pass and say what it did. Raises `UnavailableError`."""
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)  # a pass makes much and leaves no cycles
    with _progress() as progress:
        done = await reap(progress=progress)
    if as_json:
        said = {"announced": done.announced, "freed": done.freed, "failed": done.failed, "leftAlone": done.left_alone}
        print(json.dumps(said | _stand(done)))
    else:
        counts = f"{done.announced} announced, {done.freed} freed, {done.failed} failed"
        print(f"{counts}, {done.left_alone} left alone")
    return _advise(done) or int(done.failed > 0)


async def dry_run(reap: Reap, *, as_json: bool) -> int:
    """Show what a pass would do. Raises `UnavailableError`."""
    plan = await reap.plan()
    devices = [_device(one) for one in plan.devices]
    if as_json:
        print(json.dumps({"devices": devices, "leftAlone": plan.left_alone} | _stand(plan)))
    else:
        _print_table(devices)
        _print_stand(plan)
    return 0


@contextmanager
def _progress() -> Iterator[Progress | None]:
    """A bar for whoever looks on; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    console = Console(stderr=True)
    with Bar(TextColumn("freeing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, due: bar.update(task, completed=done, total=due)


def _advise(stand: Stand) -> int:
    """Say on stderr what stands in the way, and what to do; returns the exit code."""
    if stand.held_until is not None:
        _note(f"leases of a day or more are held until {stand.held_until:%Y-%m-%dT%H:%M:%SZ} ({ADMIN} hold)")
    if stand.halted is not None:
        _note(f"halted: {_line(stand.halted)}; see that all is well, then {ADMIN} resume")
    for account, trip in stand.halted_accounts.items():
        _note(f"halted for account {account}: {_line(trip)}; see that all is well, then {ADMIN} resume --account ID")
    return int(stand.halted is not None or bool(stand.halted_accounts))


def _print_stand(plan: Plan) -> None:
    if plan.left_alone:
        print(f"{plan.left_alone} more are due and would be left alone")
    if plan.held_until is not None:
        print(f"held until {plan.held_until:%Y-%m-%dT%H:%M:%SZ}")
    if plan.halted is not None:
        print(f"a breaker says: {_line(plan.halted)}")
    for account, trip in plan.halted_accounts.items():
        print(f"a breaker says for account {account}: {_line(trip)}")


def _stand(stand: Stand) -> dict[str, object]:
    return {
        "halted": stand.halted and _trip(stand.halted),
        "haltedAccounts": [{"account": str(account), **_trip(trip)} for account, trip in stand.halted_accounts.items()],
        "heldUntil": stand.held_until and stand.held_until.isoformat(),
    }


def _trip(trip: Trip) -> dict[str, str]:
    return {"cause": trip.cause.value, "detail": trip.detail}


def _line(trip: Trip) -> str:
    return f"{trip.cause}, {trip.detail}"


def _device(one: Candidate) -> dict[str, str]:
    return {
        "license": f"{one.key_prefix}…",
        "customer": one.customer,
        "deviceId": str(one.device_id),
        "lastContact": one.last_contact_at.isoformat() if one.last_contact_at else "",
        "leaseEnded": one.lease_expires_at.isoformat(),
    }


def _print_table(devices: list[dict[str, str]]) -> None:
    table = Table(*(devices[0] if devices else ["nothing to free"]))
    for device in devices:
        table.add_row(*device.values())
    Console().print(table)


def _note(text: str) -> None:
    print(f"services.reaper: {text}", file=sys.stderr)
