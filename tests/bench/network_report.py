"""What was found on the networks: figures of each, as a table, as text for documents, and as a plot."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, median
from typing import Any
from uuid import UUID

import matplotlib
import msgspec
from rich.table import Table

from tests.bench.network_clients import Outcome
from tests.bench.network_way import Network
from tests.bench.open_loop import percentile
from tests.bench.results import BUILD

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

LEAST = 0.999
CALIBRATED_WITHIN = 0.015
NAIVE, SDK = "without retries", "SDK"
BEGIN, END = "<!-- networks -->", "<!-- /networks -->"
HEADINGS = (
    *("network", "client", "activations", "succeeded", "min–max by license", "median s", "p95 s", "max s"),
    *("attempts each", "devices", "seats used", "seats left behind", "reached"),
)
_COLOURS = {NAIVE: "#b3432b", SDK: "#2a7f62"}


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """`expected` is the share of single tries that the network serves. Seconds are those of the activations that
    succeeded. `left_behind` counts seats held by devices that know nothing of them; `most_over` is the greatest excess
    of seats over devices among the licenses."""

    network: str
    client: str
    expected: float
    activations: int
    succeeded: int
    least_share: float
    greatest_share: float
    median_s: float
    p95_s: float
    max_s: float
    attempts: float
    most_attempts: int
    devices: int
    seats_used: int
    most_over: int
    failures: dict[str, int]

    @property
    def share(self) -> float:
        return self.succeeded / self.activations

    @property
    def left_behind(self) -> int:
        return self.seats_used - self.succeeded

    @property
    def met(self) -> bool:
        """Never a seat too many; the SDK succeeds; the client without retries as often as the network was set for."""
        if self.client == SDK:
            return self.most_over <= 0 and self.share >= LEAST
        return self.most_over <= 0 and abs(self.share - self.expected) <= CALIBRATED_WITHIN


def found(network: Network, client: str, outcomes: Sequence[Outcome], seats_used: Mapping[UUID, int]) -> Found:
    """The figures of one client on one network; each outcome is another device's."""
    by_license: dict[UUID, list[Outcome]] = defaultdict(list)
    failures: dict[str, int] = defaultdict(int)
    for one in outcomes:
        by_license[one.license].append(one)
        if one.failure is not None:
            failures[one.failure] += 1
    shares = [mean(one.succeeded for one in some) for some in by_license.values()]
    seconds = sorted(one.seconds for one in outcomes if one.succeeded)
    return Found(
        network=network.title,
        client=client,
        expected=network.good,
        activations=len(outcomes),
        succeeded=len(seconds),
        least_share=min(shares),
        greatest_share=max(shares),
        median_s=median(seconds),
        p95_s=percentile(seconds, 0.95),
        max_s=seconds[-1],
        attempts=mean(one.attempts for one in outcomes),
        most_attempts=max(one.attempts for one in outcomes),
        devices=len(outcomes),
        seats_used=sum(seats_used[license] for license in by_license),
        most_over=max(seats_used[license] - len(some) for license, some in by_license.items()),
        failures=dict(failures),
    )


def cells(one: Found) -> tuple[str, ...]:
    """A row as texts, under `HEADINGS`."""
    return (
        one.network,
        one.client,
        f"{one.activations:,}",
        f"{one.share:.2%}",
        f"{one.least_share:.2%}–{one.greatest_share:.2%}",
        *(f"{seconds:.2f}" for seconds in (one.median_s, one.p95_s, one.max_s)),
        f"{one.attempts:.2f}",
        *(f"{count:,}" for count in (one.devices, one.seats_used, one.left_behind)),
        "yes" if one.met else "missed",
    )


def table(rows: Sequence[Found]) -> Table:
    made = Table(*HEADINGS)
    for one in rows:
        made.add_row(*cells(one), end_section=one.client == SDK)
    return made


def markdown(about: Mapping[str, object], rows: Sequence[Found]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (HEADINGS, ("---",) * len(HEADINGS), *map(cells, rows))]
    return "\n".join([", ".join(f"{name} {value}" for name, value in about.items()) + ".", "", *lines])


def write(about: Mapping[str, object], rows: Sequence[Found]) -> Path:
    """Keep the figures as `build/networks.json`."""
    BUILD.mkdir(exist_ok=True)
    path = BUILD / "networks.json"
    path.write_text(json.dumps({"machine": about, "results": msgspec.to_builtins(rows)}, indent=2) + "\n")
    return path


def draw(rows: Sequence[Found], folders: Sequence[Path]) -> None:
    """The plot, as `networks.png` in each folder."""
    figure, (failing, times) = pyplot.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    _bars(failing, rows, [100 * (1 - one.share) for one in rows], "{:.2g}")
    failing.axhline(100 * (1 - LEAST), color="#222", linewidth=0.8)
    failing.set_title(f"activations that fail, % (line: {100 * (1 - LEAST):.1f})", fontsize=10)
    failing.legend(frameon=False, fontsize=8, loc="upper left")
    _bars(times, rows, [one.median_s for one in rows], "{:.2g}", label_type="center", color="white")
    for place, one in _places(rows):
        times.vlines(place, one.median_s, one.p95_s, color="#222", linewidth=1.2)
    times.set_yscale("log")
    times.set_ylim(bottom=0.02)
    times.set_title("seconds of those that succeed: median, and up to p95", fontsize=10)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / "networks.png", dpi=110)
    pyplot.close(figure)


def _bars(axes: Axes, rows: Sequence[Found], values: Sequence[float], form: str, **label: Any) -> None:
    networks = list(dict.fromkeys(one.network for one in rows))
    for client, colour in _COLOURS.items():
        mine = [
            (place, value) for (place, one), value in zip(_places(rows), values, strict=True) if one.client == client
        ]
        places, heights = [place for place, _ in mine], [value for _, value in mine]
        bars = axes.bar(places, heights, width=0.38, color=colour, label=client)
        axes.bar_label(bars, fmt=form, fontsize=8, **label)
    axes.set_xticks(range(len(networks)), networks)
    axes.spines[["top", "right"]].set_visible(False)


def _places(rows: Sequence[Found]) -> list[tuple[float, Found]]:
    """Where each bar stands: the clients of a network side by side."""
    networks = list(dict.fromkeys(one.network for one in rows))
    return [(networks.index(one.network) + (-0.2 if one.client == NAIVE else 0.2), one) for one in rows]
