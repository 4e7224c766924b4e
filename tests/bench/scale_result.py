"""The figures of `make bench-scale`: a row for each, as a table and as build/bench-scale.json."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

FILE = Path("build/bench-scale.json")
PART = "  of it "


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A median with its least and greatest. `against` is the same at the smaller size, `ratio` the median of the ratios
    of each round. `met` is None where there is no target."""

    name: str
    value: float
    unit: str
    against: float | None = None
    ratio: float | None = None
    min: float
    max: float
    target: str | None = None
    met: bool | None = None


def of_figures(
    name: str, unit: str, figures: Sequence[float], *, least: float | None = None, most: float | None = None
) -> Result:
    """A row of one size's figures. The target is `least` or `most`."""
    value = median(figures)
    target = f"{least:,.0f} or more" if least is not None else f"{most:,.0f} or less" if most is not None else None
    met = value >= least if least is not None else value <= most if most is not None else None
    return Result(name=name, value=value, unit=unit, min=min(figures), max=max(figures), target=target, met=met)


def of_pairs(
    name: str,
    unit: str,
    pairs: Sequence[tuple[float, float]],
    *,
    flat: float | None = None,
    most: float | None = None,
) -> Result:
    """A row of both sizes' figures, the larger first. The target is a ratio of `flat` at most, or `most`."""
    alone = of_figures(name, unit, [large for large, _ in pairs], most=most)
    ratio = median(large / small for large, small in pairs)
    both = replace(alone, against=median(small for _, small in pairs), ratio=ratio)
    return both if flat is None else replace(both, target=f"ratio {flat} or less", met=ratio <= flat)


def show(results: Sequence[Result], *, small: int, large: int) -> None:
    """The table, without the parts of costs."""
    table = Table("measured", f"{large:,}", "min-max", f"{small:,}", "ratio", "unit", "target")
    for one in results:
        if one.name.startswith(PART):
            continue
        verdict = {True: "met", False: "MISSED", None: ""}[one.met]
        table.add_row(
            one.name,
            _number(one.value),
            f"{_number(one.min)}-{_number(one.max)}",
            "" if one.against is None else _number(one.against),
            "" if one.ratio is None else f"{one.ratio:.2f}",
            one.unit,
            f"{one.target}: {verdict}" if one.target else "",
        )
    Console(width=150).print(table)


def write(results: Sequence[Result], machine: dict[str, object]) -> None:
    FILE.parent.mkdir(exist_ok=True)
    described = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        **machine,
    }
    FILE.write_text(json.dumps({"machine": described, "results": msgspec.to_builtins(results)}, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 1 else f"{value:.3f}"
