"""What the page's part on forgetting is given: rows of text, and the plot of gain against forgetting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith.forgetting.compared import Forgotten, ProseChange, SkillChange
from tunesmith.metrics.comparison import decimals, title
from tunesmith.records import Comparison, Score
from tunesmith.reporting.charts import WIDTH, Scale, around, figure, marker, settle, slot_class, tag, tick_decimals
from tunesmith.reporting.charts import x_axis as draw_x_axis
from tunesmith.reporting.charts import y_axis as draw_y_axis
from tunesmith.reporting.contents import CureEffect, Pairwise, Report
from tunesmith.reporting.figures import beside, name_room, name_tag
from tunesmith.reporting.forgotten import gain_of, is_forgotten, not_had
from tunesmith.reporting.side_by_side import columns, difference_text
from tunesmith.wording import NONE, fixed, probability, signed

POINTS = 1  # decimals of a share in %
NATS = 3


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One line of a table: before, after, change."""

    name: str
    note: str  # number of items, what a blind guess gets
    before: str
    after: str
    change: str
    interval: str
    lost: str
    won: str
    probability: str
    forgotten: bool  # a loss that may be claimed


@dataclass(frozen=True, slots=True)
class ForgottenView:
    """One candidate."""

    report: Forgotten
    slot: int
    sentence: str
    cures: str
    gain: tuple[str, str]  # over zero-shot, and its interval; empty where it is not known
    all: ChangeRow
    prose: ChangeRow
    skills: tuple[ChangeRow, ...]  # the shipped ones
    own: tuple[ChangeRow, ...]  # tasks of the user's own


@dataclass(frozen=True, slots=True)
class PairView:
    """A tuned candidate beside another: the same without settings against forgetting, or any."""

    report: Pairwise
    slot: int
    cures: str  # empty where it is beside any other
    items: ChangeRow  # before is the other's, after is its own
    prose: ChangeRow
    gain: tuple[str, str]  # its own less the other's, and the interval; empty where it is not known


@dataclass(frozen=True, slots=True)
class ForgettingView:
    """All tuned candidates, and the plots; there are none where nothing was compared."""

    candidates: tuple[ForgottenView, ...]
    effects: tuple[PairView, ...]
    pairs: tuple[PairView, ...]
    plots: tuple[tuple[str, Markup], ...]  # what was forgotten to the right, in words; the shipped items come first
    gained: str  # what the plots' upright axes count
    not_had: tuple[str, ...]  # shipped skills that the base does no better than blind guesses


@dataclass(frozen=True, slots=True)
class Trade:
    """What one candidate gained and what it forgot."""

    name: str
    slot: int
    gain: Comparison
    forgotten: SkillChange  # all shipped items together, or a task of the user's own
    without: str = ""  # the same candidate without settings against forgetting


def forgetting_view(report: Report) -> ForgettingView | None:
    """Return tables and plot; None where the recipe wants nothing measured."""
    if report.forgetting is None:
        return None
    slots = {candidate.name: slot for slot, candidate in enumerate(report.candidates)}
    cures = {candidate.name: ", ".join(candidate.cures) for candidate in report.candidates}
    found, gains = report.forgetting, {one.candidate: gain_of(report.tasks, one.candidate) for one in
                                       report.forgetting.changes}  # fmt: skip
    views = tuple(
        ForgottenView(
            report=change,
            slot=slots[change.candidate],
            sentence=said,
            cures=cures[change.candidate],
            gain=_gain_text(*gains[change.candidate]),
            all=_skill_row(change.all, tested=change.all.p_value),
            prose=_prose_row(change.prose),
            skills=tuple(_skill_row(skill, tested=skill.p_holm) for skill in change.shipped),
            own=tuple(_skill_row(skill, tested=skill.p_holm) for skill in change.own),
        )
        for change, said in zip(found.changes, found.sentences, strict=True)
    )
    cured, beside = (
        tuple(_pair(one, slots[one.candidate], report) for one in ones) for ones in (found.effects, found.pairs)
    )
    plots, gained = _plots(report, {name: gain for name, (gain, _) in gains.items() if gain}, slots)
    left_out = not_had(found.changes[0].shipped) if found.changes else ()
    return ForgettingView(views, cured, beside, plots, gained, left_out)


def _plots(
    report: Report, gains: Mapping[str, Comparison], slots: Mapping[str, int]
) -> tuple[tuple[tuple[str, Markup], ...], str]:
    """Return a plot of the shipped items and one of each task of the user's own, and what was gained, in words."""
    if report.forgetting is None or not gains:
        return (), ""
    changes = [change for change in report.forgetting.changes if change.candidate in gains]
    without = {one.candidate: one.than for one in report.forgetting.effects}
    metric = gains[changes[0].candidate].metric
    (column,) = [one for one in columns(report.tasks[0]) if one.metric == metric]
    gained = f"gain in {column.title}, {column.unit_of_difference}"
    shown = [("probe items", "items right before, less items right after, % of all", [one.all for one in changes])]
    for place, task in enumerate(changes[0].own):
        unit = "% of its items" if task.unit == "%" else f"{title(task.metric)}, {task.unit}"
        shown.append((task.skill, f"{task.skill}: before, less after, {unit}", [one.own[place] for one in changes]))
    drawn = []
    for name, axis, lost in shown:
        trades = [
            Trade(one.candidate, slots[one.candidate], gains[one.candidate], skill, without.get(one.candidate, ""))
            for one, skill in zip(changes, lost, strict=True)
        ]
        drawn.append((name, gain_against_forgetting(trades, gained, f"forgotten: {axis}")))
    return tuple(drawn), gained


