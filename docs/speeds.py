"""The generated parts of performance.md: what the benchmarks of speed found, losses and ties included.

A table stands where its file is; elsewhere it says that nothing was measured yet, and by what command it is.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
TIE = 0.05  # a difference of speed below this share is a tie
CARD, FLOAT32 = "_card", "_float32"  # ends of the names of results from a card, and from a processor without bfloat16
WHERE = {CARD: "a machine whose card PyTorch sees", FLOAT32: "a processor that is no faster in bfloat16"}
SHOTS = "_shots"  # of answers after worked examples

Result = dict[str, Any]
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def part(name: str, make: Callable[[Result, Table], str], table: Table) -> str:
    """Return a generated part from the result of a benchmark, or that it was not run yet."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        end = next((end for end in WHERE if name.endswith(end)), "")
        script = f"`python benchmarks/{name.removesuffix(end).removesuffix(SHOTS)}.py`"
        if end:
            return f"Nobody has measured this yet: {script} does it on {WHERE[end]}."
        return f"Not run yet: {script}."
    result = json.loads(path.read_text(encoding="utf-8"))
    link = f"[{path.name}](../benchmarks/results/{path.name})"
    versions = ", ".join(f"{package} {version}" for package, version in result["versions"].items())
    return f"{make(result, table)}\n\n{result['device']}, {result['date']}, {versions}. All of it: {link}."


def training(result: Result, table: Table) -> str:
    """Return a table for each task, and how its goals were met."""
    parts = [
        f"Data: {result['data']}. {result['threads']} threads, {medians(result)}{left_out(result)}. "
        f"Allocator of memory: {result['allocator']}."
    ]
    for name, task in result["tasks"].items():
        rows = [row(program, cell, task) for program, cell in task["cells"].items()]
        header = ("program", "tokens a second", "lowest to highest", "tunesmith is", "of the ceiling", "highest memory",
                  "largest difference of a step's loss")  # fmt: skip
        products = task["matrix products in 1e12 a second"]
        fastest = max(products, key=lambda name: products[name])
        parts.append(
            f"**{name}**: {task['model']}; {task['rows']} rows, {task['tokens']:,} tokens, "
            f"{task['counted tokens']:,} of them counted by the loss. The ceiling, a product of two large matrices, is "
            f"{products[fastest]:.3g} TFLOP/s here, in {fastest}.{goals(task)}"
        )
        parts.append(table(header, rows))
    return "\n\n".join(parts)


def medians(result: Result) -> str:
    """Return over how many rounds the medians are."""
    return f"medians of {result['rounds']} rounds" if result["rounds"] > 1 else "one round"


def left_out(result: Result) -> str:
    """Return how many steps of a turn are not counted, where that is not just the first."""
    first = result.get("uncounted steps", 1)
    return f"; the first {first} of {result['steps']} steps of a turn are not counted" if first > 1 else ""


def row(program: str, cell: Result, task: Result) -> Sequence[str]:
    """Return the line of one program in a task of training."""
    if "failed" in cell:
        bound = cell.get("at most tokens a second")
        told = f"failed: {cell['failed']}" + (f", so at most {bound:.0f}" if bound else "")
        return (program, told, "", "", "", "", "")
    gate = cell["equality"]
    difference = gate["largest difference of a step's loss"]
    off = f"{difference:.1e}"
    if not gate["passed"]:
        return (program, "void: it did not learn the same", "", "", "", "", off)
    low, high = cell["lowest and highest"]
    return (
        program, f"{cell['tokens a second']:,.0f}", f"{low:,.0f} to {high:,.0f}", times(task, program),
        f"{cell['share of the ceiling']:.0%}", f"{cell['peak bytes'] / 1e9:.1f} GB", off,
    )  # fmt: skip


def times(result: Result, program: str) -> str:
    """Return in words how tunesmith compares with a program."""
    factor = result["times faster than"].get(program)
    if factor is None:
        return ""
    if abs(factor - 1) <= TIE:
        return f"{factor:.2f} times as fast: a tie"
    return f"{factor:.1f} times as fast" + (": a loss" if factor < 1 else "")


def goals(result: Result) -> str:
    """Return which goals were met, after a space; nothing where there are none."""
    found = []
    for program, goal in result["goal, times faster than"].items():
        factor = result["times faster than"].get(program)
        met = "nothing to compare with" if factor is None else "met" if factor >= goal else "missed"
        share = result["cells"].get(program, {}).get("share of the ceiling")
        if met == "missed" and share and goal * share > 1:
            met += f", and out of reach here: at the ceiling it would be {1 / share:.1f} times"
        found.append(f"{goal:g} times {program}: {met}")
    return f" Goals: {'; '.join(found)}." if found else ""


