"""What breaks: each fault is inflicted, held and healed, and tells at which parts of the world it aims.

A fault is a context: what it does on entering inflicts it, leaving heals it, and while it is held nobody touches
anything. Chance comes from the cycle's own generator. Where a fault can be aimed at one of several, chance says which.
"""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

import msgspec

from shared.ledger import halts
from shared.ledger.connections import open_pool
from tests.faults import points
from tests.faults.instances import Instance
from tests.faults.postgres_standby import StandbyPostgres
from tests.faults.rabbit_cluster import Cluster
from tests.faults.redis_cluster import ClusterRedis
from tests.faults.redis_sentinel import SentinelRedis
from tests.faults.stores import Postgres, Redis, send
from tests.faults.way import Kind, Manner
from tests.faults.world import Options, World

Group = Literal["calm", "service", "postgres", "redis", "broker", "network", "clock", "disk", "facts", "rolling"]

HOUR_S = 3600.0
DAYS_91_S = 91 * 86_400.0
DEATH_S = 10.0
TURN_S, TURNS = 2.0, 10
REAPER_LOOKS_S = 2.0
LONE_QUEUE_S = 12.0
"""A lone node that is killed sooner forgets the queues that were declared."""


class Arena(msgspec.Struct, frozen=True, kw_only=True):
    """Where one cycle takes place."""

    world: World
    chance: random.Random
    long: bool = False

    def one_of(self, *services: str) -> Instance:
        return self.chance.choice([one for service in services for one in self.world.of(service)])


Inflict = Callable[[Arena], AbstractAsyncContextManager[None]]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """`kill` says that processes are ended with SIGKILL. Held for `hold_s`, in a soak for `long_hold_s`.

    `weight` is how often a soak's round has it, and only each `every`th round does. A run has to ask for what is
    `on_demand`. The others say what kind of world it needs; `brokers` is how many nodes.
    """

    name: str
    group: Group
    inflict: Inflict
    kill: bool = False
    hold_s: float = 0.5
    long_hold_s: float = 1.0
    weight: int = 1
    every: int = 1
    brokers: int = 0
    clocks: bool = False
    postgres_clock: bool = False
    redis: str = "single"
    postgres: str = "single"
    soak_only: bool = False
    on_demand: bool = False


FAULTS: dict[str, Fault] = {}


def _fault(name: str, group: Group, **members: object) -> Callable[[Callable[[Arena], AsyncIterator[None]]], None]:
    def note(inflict: Callable[[Arena], AsyncIterator[None]]) -> None:
        fault = {"name": name, "group": group, "inflict": asynccontextmanager(inflict), **members}
        FAULTS[name] = Fault(**fault)  # type: ignore[arg-type]

    return note


def fits(fault: Fault, options: Options) -> bool:
    """Whether such a world has what the fault breaks."""
    return (
        fault.brokers <= options.brokers
        and (options.clocks or not (fault.clocks or fault.postgres_clock))
        and fault.redis in ("any", options.redis)
        and fault.postgres in ("any", options.postgres)
    )


@_fault("calm", "calm", hold_s=8.0, long_hold_s=8.0, redis="any", postgres="any", on_demand=True)
async def _calm(arena: Arena) -> AsyncIterator[None]:
    """Nothing breaks: what is found now needs no fault."""
    yield


# --- Services -------------------------------------------------------------------------------------------------------


def _killed(service: str) -> Callable[[Arena], AsyncIterator[None]]:
    async def inflict(arena: Arena) -> AsyncIterator[None]:
        victim = arena.one_of(service)
        await asyncio.sleep(arena.chance.uniform(0, 0.3))
        victim.kill()
        yield
        victim.start()
        await victim.ready()

    return inflict


for _service in ("activation", "heartbeat", "reaper", "portal"):
    _fault(f"{_service} killed", "service", kill=True, hold_s=0.2, weight=2, redis="any", postgres="any")(
        _killed(_service)
    )


@_fault("every service killed", "service", kill=True, hold_s=0.2, long_hold_s=0.5, redis="any", postgres="any")
async def _all_killed(arena: Arena) -> AsyncIterator[None]:
    victims = list(arena.world.instances.values())
    for victim in victims:
        victim.kill()
    yield
    await _start_all(victims)


def _killed_at(point: str) -> Callable[[Arena], AsyncIterator[None]]:
    async def inflict(arena: Arena) -> AsyncIterator[None]:
        replicas = arena.world.of(arena.chance.choice(points.POINTS[point]))
        arena.chance.shuffle(replicas)
        for turn in range(TURNS):  # whoever has no clients now does not come there
            if dead := await _first_to_die([replicas[turn % len(replicas)]], point):
                break
        else:
            raise FaultFailedError(f"no {replicas[0].service} came to {point!r} in {TURNS * TURN_S:.0f} s")
        yield
        await _start_all(dead)

    return inflict