def _pair(pair: Pairwise, slot: int, report: Report) -> PairView:
    scores = report.tasks[0].scores.get(pair.candidate, ()) if report.tasks else ()
    score = next((one for one in scores if pair.gain and one.metric == pair.gain.metric), None)
    return PairView(
        report=pair, slot=slot, cures=", ".join(pair.cures) if isinstance(pair, CureEffect) else "",
        items=_skill_row(pair.items, tested=pair.items.p_holm), prose=_prose_row(pair.prose),
        gain=_gain_text(pair.gain, score),
    )  # fmt: skip


def _gain_text(gain: Comparison | None, score: Score | None) -> tuple[str, str]:
    return difference_text(gain, decimals(score.unit)) if gain and score else ("", "")


def change_text(change: SkillChange) -> tuple[str, str]:
    """Return a change and its interval as text."""
    return signed(change.change, POINTS), f"{fixed(change.low, POINTS)} to {fixed(change.high, POINTS)}"


def prose_text(prose: ProseChange) -> tuple[str, str]:
    """Return the change of the loss and its interval as text."""
    return signed(prose.change, NATS), f"{fixed(prose.low, NATS)} to {fixed(prose.high, NATS)}"


def gain_against_forgetting(trades: Sequence[Trade], gained: str, lost: str) -> Markup:
    """Return gain over zero-shot, upwards, against what was forgotten, to the right; both with 95 % intervals."""
    top, bottom, left, right = 16, 216, 46, WIDTH - 16
    sideways = [-end for one in trades for end in (one.forgotten.low, one.forgotten.high)]
    upwards = [end for one in trades for end in (one.gain.low, one.gain.high)]
    across = Scale(*around([0.0, *sideways]), start=left, end=right)
    up = Scale(*around([0.0, *upwards]), start=bottom, end=top)
    places = tick_decimals(up.ticks())
    parts = [draw_y_axis(up, left=left, right=right, text=lambda value: signed(value, places))]
    parts.append(tag("line", x1=left, x2=right, y1=up(0), y2=up(0), class_="zero"))
    parts.append(tag("line", x1=across(0), x2=across(0), y1=top, y2=bottom, class_="zero"))
    at = [(across(-one.forgotten.change), up(one.gain.difference)) for one in trades]
    wishes = [(beside(x, one.name), y - 8, name_room(one.name)) for one, (x, y) in zip(trades, at, strict=True)]
    heights = settle(wishes, low=top - 6, high=bottom - 6)
    places_of = dict(zip((one.name for one in trades), at, strict=True))
    for one in trades:
        if start := places_of.get(one.without):  # from the same candidate without settings against forgetting
            x, y = places_of[one.name]
            parts.append(tag("line", x1=start[0], x2=x, y1=start[1], y2=y, class_=f"thin {slot_class(one.slot)}"))
    for one, (x, y), wish, height in zip(trades, at, wishes, heights, strict=True):
        ends = across(-one.forgotten.high), across(-one.forgotten.low)
        drawn = f"interval {slot_class(one.slot)}"
        parts.append(tag("line", x1=ends[0], x2=ends[1], y1=y, y2=y, class_=drawn))
        parts.append(tag("line", x1=x, x2=x, y1=up(one.gain.low), y2=up(one.gain.high), class_=drawn))
        parts.append(marker(one.slot, x, y))
        parts.append(name_tag(one.name, one.slot, x=wish[0], y=height))
    steps = tick_decimals(across.ticks())
    parts.append(draw_x_axis(across, bottom, text=lambda value: signed(value, steps), title=lost))
    words = "; ".join(
        f"{one.name}: gain {signed(one.gain.difference, POINTS)}, forgotten {signed(-one.forgotten.change, POINTS)}"
        for one in trades
    )
    return figure(parts, label=f"{gained}, against {lost}. {words}.", height=bottom + 40)


def _skill_row(change: SkillChange, *, tested: float) -> ChangeRow:
    text, interval = change_text(change)
    blind = "" if change.blind is None else f"; a blind guess: {fixed(change.blind, 0)} %"
    unit = "" if change.unit == "%" else f"; {title(change.metric)}, {change.unit}"
    told = "" if change.had else "; the base cannot do this, so a loss cannot show"
    return ChangeRow(
        name=change.skill,
        note=f"{change.n} items{blind}{unit}{told}",
        before=fixed(change.before, POINTS),
        after=fixed(change.after, POINTS),
        change=text,
        interval=interval,
        lost=NONE if change.lost is None else str(change.lost),
        won=NONE if change.won is None else str(change.won),
        probability=probability(tested),
        forgotten=is_forgotten(change),
    )


def _prose_row(prose: ProseChange) -> ChangeRow:
    text, interval = prose_text(prose)
    return ChangeRow(
        name="general prose", note=f"{prose.n} paragraphs", before=fixed(prose.before, NATS),
        after=fixed(prose.after, NATS), change=text, interval=interval, lost=NONE, won=NONE,
        probability=probability(prose.p_value), forgotten=prose.low > 0,
    )  # fmt: skip
