"""What a benchmark found: a row for each thing measured, beside what it was measured against, its gate and its aim."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import msgspec

BUILD = Path("build")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be reached: the gate, and further off the aim. `most` where less is better."""

    gate: float
    aim: float
    most: bool = False

    def met(self, figure: float) -> bool:
        return figure <= self.gate if self.most else figure >= self.gate

    def aim_met(self, figure: float) -> bool:
        return figure <= self.aim if self.most else figure >= self.aim


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One row. `value` and `base` are medians over the rounds; `base` is what `against` names, in the same unit.

    `ratio` is the median of the rounds' own ratios (`value` to `base` of one round); None where nothing is compared.
    `min` and `max` are those of the ratio, or of the value where there is none. `met` is None where no target is set.
    """

    name: str
    value: float
    unit: str
    against: str | None
    base: float | None
    ratio: float | None
    min: float
    max: float
    target: float | None
    aim: float | None
    met: bool | None
    aim_met: bool | None


def compared(
    name: str, pairs: Sequence[tuple[float, float]], *, unit: str, against: str, target: Target | None = None
) -> Result:
    """A row of rounds in which each figure has its yardstick: the target is the ratio's."""
    ratios = [value / base for value, base in pairs]
    return _result(
        name,
        unit,
        ratios,
        target,
        value=median(value for value, _ in pairs),
        against=against,
        base=median(base for _, base in pairs),
        ratio=median(ratios),
    )


def measured(
    name: str, figures: Sequence[float], *, unit: str, target: Target | None = None, against: str | None = None
) -> Result:
    """A row of figures that stand for themselves: the target is theirs."""
    return _result(name, unit, figures, target, value=median(figures), against=against, base=None, ratio=None)


def _result(
    name: str,
    unit: str,
    judged: Sequence[float],
    target: Target | None,
    *,
    value: float,
    against: str | None,
    base: float | None,
    ratio: float | None,
) -> Result:
    figure = value if ratio is None else ratio
    return Result(
        name=name,
        value=value,
        unit=unit,
        against=against,
        base=base,
        ratio=ratio,
        min=min(judged),
        max=max(judged),
        target=None if target is None else target.gate,
        aim=None if target is None else target.aim,
        met=None if target is None else target.met(figure),
        aim_met=None if target is None else target.aim_met(figure),
    )


def machine(**more: object) -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        **more,
    }


def write(name: str, about: Mapping[str, object], results: Sequence[Result]) -> Path:
    """Keep the results as `build/NAME.json`."""
    BUILD.mkdir(exist_ok=True)
    path = BUILD / f"{name}.json"
    document = {"machine": about, "results": msgspec.to_builtins(results)}
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
