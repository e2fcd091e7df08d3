"""Sweeps over candidates on DialogSum: a cell is one of them, tuned and tested by a process of its own. No benchmark.

A cell that crashes is recorded, and the next one begins. The result is written after every cell, with what is missing,
so that it can be used before all is done. The same command goes on where it was stopped, and tries again what failed.
All cells that learn from the same rows share a run folder, and all cells share the answers of the base.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from keeping import RESULTS, commit, keep

from tunesmith.registry import METHODS, resolve
from tunesmith.reporting.contents import CandidateReport, Report
from tunesmith.reporting.side_by_side import compared
from tunesmith.rundir import RunDir, write_text

BASE = "zero-shot"
RECIPE = Path(__file__).with_name("dialogsum.yaml")
PACKAGES = ("tunesmith", "torch", "transformers", "peft")
DATA = "DialogSum: train_small.jsonl to learn from, dev.jsonl to test on"
REFUSED, STOPPED = 3, (75, 130)  # exit codes: of a recipe that cannot be, and of a process that was told to stop


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate of a sweep."""

    name: str
    candidate: dict[str, Any]  # as a recipe has it
    examples: int | None = None  # to learn from; None = all there are
    passes: float = 1.0  # times the usual number of epochs


@dataclass(frozen=True, slots=True)
class Sweep:
    """A question, and the candidates that answer it, the most telling first."""

    name: str  # of the script and of its result
    question: str
    cells: tuple[Cell, ...]
    rows: int | None = None  # to test on; None = all there are
    validation: float = 0.1  # share of the rows to learn from


def main(sweep: Sweep, about: str, words: Sequence[str] | None = None) -> None:
    """Run the cells that are not done yet, and write the result after each of them."""
    options = arguments(sweep, about).parse_args(words)
    if options.data is None:
        print(f"{sweep.name}: skipped, it needs --data FOLDER with train_small.jsonl and dev.jsonl")
        return
    names = [cell.name for cell in sweep.cells]
    unknown = sorted(set(options.cells or ()) - set(names))
    if unknown:
        raise SystemExit(f"--cells: there is no {', '.join(unknown)}. There are: {', '.join(names)}.")
    options.out = options.out.resolve()
    base = Cell(BASE, {"method": "none"})
    run_cell(sweep, base, options)
    if not is_done(sweep, base, options):
        raise SystemExit(f"{sweep.name}: the base could not be tested; {options.out / 'logs' / BASE}.txt says why")
    write_result(sweep, options)
    for cell in sweep.cells:
        if not options.cells or cell.name in options.cells:
            run_cell(sweep, cell, options)
            write_result(sweep, options)
    write_report(sweep, options)


