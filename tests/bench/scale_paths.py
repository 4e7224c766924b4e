"""The cost of each kind of request at both sizes: processor time, beyond what is taken at rest, and who spent it."""

import time
from collections.abc import Callable, Sequence

import msgspec

from tests.bench.exact import send_each
from tests.bench.results import Result, Target, compared, measured
from tests.bench.scale_load import Load
from tests.bench.scale_world import Cost, World, await_watermark

FLAT = Target(gate=1.15, aim=1.05, most=True)
REST_S = 3.0
WARM_ROUNDS = 2
SEEN_US = 1.0
FIRST_HEARTBEATS = 100_000


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One size under load. `rest` is what it costs in a second when nobody asks."""

    world: World
    load: Load
    rest: Cost


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of request, and how many of it a round sends."""

    name: str
    path: str
    count: int
    bodies: Callable[[Load, int], list[bytes]]


Tell = Callable[[str], None]

WARM = (
    Kind(name="heartbeat", path="/v1/heartbeat", count=8000, bodies=Load.heartbeats),
    Kind(name="committed heartbeat", path="/v1/heartbeat", count=1000, bodies=Load.due_heartbeats),
    Kind(name="validation", path="/v1/validate", count=8000, bodies=Load.validations),
    Kind(name="validation with fingerprint", path="/v1/validate", count=8000, bodies=Load.device_validations),
    Kind(name="activation", path="/v1/activate", count=4000, bodies=Load.activations),
)

COLD = (
    Kind(
        name="heartbeat, cold",
        path="/v1/heartbeat",
        count=2400,
        bodies=lambda load, count: load.heartbeats(count, distinct=True),
    ),
    Kind(
        name="validation, cold",
        path="/v1/validate",
        count=2400,
        bodies=lambda load, count: load.validations(count, distinct=True),
    ),
    Kind(
        name="validation with fingerprint, cold",
        path="/v1/validate",
        count=2400,
        bodies=lambda load, count: load.device_validations(count, distinct=True),
    ),
)


def sites(worlds: Sequence[World]) -> list[Site]:
    """The sizes, with what each costs at rest."""
    before = [world.cost() for world in worlds]
    time.sleep(REST_S)
    rests = [world.cost().since(cost).over(REST_S) for world, cost in zip(worlds, before, strict=True)]
    return [Site(world=world, load=Load(world.data), rest=rest) for world, rest in zip(worlds, rests, strict=True)]


def measure_warm(both: Sequence[Site], *, rounds: int, tell: Tell) -> list[Result]:
    """The larger site comes first. Each license is met once, and some rounds more are sent than are counted."""
    tell("every license is met once")
    for site in both:
        send_each(site.world.activation.url + "/v1/validate", site.load.each_validated())
    runs = []
    for number in range(WARM_ROUNDS + rounds):
        tell(f"round {number + 1} of {WARM_ROUNDS + rounds}")
        runs.append([_run_each(both, kind, first=number % 2) for kind in WARM])
    return _results(WARM, runs[WARM_ROUNDS:], both)


def measure_cold(both: Sequence[Site], *, rounds: int, tell: Tell) -> list[Result]:
    """Redis is emptied before each kind of each round."""
    runs = []
    for number in range(rounds):
        tell(f"cold, round {number + 1} of {rounds}")
        runs.append([_run_cold(both, kind, first=number % 2) for kind in COLD])
    return _results(COLD, runs, both)


def measure_first(site: Site) -> list[Result]:
    """So many devices' first heartbeats after Redis was emptied, and what they ask of Postgres."""
    world = site.world
    bodies = site.load.first_heartbeats(min(FIRST_HEARTBEATS, world.data.licenses))
    _empty_redis([site])
    before, transactions = world.cost(), world.transactions()
    sent = send_each(world.heartbeat.url + "/v1/heartbeat", bodies)
    cost = world.cost().since(before).over(sent.requests / 1e6)
    asked = (world.transactions() - transactions) / sent.requests
    name = f"{sent.requests:,} first heartbeats"
    return [
        measured(f"{name}: rate", [sent.rate], unit="requests/s"),
        measured(f"{name}: CPU", [cost.total], unit="µs a request"),
        measured(f"{name}: transactions of Postgres", [asked], unit="a request"),
        measured(f"{name}: p99", [sent.p99_ms], unit="ms"),
    ]


def _run_cold(both: Sequence[Site], kind: Kind, *, first: int) -> list[Cost]:
    _empty_redis(both)
    return _run_each(both, kind, first=first)


def _run_each(both: Sequence[Site], kind: Kind, *, first: int) -> list[Cost]:
    """What a request costs, in microseconds, in the order of the sites, of which either may be the first to run."""
    costs = {place: _run(both[place], kind) for place in (first, 1 - first)}
    return [costs[0], costs[1]]


def _empty_redis(some: Sequence[Site]) -> None:
    for site in some:
        site.world.empty_redis()
    await_watermark([site.world for site in some])


def _run(site: Site, kind: Kind) -> Cost:
    bodies = kind.bodies(site.load, kind.count)
    service = site.world.heartbeat if kind.path == "/v1/heartbeat" else site.world.activation
    before = site.world.cost()
    sent = send_each(service.url + kind.path, bodies)
    return site.world.cost().since(before).since(site.rest.over(1 / sent.seconds)).over(sent.requests / 1e6)


def _results(kinds: Sequence[Kind], runs: Sequence[Sequence[Sequence[Cost]]], both: Sequence[Site]) -> list[Result]:
    large, small = (f"{site.world.data.devices:,} devices" for site in both)
    results = []
    for place, kind in enumerate(kinds):
        costs = [one[place] for one in runs]
        name = f"{kind.name}: CPU with {large}"
        totals = [(one.total, other.total) for one, other in costs]
        results.append(compared(name, totals, unit="µs a request", against=small, target=FLAT))
        for part in Cost.__struct_fields__:
            pairs = [(float(getattr(one, part)), float(getattr(other, part))) for one, other in costs]
            if all(other > SEEN_US for _, other in pairs):
                results.append(compared(f"{name}, {part}", pairs, unit="µs a request", against=small))
    return results
