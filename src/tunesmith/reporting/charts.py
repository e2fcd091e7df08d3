"""The parts of which figures are made: SVG elements, scales, axes, markers.

Lengths are in user units of a view box that is about as many CSS pixels wide. Colours come from the page: an element
of class ``c0`` to ``c7`` takes the colour of that candidate through ``var(--c)``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup, escape

WIDTH = 400
SLOTS = 8
CHARACTER = 7.0  # width of a character in the charts' text size, in a wide font
LINE = 15  # least distance between two labels


def tag(name: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return one element; text and attribute values are escaped, ``None`` attributes are left out.

    A trailing underscore is dropped from attribute names, others become hyphens.

    >>> tag("text", "a < b", x=1.504, class_="c0", text_anchor="end")
    Markup('<text x="1.5" class="c0" text-anchor="end">a &lt; b</text>')
    >>> tag("line", x1=0)
    Markup('<line x1="0"/>')
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if not children:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{''.join(escape(child) for child in children)}</{name}>")


def figure(parts: Sequence[Markup], *, label: str, height: float, width: float = WIDTH) -> Markup:
    """Return the whole drawing; ``label`` says in words what it shows."""
    return tag(
        "svg", *parts, class_="chart", viewBox=f"0 0 {_plain(width)} {_plain(height)}", role="img", aria_label=label
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to places on the drawing, linear or logarithmic."""

    low: float
    high: float
    start: float  # place of ``low``
    end: float  # place of ``high``
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of ``value``."""
        low, high, at = (log10(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (self.end - self.start) * ((at - low) / (high - low) if high > low else 0.5)

    def ticks(self, about: int = 5) -> list[float]:
        """Return round values within the scale."""
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high, about)


def linear_ticks(low: float, high: float, about: int) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten between ``low`` and ``high``.

    >>> linear_ticks(0.3, 9.2, 5)
    [2.0, 4.0, 6.0, 8.0]
    """
    if high <= low:
        return [low]
    raw = (high - low) / about
    power = 10.0 ** floor(log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten between ``low`` and ``high``; with what lies between them where there would be only one.

    >>> log_ticks(300, 2e6), log_ticks(2, 60), log_ticks(5.1, 7.4)
    ([1000.0, 10000.0, 100000.0, 1000000.0], [2.0, 5.0, 10.0, 20.0, 50.0], [5.5, 6.0, 6.5, 7.0])
    """
    exponents = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [float(f"{factor}e{exponent}") for exponent in exponents for factor in factors]
        within = [value for value in found if low * 0.999 <= value <= high * 1.001]
        if len(within) > 1:
            return within[:: ceil(len(within) / 7)]
    return linear_ticks(low, high, 5)


def tick_decimals(ticks: Sequence[float]) -> int:
    """Return how many decimals tell ``ticks`` apart exactly.

    >>> tick_decimals([1.0, 1.5, 2.0]), tick_decimals([0.0, 10.0])
    (1, 0)
    """
    most = 5
    return next((n for n in range(most) if all(abs(round(tick, n) - tick) < 1e-9 for tick in ticks)), most)


def around(values: Sequence[float], margin: float = 0.05) -> tuple[float, float]:
    """Return the range of ``values`` with a margin on both sides; never an empty one."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = (high - low) * margin or abs(high) * margin or 1.0
    return low - room, high + room


def x_axis(scale: Scale, y: float, *, text: Callable[[float], str], title: str, about: int = 5) -> Markup:
    """Return tick marks and labels below ``y`` and the title of the axis under them."""
    parts = []
    for value in scale.ticks(about):
        at = scale(value)
        parts.append(tag("line", x1=at, x2=at, y1=y, y2=y + 4, class_="axis"))
        parts.append(tag("text", text(value), x=at, y=y + 17, class_="tick", text_anchor="middle"))
    middle = (scale.start + scale.end) / 2
    parts.append(tag("text", title, x=middle, y=y + 34, class_="title", text_anchor="middle"))
    parts.append(tag("line", x1=scale.start, x2=scale.end, y1=y, y2=y, class_="axis"))
    return Markup("").join(parts)


def y_axis(scale: Scale, *, left: float, right: float, text: Callable[[float], str]) -> Markup:
    """Return light lines across from ``left`` to ``right`` with labels on their left."""
    parts = []
    for value in scale.ticks():
        at = scale(value)
        parts.append(tag("line", x1=left, x2=right, y1=at, y2=at, class_="grid"))
        parts.append(tag("text", text(value), x=left - 6, y=at + 4, class_="tick", text_anchor="end"))
    return Markup("").join(parts)


def path(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    """Return a line through ``points``."""
    return tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), class_=class_)


def marker(slot: int, x: float, y: float, radius: float = 4.5) -> Markup:
    """Return the sign of a candidate: every slot has a colour and a shape, so that neither is needed alone."""
    class_ = f"mark {slot_class(slot)}"
    corners = {
        1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        2: [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        3: [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
        4: [(0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        5: [(0, -1.2), (1.14, -0.37), (0.7, 0.97), (-0.7, 0.97), (-1.14, -0.37)],
        6: [(-1.2, -0.6), (1.2, -0.6), (1.2, 0.6), (-1.2, 0.6)],
        7: [(-0.6, -1.2), (0.6, -1.2), (0.6, 1.2), (-0.6, 1.2)],
    }.get(_slot(slot))
    if corners is None:
        return tag("circle", cx=x, cy=y, r=radius, class_=class_)
    return tag(
        "polygon", points=" ".join(f"{x + dx * radius:.1f},{y + dy * radius:.1f}" for dx, dy in corners), class_=class_
    )


def slot_class(slot: int) -> str:
    """Return the class that gives an element the colour of the candidate in this place."""
    return f"c{_slot(slot)}"


def _slot(place: int) -> int:
    """Colours and shapes come again after the last one, but the first is left to the baseline."""
    return place if place < SLOTS else 1 + (place - 1) % (SLOTS - 1)


def settle(labels: Sequence[tuple[float, float, float]], *, low: float, high: float) -> list[float]:
    """Return a height for each label so that none covers another, as near as can be to the height it asks for.

    Args:
        labels: left end, wished height and width of each.
        low: least height.
        high: greatest height.

    >>> settle([(0, 50, 40), (20, 52, 40), (90, 51, 40)], low=0, high=100)
    [50, 67, 51]
    """
    placed: list[tuple[float, float, float]] = []
    for x, wish, width in labels:
        tries = [wish + sign * LINE * step for step in range(len(labels) + 1) for sign in (1, -1)]
        free = [
            y
            for y in tries
            if low <= y <= high
            and all(abs(y - other) >= LINE or x + width < left or left + wide < x for left, other, wide in placed)
        ]
        placed.append((x, free[0] if free else wish, width))
    return [y for _, y, _ in placed]


def short(name: str, characters: int) -> str:
    """Return ``name``, or its beginning with an ellipsis if it is longer than ``characters``."""
    return name if len(name) <= characters else name[: characters - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
