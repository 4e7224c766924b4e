"""The judge: reads the history and what the system holds at rest, and says which of I1 to I9 was broken, and how.

The load rests, what is on its way arrives, and everything since the round's beginning is judged: each license by its
own trail, rows and calls. `found` is pure; `judge` reads for it.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from tests.faults import observed
from tests.faults.answers import Answers
from tests.faults.calls_made import Call, Clocks, clocks_of
from tests.faults.history import Fact, Reader
from tests.faults.holding import oversold
from tests.faults.load import Load, World
from tests.faults.observed import License
from tests.faults.trail import EVIDENCE, Trail, Violation, shown
from tests.faults.witness import NAME as WITNESS

__all__ = ["Violation", "found", "judge"]

DRAIN_S = 60.0
DELIVERY_S = 60.0
SILENCE_S = 30.0
"""Facts that have not come by then, while nothing else came either, are taken for lost."""
REDIS_S = 5.0
REDIS_WITHOUT_FACTS_S = 30.0
"""Without a broker only the reconciliation puts right what a lost push left."""

_fact = msgspec.json.Decoder(Fact).decode


async def judge(world: World, load: Load) -> list[Violation]:
    """Bring the load to rest and judge its round. Whether it goes on, and on which licenses, is the caller's to say."""
    await load.pause()
    load.read()
    seats = {str(grant.id): grant.sort.seats for grant in load.grants}
    refs = [(str(grant.account), str(grant.id)) for grant in load.grants]
    broken = []
    if world.amqp_urls and (unsent := await observed.drained(world.owner_dsn, within_s=DRAIN_S)):
        broken.append(Violation("I6", "", f"{unsent} facts still wait to be sent after {DRAIN_S:g} s of rest"))
    redis_s = REDIS_S if world.amqp_urls else REDIS_WITHOUT_FACTS_S
    drifting = asyncio.create_task(observed.lasting_drift(world.owner_dsn, world.redis_url, refs, within_s=redis_s))
    licenses = await observed.read(world.owner_dsn, list(seats))
    seen_until = time.monotonic_ns()
    if world.amqp_urls and not broken:
        await _tell_deliveries(world, load, licenses)
    for id, difference in (await drifting).items():
        broken.append(Violation("I7", id, f"Redis differs from Postgres {redis_s:g} s after rest: {difference}"))
    gathered, clocks = load.gathered, clocks_of(load.gathered.clocks)
    return broken + await asyncio.to_thread(found, gathered.calls, licenses, seats, clocks, seen_until)


def found(
    calls: Sequence[Call],
    licenses: Mapping[str, License],
    seats: Mapping[str, int],
    clocks: Clocks,
    seen_until: int,
) -> list[Violation]:
    """What the history shows of these licenses. `seats` are the limits that they were granted with."""
    by_license: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(calls, key=lambda call: call.began):
        by_license[call.license].append(call)
    broken = []
    for id in seats:
        if id not in licenses:
            broken.append(Violation("I3", id, "the license is gone"))
            continue
        license = licenses[id]
        trail = Trail(license, clocks)
        broken += trail.broken
        broken += Answers(trail, by_license[id], seen_until).broken
        broken += _facts(license)
        if not license.overage:
            broken += oversold(id, seats[id], by_license[id], clocks)
    return broken


def _facts(license: License) -> list[Violation]:
    """I6: for each version of the trail one row of the outbox, one delivery at least, and one effect."""
    versions = {event.version: event for event in license.events}
    broken = []

    def break_(what: str, wrong: Sequence[int]) -> None:
        evidence = [shown(versions[version]) if version in versions else {"version": version} for version in wrong]
        if wrong:
            words = f"{what}: version {', '.join(map(str, wrong[:EVIDENCE]))}"
            broken.append(Violation("I6", license.id, words, evidence[:EVIDENCE]))

    once = dict.fromkeys(versions, 1)
    break_("there is not one outbox row", _unlike(license.outbox, once))
    if license.delivered is not None:
        break_("a fact was lost", sorted(versions.keys() - license.delivered.keys()))
    if license.effects is not None:
        effects = {version: times for version, times in license.effects.items() if version in versions}
        break_("a fact's effect did not happen once", _unlike(effects, once))
    return broken


def _unlike(counted: Mapping[int, int], once: Mapping[int, int]) -> list[int]:
    return sorted(version for version in counted.keys() | once.keys() if counted.get(version, 0) != 1)


async def _tell_deliveries(world: World, load: Load, licenses: dict[str, License]) -> None:
    """Wait until the facts of these licenses were told to the witness and had their effects, or time is over."""
    delivered: dict[str, dict[int, int]] = {id: {} for id in licenses}
    witnessed = Reader(load.folder, WITNESS)
    deadline = time.monotonic() + DELIVERY_S
    heard, heard_at = -1, time.monotonic()
    while True:
        for line in witnessed.lines():
            if not line.startswith(b'{"kind"'):
                fact = _fact(line)
                if fact.license in delivered:
                    delivered[fact.license].setdefault(fact.version, fact.at)
        await observed.read_effects(world.owner_dsn, licenses)
        for license in licenses.values():
            license.delivered = delivered[license.id]
        told = sum(len(license.delivered or ()) + len(license.effects or ()) for license in licenses.values())
        heard_at = time.monotonic() if told > heard else heard_at
        heard = told
        over = time.monotonic() > min(deadline, heard_at + SILENCE_S)
        if over or not any(_waits(license) for license in licenses.values()):
            return
        await asyncio.sleep(0.2)


def _waits(license: License) -> bool:
    assert license.delivered is not None
    assert license.effects is not None
    versions = {event.version for event in license.events}
    return not (versions <= license.delivered.keys() and versions <= license.effects.keys())
