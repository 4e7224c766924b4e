"""Prometheus metrics of one process.

Rules: names begin with `seatkeeper_`; every room adds its own through the same registry, so a process has exactly one.
Children are looked up once and kept: `.labels()` costs more than the observation itself. A route label is the name
given at registration, never a path that a client sent. HTTP metrics are plain numbers until they are scraped, because
every request pays for them; they belong to the event loop's thread.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

PREFIX = "seatkeeper"
CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class RouteMetrics:
    """The numbers of one route: `observe` is all that a request costs."""

    __slots__ = ("buckets", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.buckets = [0] * (len(SECONDS_BUCKETS) + 1)
        self.seconds = 0.0

    def observe(self, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.buckets[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self.seconds += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        """The buckets as Prometheus counts them: each holds those below it too."""
        bounds = [*map(str, SECONDS_BUCKETS), "+Inf"]
        return [(bound, float(sum(self.buckets[: i + 1]))) for i, bound in enumerate(bounds)]


class Metrics(Collector):
    """The HTTP metrics, and the registry to which the other rooms add theirs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._routes: dict[str, RouteMetrics] = {}
        registry.register(self)

    def route(self, name: str) -> RouteMetrics:
        """The numbers of a route, the same object for the same name."""
        return self._routes.setdefault(name, RouteMetrics())

    def counter(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
        """A new counter `seatkeeper_<name>_total`."""
        return Counter(name, documentation, labels, namespace=PREFIX, registry=self.registry)

    def gauge(self, name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
        """A new gauge `seatkeeper_<name>`."""
        return Gauge(name, documentation, labels, namespace=PREFIX, registry=self.registry)

    def histogram(
        self, name: str, documentation: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS
    ) -> Histogram:
        """A new histogram `seatkeeper_<name>`."""
        return Histogram(name, documentation, labels, namespace=PREFIX, registry=self.registry, buckets=buckets)

    def render(self) -> bytes:
        """The text that Prometheus scrapes, of type `CONTENT_TYPE`."""
        return generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """The HTTP metrics, asked for by the registry."""
        requests = CounterMetricFamily(f"{PREFIX}_http_requests", "HTTP requests answered.", labels=("route", "status"))
        seconds = HistogramMetricFamily(
            f"{PREFIX}_http_request_seconds", "Time to answer an HTTP request.", labels=("route",)
        )
        for name, route in self._routes.items():
            seconds.add_metric((name,), route.cumulative(), route.seconds)
            for status, count in route.statuses.items():
                requests.add_metric((name, str(status)), count)
        yield requests
        yield seconds
