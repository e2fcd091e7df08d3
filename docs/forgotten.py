"""What benchmarks/forgetting.py has found, as tables and sentences for the pages. `generate.py` puts them there."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sweeps

from tunesmith.metrics.comparison import SURE
from tunesmith.wording import probability

UNMEASURED = "This has not been measured yet: `python benchmarks/forgetting.py --data FOLDER` does it, in some hours."


def parts(table: sweeps.Table) -> dict[str, Callable[[], str]]:
    """Return name of a generated part -> what makes it.

    Args:
        table: Makes a table of Markdown from a header and rows.
    """
    return {
        f"forgetting-{name}": lambda make=make: of_result(make, table)  # type: ignore[misc]
        for name, make in (("table", cells), ("pairs", pairs), ("steps", steps))
    }


def of_result(make: Callable[[dict[str, Any], sweeps.Table], str], table: sweeps.Table) -> str:
    """Return a part of what was found, or that nothing was measured."""
    result = sweeps.read("forgetting")
    return make(result, table) if result else UNMEASURED


def cells(result: dict[str, Any], table: sweeps.Table) -> str:
    """Return what each way to tune gained and forgot."""
    rows = (
        (f"`{name}`", str(one["tasks"]), str(one["steps"]), f"{one['learning rate']:g}",
         ", ".join(one["cures"]) or "none", spread(one["gain"], "difference", 1), spread(one["items"], "change", 1),
         f"{one['items']['lost']} / {one['items']['won']}", spread(one["prose"], "change", 3))
        for name, one in result["cells"].items()
    )  # fmt: skip
    items = f"change of {result['probe']['items']} items, points"
    prose = "change of the loss on prose, nats per token"
    header = ("candidate", "tasks", "steps", "rate", "cure", "gain, ROUGE-1 points", items, "lost / won", prose)
    said = f"{result['rows']}; {result['device']}, {result['date']}; in brackets 95 % intervals."
    left = f"\n\nNot measured yet: {', '.join(result['missing'])}." if result["missing"] else ""
    return f"{table(header, rows)}\n\n{said[:1].upper()}{said[1:]}{left}"


def pairs(result: dict[str, Any], table: sweeps.Table) -> str:
    """Return which of two tuned candidates kept more, pair by pair, and what follows from all of them."""
    header = ("candidate", "beside", "right: only it / only the other", "test", "loss on prose, nats per token",
              "gain, ROUGE-1 points")  # fmt: skip
    rows: Iterator[Sequence[str]] = (
        (f"`{one['candidate']}`", f"`{one['than']}`", f"{one['items']['won']} / {one['items']['lost']}",
         probability(one["items"]["p_holm"]), spread(one["prose"], "change", 3), spread(one["gain"], "difference", 1))
        for one in result["pairs"]
    )  # fmt: skip
    return f"{table(header, rows)}\n\n{told_apart(result['pairs'])} {by_prose(result['pairs'])}"


def told_apart(found: Sequence[dict[str, Any]]) -> str:
    """Return which pairs the items can tell apart."""
    sure = [
        f"`{one['candidate']}` kept {'more' if one['items']['change'] > 0 else 'fewer'} than `{one['than']}`"
        for one in found
        if one["items"]["p_holm"] < SURE
    ]
    if not sure:
        return f"The items tell none of these {len(found)} pairs apart."
    return f"Of these {len(found)} pairs, the items can tell {len(sure)} apart: {', '.join(sure)}."


def by_prose(found: Sequence[dict[str, Any]]) -> str:
    """Return whom prose costs less than what it is set beside, and whom it costs more."""
    said = []
    for than in dict.fromkeys(one["than"] for one in found):
        own = [one for one in found if one["than"] == than]
        sides = {
            "less": [f"`{one['candidate']}`" for one in own if one["prose"]["high"] < 0],
            "more": [f"`{one['candidate']}`" for one in own if one["prose"]["low"] > 0],
        }
        words = [f"{', '.join(names)} {word}" for word, names in sides.items() if names]
        if words:
            said.append(f"{' and '.join(words)} than `{than}`")
    if not said:
        return "Prose tells none of them apart either."
    return f"Prose costs {'; '.join(said)} (intervals, not corrected for their number)."


def steps(result: dict[str, Any], table: sweeps.Table) -> str:
    """Return how several tasks compare with one that is trained in as many steps."""
    found = result.get("several tasks beside as many steps of one")
    if not found:
        return "Five tasks are not set beside as many steps of one task yet."
    cells = result["cells"]
    header = ("five tasks", "steps", "one task", "steps", "right: only the five / only the one", "test",
              "loss on prose, nats per token")  # fmt: skip
    rows = (
        (f"`{pair['candidate']}`", str(cells[pair["candidate"]]["steps"]), f"`{pair['than']}`",
         str(cells[pair["than"]]["steps"]), f"{pair['items']['won']} / {pair['items']['lost']}",
         probability(pair["items"]["p_holm"]), spread(pair["prose"], "change", 3))
        for pair in found
    )  # fmt: skip
    return f"{table(header, rows)}\n\n{told_apart(found)} {by_prose(found)}"


def spread(found: dict[str, Any], name: str, places: int) -> str:
    """Return a difference with its interval."""
    return f"{found[name]:+.{places}f} ({found['low']:.{places}f} to {found['high']:.{places}f})"
