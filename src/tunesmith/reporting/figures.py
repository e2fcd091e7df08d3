"""The figures of a report, as inline SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith.records import Comparison
from tunesmith.reporting.charts import (
    CHARACTER,
    WIDTH,
    Scale,
    around,
    figure,
    marker,
    path,
    settle,
    short,
    slot_class,
    tag,
    tick_decimals,
    x_axis,
    y_axis,
)
from tunesmith.reporting.contents import TaskReport
from tunesmith.reporting.side_by_side import Cell, Column, difference_text
from tunesmith.wording import fixed, signed

NAME_CHARACTERS = 15


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot: training is drawn thin, validation bold with markers."""

    name: str
    slot: int
    points: tuple[tuple[float, float], ...]
    bold: bool
    best: tuple[float, float] | None = None  # the kept checkpoint


@dataclass(frozen=True, slots=True)
class Axis:
    """What runs along one side of a plot."""

    title: str
    text: Callable[[float], str] | None = None  # how tick values are written; None: as plain numbers
    log: bool = False


@dataclass(frozen=True, slots=True)
class Gain:
    """Gain of one candidate over zero-shot, and how many parameters it took."""

    name: str
    slot: int
    trainable: int | None  # None = not known, the candidate is not finished
    comparison: Comparison


def interval_bar(cell: Cell, column: Column, slot: int) -> Markup:
    """Return a score as a dot on its 95 % interval; all cells of a column share one axis."""
    width, middle = 104, 8
    x = Scale(*around([column.low, column.high]), start=2, end=width - 2)
    score = cell.score
    parts = [
        tag("line", x1=2, x2=width - 2, y1=middle, y2=middle, class_="grid"),
        tag("line", x1=x(score.low), x2=x(score.high), y1=middle, y2=middle, class_=f"interval {slot_class(slot)}"),
        marker(slot, x(score.value), middle, 4),
    ]
    label = f"{cell.value} {column.unit}, 95 % interval {cell.interval}"
    return figure(parts, label=label, height=16, width=width)


def forest(gains: Sequence[Gain], column: Column) -> Markup:
    """Return the differences to zero-shot with their intervals, one row for each candidate."""
    row, top = 28, 22
    bottom = top + row * len(gains)
    written = [difference_text(gain.comparison, column.decimals) for gain in gains]
    texts = [f"{difference} ({interval})" for difference, interval in written]
    left, right = _names_room([gain.name for gain in gains]), WIDTH - 16 - CHARACTER * max(map(len, texts), default=0)
    ends = [end for gain in gains for end in (gain.comparison.low, gain.comparison.high)]
    x = Scale(*around([0.0, *ends]), start=left, end=right)
    parts = [
        tag("line", x1=x(0), x2=x(0), y1=top - 4, y2=bottom, class_="zero"),
        tag("text", "zero-shot", x=x(0), y=top - 9, class_="tick", text_anchor="middle"),
    ]
    for place, gain in enumerate(gains):
        y, found = top + row * (place + 0.5), gain.comparison
        parts.append(_name(gain.name, left - 12, y + 4))
        parts.append(
            tag("line", x1=x(found.low), x2=x(found.high), y1=y, y2=y, class_=f"interval {slot_class(gain.slot)}")
        )
        parts.append(marker(gain.slot, x(found.difference), y))
        parts.append(tag("text", texts[place], x=WIDTH, y=y + 4, text_anchor="end"))
    places = tick_decimals(x.ticks(4))
    title = f"gain, {column.unit_of_difference}"
    parts.append(x_axis(x, bottom, text=lambda value: signed(value, places), title=title, about=4))
    words = "; ".join(f"{gain.name} {text}" for gain, text in zip(gains, texts, strict=True))
    return figure(parts, label=f"{column.title}: difference to zero-shot. {words}.", height=bottom + 40)


def curves(lines: Sequence[Curve], *, x: Axis, y: Axis, label: str) -> Markup:
    """Return a plot of ``lines``, each named at its end; the kept checkpoint wears a ring."""
    top, bottom, left = 10, 200, 42
    named = [line for line in lines if line.points and (line.bold or not _has_bold(lines, line.name))]
    right = WIDTH - 14 - max((name_room(line.name) for line in named), default=0)
    xs = [point[0] for line in lines for point in line.points]
    ys = [point[1] for line in lines for point in line.points]
    across = Scale(min([0.0, *xs]), max([*xs, 1e-9]), start=left, end=right)
    low, high = (min(ys) / 1.2, max(ys) * 1.2) if y.log else around(ys)
    up = Scale(low, high, start=bottom, end=top, log=y.log)
    parts = [y_axis(up, left=left, right=right, text=y.text or _plain_text(up))]
    for line in lines:
        parts.extend(_line(line, across, up))
    ends = [(across(line.points[-1][0]) + 10, up(line.points[-1][1]), name_room(line.name)) for line in named]
    for line, end, height in zip(named, ends, settle(ends, low=top + 4, high=bottom - 6), strict=True):
        parts.append(name_tag(line.name, line.slot, x=end[0], y=height + 4))
    parts.append(x_axis(across, bottom, text=x.text or _plain_text(across), title=x.title))
    return figure(parts, label=label, height=bottom + 40)