async def _first_to_die(
    marked: Sequence[Instance], point: str, provoke: Callable[[], None] | None = None
) -> list[Instance]:
    """Whoever of these comes to the point within a turn."""
    for one in marked:
        one.wanted.want(point)
    try:
        if provoke is not None:
            provoke()
        await _any_dead(marked, within_s=TURN_S)
    finally:
        for one in marked:
            one.wanted.forget()
    return [one for one in marked if not one.running]


async def _any_dead(instances: Sequence[Instance], *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while all(one.running for one in instances):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.005)


_NEEDS_BROKER = (points.BEFORE_PUBLISH, points.AFTER_PUBLISH, points.BEFORE_ACK)
for _point in [point for point in points.POINTS if point != points.AFTER_EPOCH]:
    _fault(
        f"killed {_point}",
        "service",
        kill=True,
        hold_s=0.1,
        long_hold_s=0.5,
        weight=2,
        brokers=int(_point in _NEEDS_BROKER),
        redis="any",
        postgres="any",
    )(_killed_at(_point))


@_fault(f"killed {points.AFTER_EPOCH}", "service", kill=True, hold_s=0.1, postgres="any")
async def _killed_after_epoch(arena: Arena) -> AsyncIterator[None]:
    """Whichever process notices first that Redis was emptied raises it."""
    everyone = list(arena.world.instances.values())
    for _ in range(TURNS):  # it may be one who is not marked
        if dead := await _first_to_die(everyone, points.AFTER_EPOCH, _redis(arena).empty):
            break
    else:
        raise FaultFailedError(f"nobody raised the epoch in {TURNS * TURN_S:.0f} s")
    yield
    await _start_all(dead)


@_fault("rolling restart", "rolling", hold_s=0.0, redis="any", postgres="any")
async def _rolled(arena: Arena) -> AsyncIterator[None]:
    """One replica of each service at a time, as a rollout does: the next when the one before is ready."""
    numbers = sorted({one.name[-1] for one in arena.world.instances.values()})
    for number in numbers:
        replicas = [one for one in arena.world.instances.values() if one.name[-1] == number]
        await asyncio.gather(*(one.end() for one in replicas))
        await _start_all(replicas)
    yield


async def _start_all(instances: Sequence[Instance]) -> None:
    for one in instances:
        one.start()
    for one in instances:
        await one.ready()


# --- Postgres -------------------------------------------------------------------------------------------------------


@_fault("postgres killed", "postgres", kill=True, hold_s=0.3, long_hold_s=0.5, weight=9, redis="any")
async def _postgres_killed(arena: Arena) -> AsyncIterator[None]:
    await asyncio.sleep(arena.chance.uniform(0, 0.3))
    _postgres(arena).kill()
    yield
    _postgres(arena).start()


@_fault("postgres frozen", "postgres", hold_s=2.0, long_hold_s=6.0, redis="any")
async def _postgres_frozen(arena: Arena) -> AsyncIterator[None]:
    _postgres(arena).freeze()
    yield
    _postgres(arena).thaw()


@_fault("postgres restarted", "postgres", hold_s=0.2, redis="any")
async def _postgres_restarted(arena: Arena) -> AsyncIterator[None]:
    _postgres(arena).stop()
    yield
    _postgres(arena).start()


@_fault("disk full", "disk", hold_s=1.5, long_hold_s=4.0, redis="any")
async def _disk_full(arena: Arena) -> AsyncIterator[None]:
    postgres = _postgres(arena)
    postgres.fill_disk()
    yield
    postgres.free_disk()
    await asyncio.sleep(0.2)
    postgres.start()


# --- Redis ----------------------------------------------------------------------------------------------------------


@_fault("redis killed", "redis", kill=True, weight=3, postgres="any")
async def _redis_killed(arena: Arena) -> AsyncIterator[None]:
    _redis(arena).kill()
    yield
    _redis(arena).start()


@_fault("redis killed without its data", "redis", kill=True, postgres="any")
async def _redis_lost(arena: Arena) -> AsyncIterator[None]:
    redis = _redis(arena)
    redis.kill()
    redis.lose_data()
    yield
    redis.start()


@_fault("redis restored from an old copy", "redis", kill=True, postgres="any")
async def _redis_set_back(arena: Arena) -> AsyncIterator[None]:
    redis = _redis(arena)
    redis.kill()
    redis.put_copy_back()
    yield
    redis.start()
    redis.keep_copy()


@_fault("redis emptied", "redis", hold_s=1.0, postgres="any")
async def _redis_emptied(arena: Arena) -> AsyncIterator[None]:
    _redis(arena).empty()
    yield


