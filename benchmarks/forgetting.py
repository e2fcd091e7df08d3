"""What does each way to tune gain on DialogSum, and what does it forget?

    python benchmarks/forgetting.py --data FOLDER [--out FOLDER] [--limit ROWS] [--model MODEL]
        [--at-once N]

FOLDER holds train_small.jsonl (to train) and dev.jsonl (to test), with the fields dialogue and summary. forgetting.yaml
is one task: full tuning and LoRA at two rates, with and without replay, and a soft prompt. Then full tuning and LoRA
learn five tasks together, DialogSum and four of the shipped support chats: five times as many examples, and so as many
steps. A third run tells more tasks from more steps: one task again, for ten epochs instead of two. Gain is ROUGE-1 over
the base on the same 100 dialogues, forgetting is the probe, both with 95 % intervals.

Every training, every set of answers and every probe is kept as it is done; the same command goes on with the rest. The
result is written after each of the three runs, and says what is missing. With ``--at-once 2`` it takes under two hours
on two cores that are fast in bfloat16, and some nine on others. For that, rows are few: 100 of each task to train on,
and one seed. ``--limit`` takes fewer rows and keeps no result, to try the script itself. ``--at-once`` tunes so many
candidates side by side, after the base alone, and leaves the same run folders; one that fails is named in the result,
and the others go on.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from abreast import CHILDREN, STOPPED, add_option, bring_back, explain, lend, lent, side_by_side
from keeping import keep

from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.reporting.contents import ZERO_SHOT
from tunesmith.reporting.pairs import compare_pairs
from tunesmith.rundir import RunDir, read_record, write_text
from tunesmith.yamlfile import read_yaml

RECIPE = Path(__file__).with_suffix(".yaml")
PACKAGES = ("tunesmith", "torch", "transformers", "peft")
TASK = "{{name: {name}, source: support, template: support-{name}{more}}}"
OTHERS = {"intent": "", "sentiment": "", "stars": "", "entities": ", metrics: [rouge1], max_new_tokens: 100"}
"""Name of a task on the support chats -> what its line says beside source and template."""
TOGETHER = {
    "full-multi-task": "{method: full, train: {learning_rate: 5e-5}}",
    "lora-multi-task": "{method: lora, train: {learning_rate: 5e-4}}",
}
"""Candidates that learn five tasks."""
LONGER = {
    "full-long": "{method: full, train: {learning_rate: 5e-5, epochs: 10}}",
    "lora-long": "{method: lora, train: {learning_rate: 5e-4, epochs: 10}}",
    "full-long-replay": "{method: full, train: {learning_rate: 5e-5, epochs: 10, replay: 0.1}}",
    "lora-long-replay": "{method: lora, train: {learning_rate: 5e-4, epochs: 10, replay: 0.1}}",
}
"""Candidates that learn one task in as many steps as those above."""
ONE, LONG, FIVE = "one-task", "one-task-longer", "five-tasks"
TWINS = [("full-multi-task", "full-long"), ("lora-multi-task", "lora-long")]
"""Several tasks, and one task in as many steps."""
AT_ONCE = "at-once.json"


def overrides(options: argparse.Namespace) -> list[str]:
    """Return what all runs change in the recipe: where data and model are, and fewer rows where asked for."""
    data = options.data.resolve()
    found = [f"tasks.0.source.train={data / 'train_small.jsonl'}", f"tasks.0.source.test={data / 'dev.jsonl'}"]
    if options.model:
        found.append(f"model={options.model}")
    if options.limit:
        found.append(f"split.limit={{train: {options.limit}, test: {options.limit}}}")
    return found


def longer() -> str:
    """Return the recipe of one task in more steps: the one that there is, with other candidates."""
    return without_candidates() + listed(LONGER)


def together() -> str:
    """Return the recipe of the five tasks: that of one task, with other candidates and four tasks more."""
    before, after = without_candidates().split("\nsplit:")
    tasks = "".join(f"  - {TASK.format(name=name, more=more)}\n" for name, more in OTHERS.items())
    # the support chats bring no sides of their own; DialogSum's files say theirs
    shares = after.replace("train: 1, validation: 0, test: 0", "train: 0.75, validation: 0, test: 0.25")
    return f"{before}\n{tasks}split:{shares}{listed(TOGETHER)}"


def without_candidates() -> str:
    """Return the recipe of one task up to its candidates."""
    return RECIPE.read_text(encoding="utf-8").partition("candidates:")[0]


def listed(named: Mapping[str, str]) -> str:
    """Return candidates as the lines of a recipe."""
    return "candidates:\n" + "".join(f"  {name}: {body}\n" for name, body in named.items())


def run(recipe: Path, out: Path, changes: list[str]) -> dict[str, Any]:
    """Run a recipe, or what is left of it, and return its report."""
    code = call(recipe, out, changes)
    if code:
        raise SystemExit(f"forgetting: {out.name} ended with exit code {code}; the same command goes on")
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


def call(recipe: Path, out: Path, changes: list[str], log: Path | None = None) -> int:
    """Run a recipe, or what is left of it, and return the exit code; stdout has the result alone."""
    sets = [word for change in changes for word in ("--set", change)]
    return CHILDREN.tunesmith(["run", recipe, "--out", out, *sets], log)


def run_abreast(recipes: Mapping[str, Path], options: argparse.Namespace) -> dict[str, str]:
    """Run the candidates of all recipes side by side, and return why those failed that did."""
    changes, parts, logs = overrides(options), options.out / "recipes", options.out / "logs"
    alone, tuned, failed = dict[tuple[str, str], Path](), set[Path](), dict[str, str]()
    for name, recipe in recipes.items():
        shared = RunDir(options.out / name)
        left = [one for one in candidates(recipe) if not shared.candidate(one).probe_result.exists()]
        if left:  # first the data, and the base with its probe
            run(part(recipe, [], parts / f"{name}.yaml"), shared.root, changes)
        alone |= {(name, one): part(recipe, [one], parts / f"{one}.yaml") for one in left}
        tuned |= set(shared.root.glob("candidates/*/train.json"))

    def work(job: tuple[str, str]) -> int:
        name, candidate = job
        return call(alone[job], lend(options.out / name, candidate), changes, logs / f"{candidate}.txt")

    def finish(job: tuple[str, str], code: int) -> None:
        name, candidate = job
        bring_back(options.out / name, candidate)
        result = RunDir(options.out / name).candidate(candidate).train_result
        if result.exists() and result not in tuned:
            noted = {**tuned_at_once(options), candidate: options.at_once}
            write_text(options.out / AT_ONCE, json.dumps(noted, indent=1) + "\n")
        if code and code not in STOPPED:
            places = (lent(options.out / name, candidate), options.out, options.data.resolve())
            failed[candidate] = explain(code, logs / f"{candidate}.txt", places)
        print(f"{candidate}: {failed.get(candidate, 'stopped' if code else 'done')}", file=sys.stderr, flush=True)

    if not side_by_side(alone, work, finish, at_once=options.at_once):
        raise SystemExit("forgetting: stopped; the same command goes on")
    return failed


def tuned_at_once(options: argparse.Namespace) -> dict[str, int]:
    """Return candidate -> how many were tuned at a time with it, where it was not alone."""
    path = options.out / AT_ONCE
    found: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def candidates(recipe: Path) -> dict[str, Any]:
    """Return the candidates of a recipe."""
    found: dict[str, Any] = read_yaml(recipe).values["candidates"]
    return found


def part(recipe: Path, names: Sequence[str], path: Path) -> Path:
    """Write a recipe that has only some of the candidates of another."""
    made = {**read_yaml(recipe).values, "candidates": {name: candidates(recipe)[name] for name in names}}
    write_text(path, json.dumps(made, indent=1) + "\n")
    return path


def cells(report: dict[str, Any]) -> dict[str, Any]:
    """Return gain and forgetting of every tuned candidate, without any text of the data."""
    (task,) = [one for one in report["tasks"] if one["task"] == "summarize"]
    gains = {
        one["better"]: one
        for one in map(towards_zero_shot, task["comparisons"])
        if one["metric"] == "rouge1" and one["than"] == "zero-shot"
    }
    trained = {one["name"]: one for one in report["candidates"]}
    found = {}
    for change in report["forgetting"]["changes"]:
        name = change["candidate"]
        candidate, gain = trained[name], gains[name]
        found[name] = {
            "method": candidate["method"],
            "tasks": len(report["tasks"]),
            "cures": candidate["cures"],
            "learning rate": candidate["train"]["learning_rate"],
            "examples": examples(report, candidate),
            "steps": candidate["train"]["steps"],
            "seconds of training": candidate["train"]["seconds"],
            "gain": {key: gain[key] for key in ("difference", "low", "high", "p_value")},
            "items": {key: change["all"][key] for key in KEPT},
            "prose": {key: change["prose"][key] for key in KEPT if key in change["prose"]},
            "skills": {skill["skill"]: {key: skill[key] for key in KEPT} for skill in change["skills"]},
        }
    return found


KEPT = ("n", "before", "after", "change", "low", "high", "lost", "won", "p_value", "p_holm")


def two_beside(pair: dict[str, Any]) -> dict[str, Any]:
    """Return what two tuned candidates made of the same items and prose; each run's tests are corrected together."""
    kept = {part: {key: pair[part][key] for key in KEPT if key in pair[part]} for part in ("items", "prose")}
    gain = pair["gain"] and {key: pair["gain"][key] for key in ("difference", "low", "high", "p_value")}
    return {"candidate": pair["candidate"], "than": pair["than"], **kept, "gain": gain}


