"""What does each way to tune gain on DialogSum, and what does it forget?

    python benchmarks/forgetting.py --data FOLDER [--out FOLDER] [--limit ROWS] [--model MODEL]

FOLDER holds train_small.jsonl (to train) and dev.jsonl (to test), with the fields dialogue and summary. forgetting.yaml
is one task: full tuning and LoRA at two rates, with and without replay, and a soft prompt. Then full tuning and LoRA
learn five tasks together: DialogSum and four of the shipped support chats. Gain is ROUGE-1 over the base on the same
100 dialogues, forgetting is the probe, both with 95 % intervals.

Every training, every set of answers and every probe is kept as it is done; the same command goes on with the rest. The
result is written after each of the two runs, and says what is missing. About two hours on two cores, for which rows are
few: 100 of each task to train on, and one seed. ``--limit`` takes fewer rows and keeps no result, to try the script
itself.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from keeping import keep

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


def overrides(options: argparse.Namespace) -> list[str]:
    """Return what both runs change in the recipe: where data and model are, and fewer rows where asked for."""
    data = options.data.resolve()
    found = [f"tasks.0.source.train={data / 'train_small.jsonl'}", f"tasks.0.source.test={data / 'dev.jsonl'}"]
    if options.model:
        found.append(f"model={options.model}")
    if options.limit:
        found.append(f"split.limit={{train: {options.limit}, test: {options.limit}}}")
    return found


def together() -> str:
    """Return the recipe of the five tasks: that of one task, with other candidates and four tasks more."""
    text = RECIPE.read_text(encoding="utf-8").partition("candidates:")[0]
    before, after = text.split("\nsplit:")
    tasks = "".join(f"  - {TASK.format(name=name, more=more)}\n" for name, more in OTHERS.items())
    candidates = "".join(f"  {name}: {body}\n" for name, body in TOGETHER.items())
    # the support chats bring no sides of their own; DialogSum's files say theirs
    shares = after.replace("train: 1, validation: 0, test: 0", "train: 0.75, validation: 0, test: 0.25")
    return f"{before}\n{tasks}split:{shares}candidates:\n{candidates}"


def run(recipe: Path, out: Path, changes: list[str]) -> dict[str, Any]:
    """Run a recipe, or what is left of it, and return its report."""
    sets = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "tunesmith.cli", "run", str(recipe), "--out", str(out), *sets]
    subprocess.run(command, check=True, stdout=sys.stderr)  # stdout has the result alone
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    return report


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
            "seconds of training": candidate["train"]["seconds"],
            "gain": {key: gain[key] for key in ("difference", "low", "high", "p_value")},
            "items": {key: change["all"][key] for key in KEPT},
            "prose": {key: change["prose"][key] for key in KEPT if key in change["prose"]},
            "skills": {skill["skill"]: {key: skill[key] for key in KEPT} for skill in change["skills"]},
        }
    return found


KEPT = ("n", "before", "after", "change", "low", "high", "lost", "won", "p_value", "p_holm")


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
    options = parser.parse_args()
    if options.data is None:
        print("forgetting: skipped, it needs --data FOLDER with train_small.jsonl and dev.jsonl")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    several = options.out / "forgetting-together.yaml"
    several.write_text(together(), encoding="utf-8")
    reports: list[dict[str, Any]] = []
    for name, recipe in (("one-task", RECIPE), ("five-tasks", several)):
        reports.append(run(recipe, options.out / name, overrides(options)))
        found = result(reports, options)
        if not options.limit and not options.model:
            keep("forgetting", found, packages=PACKAGES, show=False)
    print(json.dumps(found, indent=1))


def result(reports: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return what the runs that are done have found, and the names of the cells that are missing."""
    found = {name: cell for report in reports for name, cell in cells(report).items()}
    wanted = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))["candidates"]
    return {
        "question": "what does each way to tune gain on DialogSum, and what does it forget?",
        "rows": f"{options.limit or 100} rows of each task to train on, as many dialogues to test on, one seed",
        "metric": "ROUGE-1 points over zero-shot",
        "probe": {"items": reports[0]["forgetting"]["changes"][0]["all"]["n"]},
        "cells": found,
        "missing": [name for name in (*wanted, *TOGETHER) if name not in found],
        "effects of replay": [
            {key: one[key] for key in ("candidate", "than", "cures", "items", "prose", "sentence")}
            for one in reports[0]["forgetting"]["effects"]
        ],
        "recipes": [RECIPE.read_text(encoding="utf-8"), together()],  # without the place of the data
    }


if __name__ == "__main__":
    main()