def arguments(sweep: Sweep, about: str) -> argparse.ArgumentParser:
    """Return what a script of a sweep can be told."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of train_small.jsonl and dev.jsonl")
    parser.add_argument("--out", type=Path, default=Path("runs") / sweep.name)
    parser.add_argument("--cells", nargs="+", metavar="CELL", help="only these; without it all")
    parser.add_argument("--rows", type=int, default=sweep.rows, help=f"to test on; without it {sweep.rows or 'all'}")
    parser.add_argument("--epochs", type=float, help="for a shorter sweep; without it those of each method")
    parser.add_argument("--limit", type=int, help="rows to learn from, and to validate on a quarter as many")
    parser.add_argument("--model", help="another one, to try the script; keeps no result")
    return parser


def run_cell(sweep: Sweep, cell: Cell, options: argparse.Namespace) -> None:
    """Tune and test one candidate, unless that is done, and write what came of it into cells/NAME.json."""
    if is_done(sweep, cell, options):
        return
    asked = recipe(sweep, [cell], options)
    folder, began = run_folder(cell, options), time.monotonic()
    share_base(options.out / "run", folder)
    code = tunesmith("run", asked, cell.name, folder, options)
    if code in STOPPED:
        raise SystemExit(f"{sweep.name}: stopped in {cell.name}; the same command goes on")
    found = explain(code, cell, folder, options) if code else look_up(folder, cell.name)
    found |= {"minutes": round((time.monotonic() - began) / 60, 1), "commit": commit(), "date": time.strftime("%F")}
    write_text(place(cell, options), json.dumps({"asked": asked, **found}, indent=1) + "\n")
    said = found.get("why") or f"ROUGE-1 {found['scores']['rouge1']}, gain {found['gain'].get('rouge1', 'none')}"
    print(f"{cell.name}: {said}", file=sys.stderr, flush=True)


def recipe(sweep: Sweep, cells: Sequence[Cell], options: argparse.Namespace) -> dict[str, Any]:
    """Return the recipe of cells that learn from the same rows: that of dialogsum.yaml with other candidates."""
    made: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    files = {"train": "train_small.jsonl", "test": "dev.jsonl"}
    made["name"], made["forgetting"] = sweep.name, "off"
    made["tasks"][0]["source"] = {split: str(options.data.resolve() / file) for split, file in files.items()}
    made["model"] = options.model or made["model"]
    limits = {"train": cells[0].examples or options.limit, "test": options.rows}
    if options.limit and sweep.validation:
        limits["validation"] = max(1, options.limit // 4)
    made["split"] |= {
        "train": 1 - sweep.validation,
        "validation": sweep.validation,
        "limit": {split: limit for split, limit in limits.items() if limit},
    }
    usual = made["train"].pop("epochs")
    made["candidates"] = {cell.name: trained(cell, usual, options) for cell in cells if cell.name != BASE}
    return made


def trained(cell: Cell, usual: float, options: argparse.Namespace) -> dict[str, Any]:
    """Return a candidate with its number of epochs: the method's own, else the usual one."""
    own = getattr(resolve("method", cell.candidate["method"], METHODS), "TRAIN", {})
    epochs = float(options.epochs or own.get("epochs", usual)) * cell.passes
    return {**cell.candidate, "train": {"epochs": epochs, **cell.candidate.get("train", {})}}


def run_folder(cell: Cell, options: argparse.Namespace) -> Path:
    """Return the run folder of a cell; cells that learn from the same rows share one."""
    folder: Path = options.out / (f"run-{cell.examples}" if cell.examples else "run")
    return folder


def share_base(first: Path, folder: Path) -> None:
    """Take over the answers of the base, which has learned from no rows, from the folder where they were written."""
    target = folder / "candidates" / BASE
    source = first / "candidates" / BASE
    if folder == first or target.exists() or not source.exists():
        return
    staged = folder / f".{BASE}.tmp"
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(source, staged)
    target.parent.mkdir(exist_ok=True)
    staged.rename(target)


def tunesmith(command: str, asked: dict[str, Any], name: str, folder: Path, options: argparse.Namespace) -> int:
    """Call tunesmith in a process of its own, which writes into logs/NAME.txt; return its exit code."""
    written, log = (options.out / part / f"{name}.{kind}" for part, kind in (("recipes", "yaml"), ("logs", "txt")))
    write_text(written, json.dumps(asked, indent=1, ensure_ascii=False) + "\n")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        words = [sys.executable, "-m", "tunesmith.cli", command, str(written), "--out", str(folder)]
        return subprocess.run(words, check=False, stdout=file, stderr=subprocess.STDOUT).returncode