def answering(result: Result, table: Table) -> str:
    """Return the table of answering."""
    rows = []
    for program, cell in result["cells"].items():
        gate = cell.get("equality")
        same = "" if gate is None else f"{gate['equal']} equal, {gate['ties']} ties, {gate['other']} other"
        if "prompts a second" not in cell:
            rows.append((program, f"failed: {cell['failed']}" if "failed" in cell else "void", "", "", "", "", same))
            continue
        low, high = cell["lowest and highest"]
        rows.append((
            program, f"{cell['prompts a second']:.2f}", f"{low:.2f} to {high:.2f}", times(result, program),
            f"{cell['share of the ceiling']:.0%}", f"{cell['peak bytes'] / 1e9:.1f} GB", same,
        ))  # fmt: skip
    header = (
        "program",
        "prompts a second",
        "lowest to highest",
        "tunesmith is",
        "of the ceiling",
        "highest memory",
        "its answers",
    )
    shots = f", each after {result['shots']} worked examples" if result.get("shots") else ""
    said = (
        f"{result['data']}: {result['prompts']} prompts of {result['prompt tokens']:,} tokens, answers of at most "
        f"{result['longest answer']}{shots}. {result['model']}, {result['threads']} threads, {medians(result)}."
        f"{goals(result)}"
    )
    return f"{said}\n\n{table(header, rows)}"


def scaling(result: Result, table: Table) -> str:
    """Return the table of what grows."""
    rows = [
        (series, str(cell["value"]), f"{cell['tokens a second']:,.0f}", f"{cell['at cost']:.2f}",
         f"{cell['peak bytes'] / 1e9:.1f} GB")
        if "failed" not in cell
        else (series, str(cell["value"]), f"failed: {cell['failed']}", "", "")
        for series, cells in result["series"].items()
        for cell in cells
    ]  # fmt: skip
    header = ("what grows", "to", "tokens a second", "cost of a token beside the first line", "highest memory")
    return f"{result['model']}, {result['format']}.\n\n{table(header, rows)}"


def planned(result: Result, table: Table) -> str:
    """Return the table of plans beside what was measured."""
    rows = [
        (name, *(f"{cell[stage][what]:.2f}" for stage in ("train", "answer") for what in ("seconds", "memory")))
        for name, cell in result["settings"].items()
    ]
    header = ("setting", "training, time", "training, memory", "answering, time", "answering, memory")
    worst = "; ".join(
        f"{name} {one['measured / planned']:.2f} ({one['setting']})" for name, one in result["worst"].items()
    )
    left = f" Not measured yet: {'; '.join(result['missing'])}." if result.get("missing") else ""
    medians = f", medians of {result['rounds']} rounds" if result.get("rounds", 1) > 1 else ""
    return f"Measured as a share of planned{medians}. At worst: {worst}.{left}\n\n{table(header, rows)}"


def experiment(result: Result, table: Table) -> str:
    """Return the tables of a whole experiment beside an earlier commit: what each part took, what came of it."""
    now, before = result["now"], result["before"]
    parts = [
        (part, f"{seconds:,.0f} s", f"{before['in parts'][part]:,.0f} s" if part in before["in parts"] else "none")
        for part, seconds in now["in parts"].items()
    ]
    both = [(name, *(outcome(one["candidates"][name]) for one in (now, before))) for name in now["candidates"]]
    met = "met" if result["times faster"] >= result["goal"] else "missed"
    said = (
        f"{result['rows']} rows to train and validate, {result['answers']} answers of each candidate. "
        f"{now['seconds']:,.0f} s from the command to the report; commit {result['commit before']} took "
        f"{before['seconds']:,.0f} s, {result['times faster']:.2f} times as long. "
        f"Goal: {result['goal']:g} times: {met}."
    )
    headers = ("until", "now", "before"), ("candidate", "now", "before")
    return "\n\n".join([said, table(headers[0], parts), table(headers[1], both)])


def outcome(candidate: Result) -> str:
    """Return the first score of a candidate with its interval, and its validation loss."""
    (metric, score), loss = next(iter(candidate.items())), candidate.get("validation_loss")
    ending = f", validation loss {loss:.3f}" if loss is not None else ""
    return f"{metric} {score['value']:.1f} ({score['low']:.1f} to {score['high']:.1f}){ending}"


MAKERS: Mapping[str, Callable[[Result, Table], str]] = {
    "train_speed": training,
    "predict_speed": answering,
    "scaling": scaling,
    "plan_accuracy": planned,
    "experiment_speed": experiment,
    f"predict_speed{SHOTS}": answering,
    **{f"train_speed{end}": training for end in WHERE},
    **{f"predict_speed{end}": answering for end in WHERE},
}
"""Name of a result -> what makes its part of the page."""


def headline(result: Result) -> str:
    """Return what a comparison of speed found, in one line."""
    tasks = result["tasks"].items() if "tasks" in result else [("", result)]
    found = [
        f"{f'{name}: ' if name else ''}"
        + ", ".join(f"{factor:.1f} times {peer}" for peer, factor in task["times faster than"].items() if factor)
        for name, task in tasks
    ]
    return "; ".join(found)
