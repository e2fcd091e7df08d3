"""The figure of gain against trainable parameters."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith.reporting.charts import (
    CHARACTER,
    LINE,
    SLOTS,
    WIDTH,
    Scale,
    around,
    figure,
    marker,
    short,
    slot_class,
    tag,
    tick_decimals,
    x_axis,
    y_axis,
)
from tunesmith.reporting.figures import NAME_CHARACTERS, Gain, beside, name_room, name_tag
from tunesmith.reporting.side_by_side import Column, difference_text
from tunesmith.wording import count, signed

TOP, LEFT, RIGHT = 16, 46, WIDTH - 16
NONE = 78  # place of what trains nothing, left of the break
KEY_ROW = 18
GAP = 9  # between a marker and its label
SIGN = 5  # half the size of a marker
MOVED = 8  # from its marker; a label farther away is tied to it by a line


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the drawing that is taken."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Tell whether two boxes share more than an edge."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def gain_against_cost(gains: Sequence[Gain], column: Column) -> Markup:
    """Return gain over zero-shot against trainable parameters; what trains nothing stands left of the break.

    Names stand beside their markers. Where there are more candidates than colours, numbers do, in the order of the
    gains, and the names follow below with their parameters.
    """
    numbered = len(gains) > SLOTS
    bottom = 280 if numbered else 200
    trained = [gain.trainable for gain in gains if gain.trainable] or [1000, 1_000_000]
    across = Scale(min(trained) / 3, max(trained) * 3, start=NONE + 34, end=RIGHT, log=True)
    ends = [end for gain in gains for end in (gain.comparison.low, gain.comparison.high)]
    up = Scale(*around([0.0, *ends]), start=bottom, end=TOP)
    parts = [y_axis(up, left=LEFT, right=RIGHT, text=lambda v: signed(v, tick_decimals(up.ticks())))]
    parts.append(tag("line", x1=LEFT, x2=RIGHT, y1=up(0), y2=up(0), class_="zero"))
    places = [(across(gain.trainable) if gain.trainable else NONE, up(gain.comparison.difference)) for gain in gains]
    for gain, (x, y) in zip(gains, places, strict=True):
        ends_at = up(gain.comparison.low), up(gain.comparison.high)
        parts.append(tag("line", x1=x, x2=x, y1=ends_at[0], y2=ends_at[1], class_=f"interval {slot_class(gain.slot)}"))
        parts.append(marker(gain.slot, x, y))
    ranks = _ranks(gains)
    names = [str(ranks[gain.name]) if numbered else gain.name for gain in gains]
    parts.extend(_labels(gains, names, places, zero=up(0), bottom=bottom))
    parts.append(tag("text", "0", x=NONE, y=bottom + 17, class_="tick", text_anchor="middle"))
    parts.append(tag("line", x1=LEFT, x2=NONE + 20, y1=bottom, y2=bottom, class_="axis"))
    parts.append(x_axis(across, bottom, text=count, title="trainable parameters"))
    height = bottom + 40.0
    if numbered:
        parts.extend(_key(gains, ranks, top=height + 8))
        height += 8 + KEY_ROW * ((len(gains) + 1) // 2)
    words = "; ".join(f"{gain.name}: {difference_text(gain.comparison, column.decimals)[0]}" for gain in gains)
    label = f"{column.title}: gain over zero-shot against trainable parameters. {words}."
    return figure(parts, label=label, height=height)


def _ranks(gains: Sequence[Gain]) -> dict[str, int]:
    """Return the place of each candidate by its gain, the largest first."""
    ranked = sorted(gains, key=lambda gain: -gain.comparison.difference)
    return {gain.name: place for place, gain in enumerate(ranked, 1)}


def _labels(
    gains: Sequence[Gain], names: Sequence[str], places: Sequence[tuple[float, float]], *, zero: float, bottom: float
) -> list[Markup]:
    """Return a label beside each marker, on no other marker or label; tied to its own where it had to move."""
    taken = [Box(x - SIGN, y - SIGN, x + SIGN, y + SIGN) for x, y in places]
    parts = []
    for gain, name, (x, y) in zip(gains, names, places, strict=True):
        wish = zero - 5 if abs(y - zero) < 9 else y - 3  # a little above the marker, and never on the zero line
        left, height = _free(name_room(name), x, wish, taken=taken, bottom=bottom)
        taken.append(_box(left, height, name_room(name)))
        if abs(height - wish) > MOVED:
            end = left - 2 if left > x else left + name_room(name) + 2
            parts.append(tag("line", x1=x, y1=y, x2=end, y2=height - 4, class_=f"tie {slot_class(gain.slot)}"))
        parts.append(name_tag(name, gain.slot, x=left, y=height))
    return parts


def _free(width: float, x: float, wish: float, *, taken: Sequence[Box], bottom: float) -> tuple[float, float]:
    """Return left end and height of a label, as near to its marker as there is room for it."""
    right, left = x + GAP, x - GAP - width
    steps = [sign * step * LINE / 2 for step in range(len(taken) + 1) for sign in (-1, 1)]
    near = [(at, wish + step) for at in (right, left) for step in steps if abs(step) <= LINE]
    far = [(at, wish + step) for step in steps for at in (right, left) if abs(step) > LINE]
    for at, height in (*near, *far):
        inside = at >= LEFT - 6 and at + width <= WIDTH and TOP - 6 <= height <= bottom - 6
        if inside and not any(_box(at, height, width).meets(one) for one in taken):
            return at, height
    return beside(x, "0" * round(width / CHARACTER)), wish


def _box(left: float, height: float, width: float) -> Box:
    """Return the box of a label that is written at this height."""
    return Box(left, height - LINE + 4, left + width, height + 4)


def _key(gains: Sequence[Gain], ranks: dict[str, int], *, top: float) -> list[Markup]:
    """Return number, sign, name and parameters of each candidate, in two columns."""
    parts = []
    rows = (len(gains) + 1) // 2
    for gain in gains:
        column, row = divmod(ranks[gain.name] - 1, rows)
        left, y = column * (WIDTH / 2 + 6), top + KEY_ROW * (row + 0.5)
        parts.append(name_tag(str(ranks[gain.name]), gain.slot, x=left, y=y + 4))
        parts.append(marker(gain.slot, left + 27, y))
        title = tag("title", gain.name)
        parts.append(tag("text", title, short(gain.name, NAME_CHARACTERS), x=left + 37, y=y + 4))
        end = left + 37 + CHARACTER * NAME_CHARACTERS + 50
        parts.append(tag("text", count(gain.trainable or 0), x=end, y=y + 4, class_="tick", text_anchor="end"))
    return parts