@_fault("redis frozen", "redis", hold_s=1.0, long_hold_s=3.0, postgres="any")
async def _redis_frozen(arena: Arena) -> AsyncIterator[None]:
    _redis(arena).freeze()
    yield
    _redis(arena).thaw()


# --- RabbitMQ -------------------------------------------------------------------------------------------------------


@_fault("broker node killed", "broker", kill=True, brokers=3, weight=4, redis="any", postgres="any")
async def _node_killed(arena: Arena) -> AsyncIterator[None]:
    cluster = _cluster(arena)
    name = arena.chance.choice(cluster.names)
    cluster.kill(name)
    yield
    await cluster.start(name)


@_fault("broker stopped", "broker", kill=True, brokers=1, hold_s=2.0, long_hold_s=3.0, redis="any", postgres="any")
async def _nodes_killed(arena: Arena) -> AsyncIterator[None]:
    cluster = _cluster(arena)
    if len(cluster.names) == 1:
        await asyncio.sleep(arena.world.started_at + LONE_QUEUE_S - time.monotonic())
    cluster.kill(*cluster.names)
    yield
    await cluster.start(*cluster.names)


@_fault("broker frozen", "broker", brokers=1, hold_s=5.0, long_hold_s=60.0, every=3, redis="any", postgres="any")
async def _broker_away(arena: Arena) -> AsyncIterator[None]:
    """Every node is frozen: nothing is refused, nothing is answered."""
    pids = [node.pids[0] for node in _cluster(arena).nodes.values()]
    send(pids, signal.SIGSTOP)
    yield
    send(pids, signal.SIGCONT)
    await _cluster(arena).ready()


@_fault("broker node parted", "broker", brokers=3, hold_s=2.0, long_hold_s=5.0, redis="any", postgres="any")
async def _node_parted(arena: Arena) -> AsyncIterator[None]:
    """No connection between it and the others; clients reach all of them."""
    cluster = _cluster(arena)
    name = arena.chance.choice(cluster.names)
    cluster.part(name)
    yield
    cluster.join()
    await cluster.ready()


# --- Ways -----------------------------------------------------------------------------------------------------------


def _manners(pattern: str, manner: Manner) -> Callable[[Arena], AsyncIterator[None]]:
    async def inflict(arena: Arena) -> AsyncIterator[None]:
        arena.world.ways.behave(pattern, manner)
        yield
        arena.world.ways.heal()

    return inflict


PARTS = {"clients": "clients/*", "postgres": "*/postgres", "redis": "*/redis", "broker": "*/broker"}


def _each_part() -> Iterator[tuple[str, str, int]]:
    for part, pattern in PARTS.items():
        yield part, pattern, int(part == "broker")


_ANY = {"redis": "any", "postgres": "any"}
_fault("delay on every way", "network", hold_s=1.5, long_hold_s=3.0, **_ANY)(_manners("*", Manner(delay_s=0.03)))
_fault("5 % resets on every way", "network", hold_s=1.5, long_hold_s=3.0, **_ANY)(_manners("*", Manner(resets=0.05)))
for _part, _pattern, _brokers in _each_part():
    _common = {"brokers": _brokers, "long_hold_s": 2.0, "every": 3, "soak_only": True}
    _fault(f"delay on the way: {_part}", "network", **_common)(_manners(_pattern, Manner(delay_s=0.1)))
    _fault(f"5 % resets on the way: {_part}", "network", **_common)(_manners(_pattern, Manner(resets=0.05)))


def _on_one(part: str | None, kind: Kind) -> Callable[[Arena], AsyncIterator[None]]:
    """On the ways of one process alone, as when its host is the trouble; without a part, all of its ways."""

    async def inflict(arena: Arena) -> AsyncIterator[None]:
        name = arena.one_of("activation", "heartbeat", "reaper").name
        patterns = [pattern.replace("*", name) for at, pattern in PARTS.items() if part in (None, at)]
        for pattern in patterns:
            arena.world.ways.behave(pattern, Manner(kind=kind), or_none=True)
        yield
        arena.world.ways.heal()

    return inflict


for _kind, _what in ((Kind.SWALLOW, "half-open"), (Kind.STALL, "parted")):
    _fault(f"one process's ways {_what}", "network", hold_s=1.5, long_hold_s=5.0, **_ANY)(_on_one(None, _kind))
    for _part, _pattern, _brokers in _each_part():
        _common = {"brokers": _brokers, "long_hold_s": 3.0, "every": 3, "soak_only": True}
        _fault(f"one process's way {_what}: {_part}", "network", **_common)(_on_one(_part, _kind))


def _cuts(*, obeyed: bool) -> Callable[[Arena], AsyncIterator[None]]:
    async def inflict(arena: Arena) -> AsyncIterator[None]:
        arena.world.ways.cut("*/postgres", 2, obeyed=obeyed)
        yield
        arena.world.ways.cut("*/postgres", 0, obeyed=obeyed)

    return inflict


