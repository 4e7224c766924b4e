"""What every part measures alike: a run's rate and what it cost each process, in interleaved rounds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

from tests.bench.load import Run, load_all
from tests.bench.open_loop import Latencies, open_loop
from tests.bench.options import Options
from tests.bench.results import Result, measured
from tests.bench.world import Service, World

CONNECTIONS = 128
"""So many that a process which Redis serves has always something to do; its share of a core is told."""

WARM_S = 1.0
LOADS = (0.5, 0.9)

Tell = Callable[[str], None]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """`cost_us` is the processor time of a request by who took it, `share` what the services took of a core each."""

    rate: float
    cost_us: dict[str, float]
    share: float | None = None


Take = Callable[[float], Sample]
"""Measures for so many seconds."""


class Site:
    """A path and who serves it, there to be measured. `expected` is what `load_all` is told of the answers."""

    def __init__(
        self,
        world: World,
        services: Sequence[Service],
        path: str,
        bodies: Callable[[], Path],
        *,
        connections: int = CONNECTIONS,
        refused: bool = False,
        each_holds: tuple[str, int] | None = None,
    ) -> None:
        self._world = world
        self._services = services
        self._urls = [service.url + path for service in services]
        self._bodies = bodies
        self._connections = connections
        self._refused = refused
        self._each_holds = each_holds

    def take(self, seconds: float) -> Sample:
        """A run, once the facts of the run before are sent."""
        self._world.await_facts_sent()
        before = self._world.costs(self._services)
        run = self.run(seconds)
        costs = {who: cost - before[who] for who, cost in self._world.costs(self._services).items()}
        return Sample(
            rate=run.rate,
            cost_us={who: 1e6 * cost / run.requests for who, cost in costs.items()},
            share=costs["service"] / len(self._services) * run.rate / run.requests,
        )

    def round_trips(self, name: str, seconds: float) -> list[Result]:
        """What each request asks of the servers, counted in a run of its own."""
        requests = 0

        def work() -> None:
            nonlocal requests
            requests = self.run(seconds).requests

        found = self._world.round_trips(work)
        return [
            measured(f"{name}: statements of Postgres", [found.postgres / requests], unit="a request"),
            measured(f"{name}: round trips to Redis", [found.redis / requests], unit="a request"),
        ]

    def latencies(self, name: str, peak: float, options: Options) -> list[Result]:
        """By an open loop at parts of the peak, which take turns; each run has half of a run's time."""
        found: dict[float, list[Latencies]] = {part: [] for part in LOADS}
        for _ in range(options.rounds):
            for part, runs in found.items():
                runs.append(open_loop(self._urls[0], self._bodies(), rate=part * peak, seconds=options.seconds / 2))
        return [
            measured(f"{name} at {part:.0%} of the peak: {label}", [getattr(run, of) for run in runs], unit="ms")
            for part, runs in found.items()
            for label, of in (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"))
        ]

    def run(self, seconds: float) -> Run:
        """Post as fast as all the connections allow."""
        return load_all(
            self._urls,
            self._bodies(),
            connections=self._connections,
            seconds=seconds,
            refused=self._refused,
            each_holds=self._each_holds,
        )


def interleaved(kinds: Mapping[str, Take], options: Options, seconds: float, tell: Tell) -> dict[str, list[Sample]]:
    """The samples of each kind, one by round; each is warmed up first."""
    for take in kinds.values():
        take(WARM_S)
    samples: dict[str, list[Sample]] = {name: [] for name in kinds}
    for number in range(options.rounds):
        for name, take in kinds.items():
            tell(f"round {number + 1} of {options.rounds}: {name}")
            samples[name].append(take(seconds))
    return samples


def pairs(samples: Sequence[Sample], yardsticks: Sequence[Sample]) -> list[tuple[float, float]]:
    """The rates of each round beside the yardstick's."""
    return [(one.rate, other.rate) for one, other in zip(samples, yardsticks, strict=True)]


def cost_pairs(samples: Sequence[Sample], yardsticks: Sequence[Sample]) -> list[tuple[float, float]]:
    """The services' own processor time of a request in each round, beside the yardstick's."""
    return [(one.cost_us["service"], other.cost_us["service"]) for one, other in zip(samples, yardsticks, strict=True)]


def costs(name: str, samples: Sequence[Sample]) -> list[Result]:
    """Rows of who took how much of the processor for a request."""
    rows = [
        measured(f"{name}: CPU of {who}", [sample.cost_us[who] for sample in samples], unit="µs a request")
        for who in samples[0].cost_us
    ]
    busy = [100 * sample.share for sample in samples if sample.share is not None]
    return [*rows, measured(f"{name}: the process's share of a core", busy, unit="%")] if busy else rows


def peak(samples: Sequence[Sample]) -> float:
    return median(sample.rate for sample in samples)
