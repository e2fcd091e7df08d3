"""How far `tunesmith bench` was compared with the harness itself, as a table. `generate.py` puts it on its page."""

from typing import Any

from sweeps import Table, read, unmeasured


def of_suites(table: Table) -> str:
    """Return what was compared of each suite, and how much of it is equal."""
    found = read("harness")
    if not found:
        return unmeasured("harness")
    rows = ((f"`{name}`", str(one["limit"] or "all"), *parts(one)) for name, one in found["suites"].items())
    heads = ("suite", "`--limit`", "tasks", "items that both answered", "equal values", "equal texts", "equal scores")
    where = f"lm-evaluation-harness {found['versions']['lm_eval']}, {found['device']}, {found['date']}"
    return (
        f"{found['model']}; a text is an answer that the model writes, and a score is compared where the harness had "
        "all items of its task.\n\n"
        f"{table(heads, rows)}\n\n{where}: [harness.json](../benchmarks/results/harness.json)."
    )


def parts(one: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a row: so many of so many."""
    pairs = (("tasks", "of tasks"), ("items", "of items"))
    equal = (("equal values", "values"), ("equal texts", "texts"), ("equal scores", "scores"))
    return tuple(f"{one[some]:,} of {one[whole]:,}" if one[whole] else "" for some, whole in (*pairs, *equal))


def in_a_line(found: dict[str, Any]) -> str:
    """Return what was compared, suite by suite."""
    return "; ".join(
        f"{name}: {one['equal values']:,} of {one['values']:,} values equal" for name, one in found["suites"].items()
    )