_fault("cut before COMMIT", "network", hold_s=1.0, weight=2, redis="any")(_cuts(obeyed=False))
_fault("cut between COMMIT and the answer", "network", hold_s=1.0, weight=2, redis="any")(_cuts(obeyed=True))


# --- Facts ----------------------------------------------------------------------------------------------------------


def _deliveries(how: str) -> Callable[[Arena], AsyncIterator[None]]:
    async def inflict(arena: Arena) -> AsyncIterator[None]:
        hearers = [*arena.world.of("heartbeat"), *arena.world.of("reaper")]
        for one in hearers:
            one.wanted.want(how)
        yield
        for one in hearers:
            one.wanted.forget()

    return inflict


for _how in (points.DUPLICATED, points.SHUFFLED, points.DROPPED):
    _fault(f"deliveries {_how}", "facts", brokers=1, hold_s=2.0, long_hold_s=4.0, redis="any", postgres="any")(
        _deliveries(_how)
    )


@_fault("reaper paused", "facts", hold_s=3.0, long_hold_s=6.0, redis="any", postgres="any")
async def _reaper_paused(arena: Arena) -> AsyncIterator[None]:
    victim = arena.one_of("reaper")
    victim.wanted.want(points.PAUSE_BEFORE_EXPIRE)
    if not await victim.stopped(DEATH_S):
        raise FaultFailedError(f"{victim.name} did not come between hint and expire within {DEATH_S:.0f} s")
    yield
    victim.signal(signal.SIGCONT)


# --- Clocks ---------------------------------------------------------------------------------------------------------


def _stepped(seconds: float) -> Callable[[Arena], AsyncIterator[None]]:
    async def inflict(arena: Arena) -> AsyncIterator[None]:
        clock = arena.world.host_clock
        assert clock is not None
        clock.step(seconds)
        yield
        clock.step(0)

    return inflict


for _seconds, _what in ((HOUR_S, "an hour"), (DAYS_91_S, "91 days")):
    _fault(
        f"host clock stepped {_what}", "clock", clocks=True, hold_s=2.0, long_hold_s=4.0, redis="any", postgres="any"
    )(_stepped(_seconds))


def _postgres_stepped(seconds: float) -> Callable[[Arena], AsyncIterator[None]]:
    """The ledger's own clock. It halts the reaper, which an operator has to resume."""

    async def inflict(arena: Arena) -> AsyncIterator[None]:
        clock = arena.world.postgres_clock
        assert clock is not None
        clock.step(seconds)
        yield
        clock.step(0)
        await asyncio.sleep(REAPER_LOOKS_S)
        pool = await open_pool(arena.world.owner_dsn, application="faults", size=1, statement_timeout_s=5)
        try:
            await halts.resume(pool, halts.ALL)
        finally:
            await pool.close()

    return inflict


for _seconds, _what in ((HOUR_S, "an hour"), (DAYS_91_S, "91 days")):
    _fault(
        f"postgres clock stepped {_what}",
        "clock",
        postgres_clock=True,
        hold_s=2.0,
        long_hold_s=4.0,
        redis="any",
        on_demand=True,
    )(_postgres_stepped(_seconds))


# --- Several servers --------------------------------------------------------------------------------------------------


@_fault("redis fails over under sentinel", "redis", kill=True, redis="sentinel", weight=12, soak_only=True)
async def _sentinel_failover(arena: Arena) -> AsyncIterator[None]:
    redis = arena.world.redis
    assert isinstance(redis, SentinelRedis)
    redis.fail_over(kill=True)
    yield
    redis.restart()


@_fault("redis fails over in a cluster", "redis", kill=True, redis="cluster", postgres="any", weight=8, soak_only=True)
async def _cluster_failover(arena: Arena) -> AsyncIterator[None]:
    redis = arena.world.redis
    assert isinstance(redis, ClusterRedis)
    redis.kill_primary(arena.chance.randrange(3))
    yield
    redis.restart()


@_fault("postgres fails over", "postgres", kill=True, redis="any", postgres="standby", weight=8, soak_only=True)
async def _postgres_failover(arena: Arena) -> AsyncIterator[None]:
    postgres = arena.world.postgres
    assert isinstance(postgres, StandbyPostgres)
    postgres.promote()
    yield
    postgres.rejoin()


class FaultFailedError(Exception):
    """A fault could not be inflicted: what it waits for did not come."""


def _postgres(arena: Arena) -> Postgres:
    assert isinstance(arena.world.postgres, Postgres)
    return arena.world.postgres


def _redis(arena: Arena) -> Redis:
    assert isinstance(arena.world.redis, Redis)
    return arena.world.redis


def _cluster(arena: Arena) -> Cluster:
    assert arena.world.cluster is not None
    return arena.world.cluster
