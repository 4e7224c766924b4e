"""What a benchmark found, to be read: cells of a table, plots, and one HTML page that needs no other file.

Plots are of rows that belong together by their names: `X at 50% of the peak: p99` and `X: CPU of Y`.
"""

import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib

from tests.bench.results import BUILD, Result

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HEADINGS = ("measured", "value", "unit", "against", "base", "ratio", "min-max", "gate", "aim", "met")
MARKDOWN_HEADINGS = ("measured", "value", "against", "ratio", "min–max", "gate", "aim", "reached")
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
README_PLOTS = ("targets", "latency")
NOTES = (
    "Every figure is the median of interleaved rounds; min and max are those of the ratio, or of the value where "
    "nothing is compared.",
    "Postgres (fsync on), Valkey, RabbitMQ, the services and the load share this machine; ratios compare like with "
    "like on it.",
    "Limits are the default ones, but for the limit of requests by license where licenses are activated: it is raised, "
    "or one hot license would be throttled.",
    "A process has 128 connections, and pgbench as many clients; each of four processes has 64.",
    "Latencies are measured by an open loop with arrivals by chance, from the moment that a request was due.",
)

_LATENCY = re.compile(r"(.+) at (\d+%) of the peak: (p[\d.]+)")
_CPU = re.compile(r"(.+): CPU of (.+)")
_GOOD, _NEAR, _BAD, _PLAIN = "#2a7f62", "#c9a227", "#b3432b", "#4a6fa5"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, td:nth-child(3), td:nth-child(4) { text-align: left }
.met { color: #2a7f62 } .missed { color: #b3432b; font-weight: 600 }
figure { margin: 2rem 0 } svg { max-width: 100%; height: auto }
"""


def cells(one: Result) -> tuple[str, ...]:
    """A row as texts, under `HEADINGS`."""
    return (
        one.name,
        number(one.value),
        one.unit,
        one.against or "",
        number(one.base),
        number(one.ratio),
        f"{number(one.min)}-{number(one.max)}",
        number(one.target),
        number(one.aim),
        verdict(one),
    )


def in_order(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """What has a target, and then what tells why."""
    return [one for one in results if one.target is not None], [one for one in results if one.target is None]


def number(figure: float | None) -> str:
    """With three digits that tell, or all that stand before the point."""
    if figure is None:
        return ""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def verdict(one: Result) -> str:
    if one.met is None:
        return ""
    return ("aim" if one.aim_met else "gate") if one.met else "missed"


def markdown(about: Mapping[str, object], results: Sequence[Result]) -> str:
    """The rows that have a target, as documents show them."""
    rows = [
        (
            one.name,
            f"{number(one.value)} {one.unit}",
            " ".join(filter(None, (one.against, number(one.base)))),
            number(one.ratio),
            f"{number(one.min)}–{number(one.max)}",
            number(one.target),
            number(one.aim),
            verdict(one),
        )
        for one in in_order(results)[0]
    ]
    lines = [f"| {' | '.join(row)} |" for row in (MARKDOWN_HEADINGS, ("---",) * len(MARKDOWN_HEADINGS), *rows)]
    return "\n".join([", ".join(f"{name} {value}" for name, value in about.items()) + ".", "", *lines])


def fill(path: Path, text: str, *, begin: str = BEGIN, end: str = END) -> None:
    """Put it in the place that the document has for it. Raises `ValueError` where it has none."""
    document = path.read_text(encoding="utf-8")
    before, began, rest = document.partition(begin)
    _, ended, after = rest.partition(end)
    if not began or not ended:
        raise ValueError(f"{path} has no place between {begin} and {end}")
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def draw(about: Mapping[str, object], results: Sequence[Result], images: Path | None) -> Path:
    """Write `build/bench.html`, and each plot as `build/NAME.png`; those that the README shows go to `images` too."""
    BUILD.mkdir(exist_ok=True)
    figures = {}
    for name, figure in plots(results).items():
        figure.savefig(BUILD / f"{name}.png", dpi=110)
        if images is not None and name in README_PLOTS:
            images.mkdir(parents=True, exist_ok=True)
            figure.savefig(images / f"{name}.png", dpi=110)
        figures[name] = _svg(figure)
    path = BUILD / "bench.html"
    path.write_text(page(about, results, figures.values()), encoding="utf-8")
    return path


def page(about: Mapping[str, object], results: Sequence[Result], figures: Iterable[str]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in HEADINGS)
    machine = " · ".join(f"{html.escape(name)} {html.escape(str(value))}" for name, value in about.items())
    return "\n".join(
        (
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>Seatkeeper benchmark</title><style>{_STYLE}</style>',
            f"</head><body><h1>Seatkeeper benchmark</h1><p>{machine}</p>",
            *(f"<figure>{figure}</figure>" for figure in figures),
            f"<table><thead><tr>{head}</tr></thead><tbody>",
            *(_row(one) for some in in_order(results) for one in some),
            "</tbody></table>",
            *(f"<p>{html.escape(note)}</p>" for note in NOTES),
            "</body></html>\n",
        )
    )


def plots(results: Sequence[Result]) -> dict[str, Figure]:
    """The plots that these rows give something for."""
    drawn = {"targets": _targets(results), "latency": _latency(results), "cpu": _cpu(results)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _row(one: Result) -> str:
    *texts, last = cells(one)
    kind = "" if one.met is None else ' class="met"' if one.met else ' class="missed"'
    return "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in texts) + f"<td{kind}>{last}</td></tr>"


def _targets(results: Sequence[Result]) -> Figure | None:
    """How much of its gate each row reaches, more being better, and where the aim lies."""
    judged = [one for one in results if one.target is not None][::-1]
    if not judged:
        return None
    figure, axes = pyplot.subplots(figsize=(10, 0.8 + 0.42 * len(judged)), layout="constrained")
    for place, one in enumerate(judged):
        reached = [_reached(one, figure) for figure in (_figure(one), one.min, one.max)]
        colour = _GOOD if one.aim_met else _NEAR if one.met else _BAD
        axes.barh(place, reached[0], color=colour, height=0.6)
        axes.hlines(place, min(reached[1:]), max(reached[1:]), color="#222", linewidth=1.5)
        assert one.aim is not None
        axes.plot(_reached(one, one.aim), place, marker="D", color="#222", markersize=4)
    axes.axvline(1, color="#222", linewidth=1)
    axes.set_yticks(range(len(judged)), [f"{one.name}: {number(_figure(one))}" for one in judged])
    axes.set_xlim(0, min(3.0, max(2.0, *(_reached(one, one.max) for one in judged))))
    axes.set_xlabel("part of the gate that is reached (1 = gate, ◆ = aim; more is better)")
    _plain(axes)
    return figure


def _figure(one: Result) -> float:
    return one.value if one.ratio is None else one.ratio


def _reached(one: Result, figure: float) -> float:
    """1 at the gate, more where it is better. Where gate and aim are one, what was met tells which side is better."""
    assert one.target is not None
    assert one.aim is not None
    less_is_better = one.aim < one.target or (one.aim == one.target and one.met == (_figure(one) <= one.target))
    if not less_is_better:
        return figure / one.target
    return one.target / max(figure, 1e-9)


def _latency(results: Sequence[Result]) -> Figure | None:
    found: dict[str, dict[str, list[tuple[str, float]]]] = {}
    for one in results:
        if match := _LATENCY.fullmatch(one.name):
            path, load, part = match.groups()
            found.setdefault(path, {}).setdefault(load, []).append((part, one.value))
    if not found:
        return None
    figure, all_axes = pyplot.subplots(
        1, len(found), figsize=(3.6 * len(found) + 0.6, 3.4), layout="constrained", squeeze=False, sharey=True
    )
    for axes, (path, loads) in zip(all_axes[0], found.items(), strict=True):
        for colour, (load, points) in zip((_PLAIN, _BAD), loads.items(), strict=False):
            axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=f"{load} of the peak")
        axes.set_yscale("log")
        axes.set_title(path, fontsize=10)
        _plain(axes)
    all_axes[0][0].set_ylabel("ms, from the moment it was due")
    all_axes[0][0].legend(frameon=False, fontsize=8)
    return figure


def _cpu(results: Sequence[Result]) -> Figure | None:
    found: dict[str, dict[str, float]] = {}
    for one in results:
        if (match := _CPU.fullmatch(one.name)) and one.unit == "µs a request":
            found.setdefault(match[1], {})[match[2]] = one.value
    if not found:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 0.9 + 0.42 * len(found)), layout="constrained")
    left = [0.0] * len(found)
    whose = list(dict.fromkeys(who for parts in found.values() for who in parts))
    for who in whose:
        widths = [parts.get(who, 0.0) for parts in found.values()]
        axes.barh(range(len(found)), widths, left=left, label=who, height=0.6)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_xlabel("µs of processor time a request")
    axes.legend(frameon=False, fontsize=8)
    _plain(axes)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, alpha=0.25)
    axes.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    """The plot as an element to stand in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    pyplot.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
