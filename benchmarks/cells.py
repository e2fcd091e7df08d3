"""Sweeps over candidates on DialogSum: a cell is one of them, tuned and tested by a process of its own. No benchmark.

A cell that crashes is recorded, and the next one begins. The result is written after every cell, with what is missing,
so that it can be used before all is done. The same command goes on where it was stopped, and tries again what failed.
All cells that learn from the same rows share a run folder, and all cells share the answers of the base. With --at-once,
some cells run side by side (see abreast.py); the files that they leave are the same.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from abreast import CHILDREN, STOPPED, add_option, bring_back, explain, lend, lent, side_by_side
from keeping import RESULTS, commit, keep, look_up

from tunesmith.machine import device_name
from tunesmith.recipe import ZERO_SHOT as BASE
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import RunDir, write_text

RECIPE = Path(__file__).with_name("dialogsum.yaml")
PACKAGES = ("tunesmith", "torch", "transformers", "peft")
DATA = "DialogSum: train_small.jsonl to learn from, dev.jsonl to test on"


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
    with CHILDREN.told_to_stop():
        run_cells(sweep, options)


def run_cells(sweep: Sweep, options: argparse.Namespace) -> None:
    """Run the base and then the cells that are asked for and not done yet."""
    for cell in sweep.cells:
        bring_back(run_folder(cell, options), cell.name)  # where the script was killed
    base = Cell(BASE, {"method": "none"})
    if not is_done(sweep, base, options):
        run_cell(sweep, base, options)
    if not is_done(sweep, base, options):
        raise SystemExit(f"{sweep.name}: the base could not be tested; {options.out / 'logs' / BASE}.txt says why")
    write_result(sweep, options)
    asked = [cell for cell in sweep.cells if not options.cells or cell.name in options.cells]
    left = [cell for cell in asked if not is_done(sweep, cell, options)]
    if options.at_once > 1:
        run_abreast(sweep, left, options)
    else:
        for cell in left:
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
    add_option(parser)
    return parser


def run_cell(sweep: Sweep, cell: Cell, options: argparse.Namespace) -> None:
    """Tune and test one candidate, and write what came of it into cells/NAME.json."""
    asked, folder, began = recipe(sweep, [cell], options), run_folder(cell, options), time.monotonic()
    share_base(options.out / "run", folder)
    code = tunesmith("run", asked, cell.name, folder, options)
    if code in STOPPED:
        raise SystemExit(f"{sweep.name}: stopped in {cell.name}; the same command goes on")
    note(cell, {"asked": asked, **outcome(code, cell, folder, options)}, minutes(began), options)


def run_abreast(sweep: Sweep, cells: Sequence[Cell], options: argparse.Namespace) -> None:
    """Tune and test some candidates at a time, each as ``run_cell`` does but in a run folder of its own."""
    for cell in cells:
        prepare(sweep, cell, options)
    began = {}

    def work(cell: Cell) -> int:
        began[cell.name] = time.monotonic()
        own = lend(run_folder(cell, options), cell.name)
        return tunesmith("run", recipe(sweep, [cell], options), cell.name, own, options)

    def finish(cell: Cell, code: int) -> None:
        shared = run_folder(cell, options)
        if code not in STOPPED:
            found = {"at once": options.at_once, **outcome(code, cell, lent(shared, cell.name), options)}
            note(cell, {"asked": recipe(sweep, [cell], options), **found}, minutes(began[cell.name]), options)
        bring_back(shared, cell.name)
        write_result(sweep, options)

    if not side_by_side(cells, work, finish, at_once=options.at_once):
        raise SystemExit(f"{sweep.name}: stopped; the same command goes on")


def prepare(sweep: Sweep, cell: Cell, options: argparse.Namespace) -> None:
    """Make the data of a run folder, unless it is there, so that all cells that share it learn from the same files."""
    folder = run_folder(cell, options)
    if RunDir(folder).health.exists():
        return
    share_base(options.out / "run", folder)
    if tunesmith("run", {**recipe(sweep, [cell], options), "candidates": {}}, folder.name, folder, options):
        raise SystemExit(f"{sweep.name}: no data in {folder}; {options.out / 'logs' / folder.name}.txt says why")


def outcome(code: int, cell: Cell, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return what came of a process that has ended in a run folder: what it found, or why it did not."""
    if code == 0:
        return look_up(folder, cell.name)
    log = options.out / "logs" / f"{cell.name}.txt"
    return {"why": explain(code, log, (folder, options.out, options.data.resolve()))}


def minutes(began: float) -> float:
    """Return how long ago that was."""
    return round((time.monotonic() - began) / 60, 1)


def note(cell: Cell, found: dict[str, Any], took: float, options: argparse.Namespace) -> None:
    """Write down and say what came of a cell."""
    found = {**found, "minutes": took, "device": device_name(), "commit": commit(), "date": time.strftime("%F")}
    write_text(place(cell, options), json.dumps(found, indent=1) + "\n")
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
    return CHILDREN.tunesmith([command, written, "--out", folder], log)


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
    together = max(one.get("at once", 1) for one in (*found.values(), *failed.values()))
    if together > 1:
        result["at once"] = together  # the seconds of a cell are not those of it alone
    keep(sweep.name, result, packages=PACKAGES, folder=options.out if options.model else RESULTS, show=False)


def write_report(sweep: Sweep, options: argparse.Namespace) -> None:
    """Write the report of each run folder anew, with all of its cells side by side."""
    for folder in dict.fromkeys(run_folder(cell, options) for cell in sweep.cells):
        done = [cell for cell in sweep.cells if run_folder(cell, options) == folder and is_done(sweep, cell, options)]
        code = tunesmith("report", recipe(sweep, done, options), folder.name, folder, options) if done else None
        if code == 0:
            print(folder / "report.html")
        if code in STOPPED:
            raise SystemExit(f"{sweep.name}: stopped in {folder}; the same command goes on")


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
