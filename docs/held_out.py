"""What tuning on more tasks brought on held-out families, as tables for a page. `generate.py` puts them there."""

from typing import Any

from sweeps import Table, between, read, unmeasured

from tunesmith.wording import fixed


def by_tasks(table: Table) -> str:
    """Return the accuracy on held-out families, a column for each number of tasks that were tuned on."""
    found = read("flan")
    if not found:
        return unmeasured("flan")
    cells, blind = found["accuracy by number of tuning tasks"], found["accuracy without reading"]
    whole = "all held-out tasks"
    numbers = list(cells[whole])
    examples = sum(one["per_epoch"] for one in found["mixtures"][0]["shares"])
    named = {part: f"`{part}`: {', '.join(tasks)}" for part, tasks in found["held out"].items()} | {whole: whole}
    heads = ("the base", *(f"{number} tasks" for number in numbers[1:]))
    plain = (
        (name, str(cells[part]["0"]["n"]), *(fixed(blind[part][kind], 1) for kind in ("guess", "commonest")),
         *(accuracy(cells[part][number]["accuracy"], cells[part][number]) for number in numbers))
        for part, name in named.items()
    )  # fmt: skip
    even = (
        (name, fixed(blind[part]["guess"], 1),
         *(accuracy(one["balanced"]["value"], one["balanced"]) for one in map(cells[part].get, numbers)))
        for part, name in named.items()
    )  # fmt: skip
    return (
        f"SmolLM2-135M-Instruct, LoRA, {examples:,} examples for each number of tasks; accuracy in per cent, the mean "
        "of tasks where there are several. In brackets are 95 % intervals, and where it differs from the base the "
        "p-value of that, not corrected for their number. Beside it stands what one reaches who has not read the rows: "
        "by blind guesses, and by giving the commonest label of each task every time.\n\n"
        f"{table(('held out', 'test rows', 'a guess', 'the commonest', *heads), plain)}\n\n"
        "Balanced accuracy, every label of a task counting alike. Whoever prefers one label, whatever is asked, is no "
        "better here than a guess.\n\n"
        f"{table(('held out', 'a guess', *heads), even)}\n\n"
        f"On {found['device']}, {found['date']}: [flan.json](../benchmarks/results/flan.json)."
    )


def accuracy(value: float, one: dict[str, Any]) -> str:
    """Return an accuracy with its interval, and how sure it is that it is not the base's."""
    said = fixed(value, 1) + between(one)
    p = one.get("over the base", {}).get("p", 1.0)
    return f"{said}, p = {p:.3f}" if p < 0.05 else said