def length_histograms(task: TaskReport, slots: dict[str, int]) -> Markup:
    """Return how many words the answers have, one row for each candidate, the targets as an outline."""
    row, left, right = 52, max(84, _names_room([one.candidate for one in task.lengths])), WIDTH - 8
    edges = task.length_edges
    x = Scale(edges[0], edges[-1], start=left, end=right)
    parts = []
    for place, lengths in enumerate(task.lengths):
        base = row * (place + 1)
        shares = _shares(lengths.histogram)
        targets = _shares(task.target_lengths)
        y = Scale(0, max([*shares, *targets, 1e-9]), start=base, end=base - row + 12)
        parts.append(path(_outline(shares, edges, x=x, y=y), f"area {slot_class(slots[lengths.candidate])}"))
        parts.append(path(_outline(targets, edges, x=x, y=y), "outline"))
        parts.append(tag("line", x1=left, x2=right, y1=base, y2=base, class_="grid"))
        parts.append(_name(lengths.candidate, left - 12, base - 16))
        ratio = "" if lengths.ratio is None else f"ratio {fixed(lengths.ratio, 2)}"
        parts.append(tag("text", ratio, x=left - 12, y=base - 1, class_="tick", text_anchor="end"))
    bottom = row * len(task.lengths)
    parts.append(x_axis(x, bottom, text=lambda v: fixed(v, 0), title="words in the answer; outline: in the target"))
    words = "; ".join(f"{one.candidate} median {fixed(one.median, 0)}" for one in task.lengths)
    return figure(parts, label=f"Words per answer. {words}.", height=bottom + 40)


def share_bar(part: float, whole: float) -> Markup:
    """Return a plain bar that fills its box by ``part / whole``."""
    width = 100 * part / whole if whole else 0
    return figure([tag("rect", x=0, y=1, width=width, height=8, class_="bar")], label="", height=10, width=100)


def _name(name: str, x: float, y: float) -> Markup:
    return tag("text", tag("title", name), short(name, NAME_CHARACTERS), x=x, y=y, text_anchor="end")


def name_tag(name: str, slot: int, *, x: float, y: float) -> Markup:
    """Return the name of a candidate in its colour."""
    return tag("text", tag("title", name), short(name, NAME_CHARACTERS), x=x, y=y, class_=f"label {slot_class(slot)}")


def name_room(name: str) -> float:
    """Return how wide a name is when it is written."""
    return CHARACTER * min(len(name), NAME_CHARACTERS)


def _names_room(names: Sequence[str]) -> float:
    return 16 + max((name_room(name) for name in names), default=0)


def beside(x: float, name: str) -> float:
    """Return where a label beside ``x`` begins: on its right, or on its left where it would leave the drawing."""
    return x + 9 if x + 9 + name_room(name) <= WIDTH else x - 9 - name_room(name)


def _line(line: Curve, across: Scale, up: Scale) -> list[Markup]:
    places = [(across(a), up(b)) for a, b in line.points]
    if not places:
        return []
    parts = [path(places, f"{'bold' if line.bold else 'thin'} {slot_class(line.slot)}")]
    parts.extend(marker(line.slot, a, b, 3) for a, b in places if line.bold)
    if line.best:
        at = across(line.best[0]), up(line.best[1])
        parts.append(tag("circle", cx=at[0], cy=at[1], r=8, class_=f"ring {slot_class(line.slot)}"))
    return parts


def _plain_text(scale: Scale) -> Callable[[float], str]:
    decimals = tick_decimals(scale.ticks())
    return lambda value: fixed(value, 0 if scale.log and value >= 1 else decimals)


def _has_bold(lines: Sequence[Curve], name: str) -> bool:
    return any(line.bold and line.points for line in lines if line.name == name)


def _shares(counts: Sequence[int]) -> list[float]:
    return [one / (sum(counts) or 1) for one in counts]


def _outline(shares: Sequence[float], edges: Sequence[int], *, x: Scale, y: Scale) -> list[tuple[float, float]]:
    points = [(x(edges[0]), y(0))]
    for place, height in enumerate(shares):
        points += [(x(edges[place]), y(height)), (x(edges[place + 1]), y(height))]
    return [*points, (x(edges[-1]), y(0))]
