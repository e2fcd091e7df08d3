"""What each script of benchmarks/ has found, in one line each, as one table. `generate.py` puts it on its page."""

import json
from collections.abc import Callable
from typing import Any

import equality
import speeds
import sweeps


def measured(table: sweeps.Table) -> str:
    """Return what benchmarks/ has found, on which machines, and when."""
    rows = []
    for path in sorted(sweeps.RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        said = FOUND[path.stem](result) if path.stem in FOUND else ""
        link = f"[{path.name}](../{path.relative_to(sweeps.RESULTS.parents[1]).as_posix()})"
        question = result.get("question", path.stem)
        machines = "; ".join(sweeps.devices(result))
        rows.append((question[:1].upper() + question[1:], said, machines, result.get("date", ""), link))
    return table(("question", "found", "machine", "date", "all of it"), iter(rows))


def gains(result: dict[str, Any]) -> str:
    """Return what each candidate of a run gained over the base with no shots, with its interval."""
    found = [
        f"{one['better']} {one['difference']:+.1f} ({one['low']:.1f} to {one['high']:.1f})"
        for one in result["report"]["tasks"][0]["comparisons"]
        if one["metric"] == "rouge1" and one["than"] == "zero-shot"
    ]
    return f"ROUGE-1 points over zero-shot: {', '.join(found)}"


def most_forgotten(result: dict[str, Any]) -> str:
    """Return the candidates that forgot least and most, each with its gain and its steps."""
    ranked = sorted(result["cells"].items(), key=lambda cell: cell[1]["items"]["change"])
    said = (
        f"{word}: {name} ({one['items']['change']:+.1f} points of the items, gain {one['gain']['difference']:+.1f}, "
        f"{one['steps']} steps)"
        for word, (name, one) in (("forgot most", ranked[0]), ("least", ranked[-1]))
    )
    return "; ".join(said)


FOUND: dict[str, Callable[[dict[str, Any]], str]] = {
    **sweeps.FOUND,
    "demo": lambda r: f"{gains(r)}; {r['seconds'] / 60:.1f} minutes from the clone to the report",
    "dialogsum": gains,
    "forgetting": most_forgotten,
    "start_time": lambda r: f"{r['median']['tunesmith --help']:.2f} s until `tunesmith --help` has answered",
    "metric_speed": lambda r: (
        f"{r['found']['1, 2, L and Lsum, stemmed']['times faster']} times, all four kinds, stemmed"
    ),
    **{f"{what}_speed{where}": speeds.headline for what in ("train", "predict") for where in ("", *speeds.WHERE)},
    f"predict_speed{speeds.SHOTS}": speeds.headline,
    "scaling": lambda r: "; ".join(
        f"{series} {cells[0]['value']} to {cells[-1]['value']}: a token at {cells[-1].get('at cost', 0):.2f}"
        for series, cells in r["series"].items()
    ),
    "plan_accuracy": lambda r: "; ".join(
        f"{name}: at worst {one['measured / planned']:.2f} of the plan ({one['setting']})"
        for name, one in r["worst"].items()
    ),
    "experiment_speed": lambda r: (
        f"{r['times faster']} times ({r['now']['seconds'] / 60:.0f} minutes; {r['before']['seconds'] / 60:.0f} before)"
    ),
    "mixture_memory": lambda r: (
        f"at most {r['peak bytes'] / 2**30:.2f} GiB for {r['rows']:,} rows, {r['seconds'] / 60:.1f} minutes"
    ),
    "flan": lambda r: "; ".join(
        f"{number} tasks {one['over the base']['difference']:+.1f} points, "
        f"{one['balanced']['over the base']['difference']:+.1f} where labels count alike "
        f"({one['balanced']['over the base']['low']:.1f} to {one['balanced']['over the base']['high']:.1f})"
        for number, one in r["accuracy by number of tuning tasks"]["all held-out tasks"].items()
        if number != "0"
    ),
    "harness": equality.in_a_line,
    "leakage": lambda r: (
        f"{r['recall']['copies']:.0%} of {r['planted']['copies']} planted copies, {r['recall']['edits']:.0%} of "
        f"{r['planted']['edits of 0.8 to 0.95']} near copies, among {r['rows']:,} rows in {r['seconds']:.1f} s"
    ),
}
"""Name of a result -> what it found, in one line."""