def tasks_or_steps(out: Path) -> list[dict[str, Any]]:
    """Return how candidates of several tasks and of one task compare that took as many steps, if all are measured."""
    several, single = RunDir(out / FIVE), RunDir(out / LONG)
    files = {ZERO_SHOT: single.candidate(ZERO_SHOT).probe_result}
    for many, one in TWINS:
        files |= {many: several.candidate(many).probe_result, one: single.candidate(one).probe_result}
    if not all(file.exists() for file in files.values()):
        return []
    results = {name: read_record(file, ProbeResult) for name, file in files.items()}
    pairs = compare_pairs(read_record(single.probe, Probe), results, (), TWINS, seed=0)
    return [two_beside(pair.model_dump()) for pair in pairs]


def towards_zero_shot(comparison: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison so that zero-shot, if it is in it, is what is compared with."""
    if comparison["better"] != "zero-shot":
        return comparison
    turned = {"better": comparison["than"], "than": "zero-shot", "difference": -comparison["difference"]}
    return {**comparison, **turned, "low": -comparison["high"], "high": -comparison["low"]}


def examples(report: dict[str, Any], candidate: dict[str, Any]) -> int:
    """Return how many examples a candidate was trained on, general instructions included."""
    own = sum(part["examples"] for part in report["splits"] if part["split"] == "train")
    return int(own + candidate["train"]["replayed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/forgetting"))
    parser.add_argument("--limit", type=int, help="rows of each task to train on, and to test on")
    parser.add_argument("--model", help="another base")
    add_option(parser)
    options = parser.parse_args()
    if options.data is None:
        print("forgetting: skipped, it needs --data FOLDER with train_small.jsonl and dev.jsonl")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    recipes = {ONE: RECIPE}
    for name, text in ((FIVE, together()), (LONG, longer())):
        recipes[name] = options.out / f"forgetting-{name}.yaml"
        recipes[name].write_text(text, encoding="utf-8")
    with CHILDREN.told_to_stop():
        found, failed = measure(recipes, options)
    print(json.dumps(found, indent=1))
    if failed:
        raise SystemExit(f"forgetting: failed: {', '.join(failed)}; the same command tries them again")


def measure(recipes: Mapping[str, Path], options: argparse.Namespace) -> tuple[dict[str, Any], dict[str, str]]:
    """Run all candidates, and return what was found and why those failed that did."""
    for name, recipe in recipes.items():
        for candidate in candidates(recipe):
            bring_back(options.out / name, candidate)  # where the script was killed
    failed = run_abreast(recipes, options) if options.at_once > 1 else {}
    reports: list[dict[str, Any]] = []
    found: dict[str, Any] = {}
    for name, recipe in recipes.items():
        done = [one for one in candidates(recipe) if one not in failed]
        if not done:
            continue
        shown = recipe if len(done) == len(candidates(recipe)) else part(recipe, done, options.out / f"{name}.yaml")
        reports.append(run(shown, options.out / name, overrides(options)))
        found = {**result(reports, options), **({"failed": failed} if failed else {})}
        if not options.limit and not options.model:
            keep("forgetting", found, packages=PACKAGES, show=False)
    return found, failed


def result(reports: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return what the runs that are done have found, and the names of the cells that are missing."""
    beside = tuned_at_once(options)
    found = {
        name: {**cell, **({"at once": beside[name]} if name in beside else {})}
        for report in reports
        for name, cell in cells(report).items()
    }
    return {
        "question": "what does each way to tune gain on DialogSum, and what does it forget?",
        "rows": f"{options.limit or 100} rows of each task to train on, as many dialogues to test on, one seed",
        "metric": "ROUGE-1 points over zero-shot",
        "probe": {"items": reports[0]["forgetting"]["changes"][0]["all"]["n"]},
        "cells": found,
        "missing": [name for name in (*candidates(RECIPE), *TOGETHER, *LONGER) if name not in found],
        "effects of replay": [
            {**two_beside(one), "cures": one["cures"], "sentence": one["sentence"]}
            for report in reports
            for one in report["forgetting"]["effects"]
        ],
        "pairs": [two_beside(one) for report in reports for one in report["forgetting"]["pairs"]],
        "several tasks beside as many steps of one": tasks_or_steps(options.out),
        "recipes": [RECIPE.read_text(encoding="utf-8"), together(), longer()],  # without the place of the data
        **({"at once": max(beside.values())} if beside else {}),  # the seconds of a cell are not those of it alone
    }


if __name__ == "__main__":
    main()