def explain(code: int, cell: Cell, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return why there is nothing to report of a cell: the last line that its process wrote, and how it ended."""
    text = (options.out / "logs" / f"{cell.name}.txt").read_text(encoding="utf-8", errors="replace").strip()
    last = text.splitlines()[-1] if text else "it said nothing"
    for place in (folder, options.out, options.data.resolve()):
        last = last.replace(f"{place}/", "")
    end = f"killed by signal {-code}" if code < 0 else "refused" if code == REFUSED else f"exit code {code}"
    return {"why": f"{end}: {last}"}


def look_up(folder: Path, name: str) -> dict[str, Any]:
    """Return what a run found out about one candidate: scores, gain over the base, what it cost."""
    report = Report.model_validate_json(RunDir(folder).report_json.read_text(encoding="utf-8"))
    (task,) = report.tasks
    scores = {one.metric: interval(one.value, one.low, one.high) for one in task.scores[name]}
    gains = {metric: compared(task, metric, candidate=name, baseline=BASE) for metric in scores}
    rows = report.health.rows_per_split if report.health else {}
    return {
        "rows": {split: rows.get(split, 0) for split in ("train", "validation", "test")},
        "scores": scores,
        "gain": {metric: interval(one.difference, one.low, one.high) for metric, one in gains.items() if one},
        **costs(next(one for one in report.candidates if one.name == name)),
    }


def interval(value: float, low: float, high: float) -> dict[str, float]:
    """Return a value with its 95 % interval, to a hundredth of its unit."""
    return {name: round(one, 2) + 0.0 for name, one in (("value", value), ("low", low), ("high", high))}


def costs(one: CandidateReport) -> dict[str, Any]:
    """Return what one candidate took: parameters, bytes on disk, seconds, memory; and how it was trained."""
    if one.predict is None:
        raise ValueError(f"{one.name}: the run has ended, and there are no answers")
    train = one.train
    found: dict[str, Any] = {"method": one.method, "trainable": train.trainable if train else 0}
    if train:
        found |= {"share": train.trainable / train.total, "adapter_bytes": train.adapter_bytes}
        found |= train.model_dump(include={"epochs", "steps", "learning_rate", "train_loss", "validation_loss"})
    found["seconds"] = {"training": train.seconds if train else 0.0, "answering": one.predict.seconds}
    found["peak_bytes"] = {"training": train.peak_bytes if train else 0, "answering": one.predict.peak_bytes}
    return found


def write_result(sweep: Sweep, options: argparse.Namespace) -> None:
    """Write what is known by now; a try of the script leaves the kept results alone."""
    found, failed, missing = {}, {}, []
    for cell in (Cell(BASE, {"method": "none"}), *sweep.cells):
        one = known(sweep, cell, options)
        if "why" in one:
            failed[cell.name] = one
        elif one:
            found[cell.name] = one
        else:
            missing.append(cell.name)
    learned, tested = (f"{n} rows, chosen by seed" if n else "all rows" for n in (options.limit, options.rows))
    result = {
        "question": sweep.question,
        "data": DATA,
        "learned from": learned,
        "tested on": tested,
        "epochs": options.epochs or "those of each method",
        "candidates": {cell.name: cell.candidate for cell in sweep.cells},
        "missing": missing,
        "failed": failed,
        "cells": found,
    }
    keep(sweep.name, result, packages=PACKAGES, folder=options.out if options.model else RESULTS, show=False)


def write_report(sweep: Sweep, options: argparse.Namespace) -> None:
    """Write the report of each run folder anew, with all of its cells side by side."""
    for folder in dict.fromkeys(run_folder(cell, options) for cell in sweep.cells):
        done = [cell for cell in sweep.cells if run_folder(cell, options) == folder and is_done(sweep, cell, options)]
        if done and tunesmith("report", recipe(sweep, done, options), folder.name, folder, options) == 0:
            print(folder / "report.html")


def is_done(sweep: Sweep, cell: Cell, options: argparse.Namespace) -> bool:
    """Tell whether a cell was tuned and tested as it would be now."""
    one = known(sweep, cell, options)
    return bool(one) and "why" not in one


def known(sweep: Sweep, cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Return what is known of a cell: nothing, if it was asked for otherwise (other rows, other epochs)."""
    kept = place(cell, options)
    one = read(kept) if kept.exists() else {}
    return one if one.pop("asked", None) == recipe(sweep, [cell], options) else {}


def place(cell: Cell, options: argparse.Namespace) -> Path:
    """Return the file that holds what is known of a cell."""
    file: Path = options.out / "cells" / f"{cell.name}.json"
    return file


def read(path: Path) -> dict[str, Any]:
    """Return what a JSON file holds."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
