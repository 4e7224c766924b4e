"""The cost of each kind of request at both sizes: processor time, requests a second, and who spent the time."""

import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from tests.bench.exact import send_each
from tests.bench.scale_load import Load
from tests.bench.scale_result import PART, Result, of_figures, of_pairs
from tests.bench.scale_world import Cost, World, await_watermark

FLAT = 1.15
REST_S = 4.0
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


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One round: microseconds of processor time by request, and requests a second."""

    cost: Cost
    rate: float


WARM = (
    Kind(name="heartbeat, warm", path="/v1/heartbeat", count=8000, bodies=Load.heartbeats),
    Kind(name="heartbeat that is committed", path="/v1/heartbeat", count=800, bodies=Load.due_heartbeats),
    Kind(name="validation, warm", path="/v1/validate", count=8000, bodies=Load.validations),
    Kind(name="validation with fingerprint, warm", path="/v1/validate", count=8000, bodies=Load.device_validations),
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


def measure_warm(both: Sequence[Site], *, rounds: int) -> list[Result]:
    """The larger site comes first. One round more is sent than is counted."""
    for site in both:
        send_each(site.world.activation.url + "/v1/validate", site.load.each_validated())
    runs = []
    for number in range(rounds + 1):
        tell(f"warm, round {number} of {rounds}")
        runs.append([_run_each(both, kind, first=number % 2) for kind in WARM])
    return _results(WARM, runs[1:])


def measure_cold(both: Sequence[Site], *, rounds: int) -> list[Result]:
    """Redis is emptied before each kind of each round."""
    runs = []
    for number in range(rounds):
        tell(f"cold, round {number + 1} of {rounds}")
        runs.append([_run_cold(both, kind, first=number % 2) for kind in COLD])
    return _results(COLD, runs)


def measure_first(site: Site) -> list[Result]:
    """So many devices' first heartbeats after Redis was emptied, and what they ask of Postgres."""
    tell("first heartbeats")
    world = site.world
    bodies = site.load.first_heartbeats(min(FIRST_HEARTBEATS, world.data.licenses))
    _empty_redis([site])
    before, transactions = world.cost(), world.transactions()
    sent = send_each(world.heartbeat.url + "/v1/heartbeat", bodies)
    cost = world.cost().since(before).over(sent.requests / 1e6)
    asked = (world.transactions() - transactions) / sent.requests
    name = f"{sent.requests:,} first heartbeats"
    return [
        of_figures(f"{name}: rate", "requests/s", [sent.rate]),
        of_figures(f"{name}: cost", "µs of CPU", [cost.total]),
        of_figures(f"{name}: transactions of Postgres each", "a heartbeat", [asked]),
        of_figures(f"{name}: p99", "ms", [sent.p99_ms]),
    ]


def tell(what: str) -> None:
    """Progress for whoever looks on."""
    if sys.stderr.isatty():
        print(f"{what:<60}", end="\r", file=sys.stderr, flush=True)


def _run_cold(both: Sequence[Site], kind: Kind, *, first: int) -> list[Figures]:
    _empty_redis(both)
    return _run_each(both, kind, first=first)


def _run_each(both: Sequence[Site], kind: Kind, *, first: int) -> list[Figures]:
    """The figures in the order of the sites, of which either may be the first to run."""
    figures = {place: _run(both[place], kind) for place in (first, 1 - first)}
    return [figures[0], figures[1]]


def _empty_redis(some: Sequence[Site]) -> None:
    for site in some:
        site.world.empty_redis()
    await_watermark([site.world for site in some])


def _run(site: Site, kind: Kind) -> Figures:
    bodies = kind.bodies(site.load, kind.count)
    service = site.world.heartbeat if kind.path == "/v1/heartbeat" else site.world.activation
    before = site.world.cost()
    sent = send_each(service.url + kind.path, bodies)
    cost = site.world.cost().since(before).since(site.rest.over(1 / sent.seconds))
    return Figures(cost=cost.over(sent.requests / 1e6), rate=sent.rate)


def _results(kinds: Sequence[Kind], runs: Sequence[Sequence[Sequence[Figures]]]) -> list[Result]:
    results = []
    for place, kind in enumerate(kinds):
        pairs = [(large, small) for large, small in (one[place] for one in runs)]
        costs = [(large.cost.total, small.cost.total) for large, small in pairs]
        results.append(of_pairs(f"{kind.name}: cost", "µs of CPU", costs, flat=FLAT))
        results += [
            of_pairs(PART + part, "µs of CPU", [(_part(large, part), _part(small, part)) for large, small in pairs])
            for part in Cost.__struct_fields__
        ]
        rates = [(large.rate, small.rate) for large, small in pairs]
        results.append(of_pairs("  rate", "requests/s", rates))
    return results


def _part(figures: Figures, name: str) -> float:
    return max(float(getattr(figures.cost, name)), 0.01)
