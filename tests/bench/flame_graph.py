"""A flame graph: where a process was whenever it was looked at, as an SVG that needs nothing else.

A frame is as wide as its share of the samples, stands on its caller, and has the colour of its origin. What almost all
samples share at the bottom, and what is too thin to see, is left out.
"""

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

import msgspec

WIDTH, ROW, MARGIN, HEAD = 1200, 17, 10, 60
THINNEST = 0.003
COMMON = 0.97
_LETTER = 6.7
_OURS = ("services", "shared")
_COLOURS = {
    "ours": "#f2a65a",
    "aiohttp": "#8fb8de",
    "asyncpg": "#a3c9a8",
    "redis": "#e59a9a",
    "aio_pika": "#c7a9d6",
    "others": "#d6d2c4",
}
_PART_OF = {**dict.fromkeys(_OURS, "ours"), "aiormq": "aio_pika", "pamqp": "aio_pika"}


class Frame(msgspec.Struct, kw_only=True):
    """A function, `name (file)`, as called by those below it. `samples` counts it with all that it called."""

    name: str
    samples: int = 0
    calls: dict[str, "Frame"] = msgspec.field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Whose code this is."""
        package = self.name.rpartition("(")[2].partition("/")[0]
        origin = _PART_OF.get(package, package)
        return origin if origin in _COLOURS else "others"

    @property
    def own(self) -> int:
        """The samples in which it called nobody."""
        return self.samples - sum(called.samples for called in self.calls.values())


class Place(NamedTuple):
    """Where a frame stands: so many samples are left of it, and so many frames below."""

    frame: Frame
    left: int
    depth: int


def read(folded: str) -> Frame:
    """The tree of stacks that were folded to lines, `caller;called COUNT`."""
    root = Frame(name="all")
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        at = root
        at.samples += int(count)
        for name in stack.split(";"):
            at = at.calls.setdefault(name, Frame(name=name))
            at.samples += int(count)
    return root


def shares(root: Frame) -> dict[str, float]:
    """The part of the samples that each origin's own code took, in the order of the colours."""
    counts = dict.fromkeys(_COLOURS, 0)
    for frame, _, _ in _places(root):
        counts[frame.origin] += frame.own
    return {origin: count / root.samples for origin, count in counts.items() if count}


def draw(root: Frame, title: str) -> str:
    """The SVG, with the first caller at its bottom."""
    bottom = _above_the_common(root)
    places = list(_places(bottom, least=THINNEST * bottom.samples))
    height = HEAD + ROW * (1 + max(place.depth for place in places)) + MARGIN
    parts = " ".join(
        f'<tspan fill="{_COLOURS[origin]}">■</tspan> {origin} {share:.0%}' for origin, share in shares(root).items()
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace"'
            ' font-size="11">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="{MARGIN}" y="22" font-size="15">{escape(title)}</text>',
            f'<text x="{MARGIN}" y="44">{root.samples:,} samples, by whose code ran: {parts}</text>',
            *(_drawn(place, bottom.samples, height) for place in places),
            "</svg>\n",
        ]
    )


def _places(frame: Frame, left: int = 0, depth: int = 0, *, least: float = 0) -> Iterator[Place]:
    """The frame and all above it, but for those with fewer samples than `least`."""
    yield Place(frame, left, depth)
    for _, called in sorted(frame.calls.items()):
        if called.samples >= least:
            yield from _places(called, left, depth + 1, least=least)
        left += called.samples


def _above_the_common(root: Frame) -> Frame:
    at = root
    while at.calls and (most := max(at.calls.values(), key=lambda one: one.samples)).samples >= COMMON * root.samples:
        at = most
    return at


def _drawn(place: Place, samples: int, height: int) -> str:
    frame, left, depth = place
    scale = (WIDTH - 2 * MARGIN) / samples
    x, y = MARGIN + left * scale, height - MARGIN - ROW * (depth + 1)
    width = frame.samples * scale
    letters = int((width - 4) / _LETTER)
    text = frame.name if len(frame.name) <= letters else f"{frame.name[: letters - 1]}…"
    label = f'<text x="{x + 3:.1f}" y="{y + 12}">{escape(text)}</text>' if letters > 2 else ""
    return (
        f'<g><title>{escape(frame.name)}: {frame.samples / samples:.1%}</title><rect x="{x:.1f}" y="{y}"'
        f' width="{width:.1f}" height="{ROW - 1}" fill="{_COLOURS[frame.origin]}"/>{label}</g>'
    )
