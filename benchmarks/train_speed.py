"""How many real tokens a second does tunesmith train with, beside transformers' Trainer with peft, and trl?

    python benchmarks/train_speed.py [--data FOLDER] [--rows 8] [--steps 2] [--rounds 3] [--peers PYTHON] [--small]

Everybody starts from the same weights and is given the same rows in the same steps. Before a speed is told, the losses
of all steps, the tokens and the validation loss must be those of a plain float32 loop, one row at a time; a program for
which they are not has no speed here. Each turn is a process of its own, in rounds, so that a busy moment falls on all.
The first step of a turn is not counted. "As it comes" is what the defaults do; "tuned" is the number format that this
machine multiplies fastest, rows sorted by length within a step, fused AdamW, no checkpointing, and the fastest of those
of the batches 4, 8 and 16 that make up a step. What runs as it comes takes one turn, all else one in every round; trl
computes in bfloat16 by default, and on a machine that is slow at that it takes a turn in float32 too. What ``--tasks``
leaves out keeps what an earlier call has measured. FOLDER holds DialogSum's train_small.jsonl and dev.jsonl; else the
shipped support chats are used. The peers' environment is made in .venv-peers, unless ``--peers`` names a Python that
has trl and peft.

Where PyTorch sees a graphics card, everybody computes there, the first three steps of a turn are not counted, larger
batches are tried. Steps are short there: ask for more and larger ones, such as ``--rows 32 --steps 13``. The result is
kept beside that of the processor.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from keeping import RESULTS, commit, keep, named
from speed.ceiling import matrix_products, medians, work
from speed.environment import peers_python
from speed.equality import TOLERANCE, training_gate
from speed.models import Task, prepare_tasks
from speed.rounds import Contender, counted, median, play, spread, times
from speed.turn import UNCOUNTED, device, on_card

from tunesmith.machine import device_name

BATCHES = {"cpu": (4, 8, 16), "cuda": (16, 32, 64)}
OWN, TRAINER, TUNED_TRAINER = "tunesmith", "Trainer, as it comes", "Trainer, tuned"
TRL, TUNED_TRL, WIDE_TRL = "trl, as it comes", "trl, tuned", "trl, in float32, else as it comes"
GOALS = {"causal LoRA": {TUNED_TRAINER: 3.0, TRL: 10.0}, "causal full": {TUNED_TRAINER: 2.5},
         "T5 LoRA": {TUNED_TRAINER: 2.5}, "T5 full": {TUNED_TRAINER: 2.5}}  # fmt: skip
"""Task -> how many times faster than whom tunesmith wants to be on a processor; for a card nobody has set any."""


def contenders(task: Task, options: argparse.Namespace, formats: dict[str, float], batch: int) -> list[Contender]:
    """Return who takes part in a task."""
    fast = "bfloat16" if formats["bfloat16"] > 1.1 * formats["float32"] else "float32"
    medium = formats["float32, medium"] > 1.2 * formats["float32"]
    order = {
        "stream": str(task.stream), "model": str(task.model), "adapter": task.adapter and str(task.adapter),
        "threads": options.threads, "seconds": options.seconds, "batch": min(8, options.rows), "dtype": fast,
    }  # fmt: skip
    # Full tuning in bfloat16 keeps float32 weights, as ours does: else the last bits of every step are lost.
    half = {"dtype": "float32", "autocast": fast == "bfloat16"} if task.adapter is None else {}
    once: dict[str, Any] = {"most": 1, "patience": options.patience}
    usual = {**order, "tuned": False, "dtype": "float32"}  # as the model's file has it
    tuned = {**order, "tuned": True, "batch": batch, "medium": medium, **half}
    peer = {"script": "peer_training.py", "python": options.peers}
    found = [
        Contender(OWN, "own_training.py", Path(sys.executable), {**order, **half}),
        Contender(TUNED_TRAINER, **peer, order={**tuned, "program": "trainer"}),
    ]
    if task.adapter is not None and task.kind == "causal":
        found += [
            Contender(TUNED_TRL, **peer, order={**tuned, "program": "trl"}),
            Contender(TRAINER, **peer, **once, order={**usual, "program": "trainer"}),
            Contender(TRL, **peer, **once, order={**usual, "program": "trl", "autocast": True}),
        ]
        if fast == "float32":
            found.append(Contender(WIDE_TRL, **peer, **once, order={**usual, "program": "trl", "wide": True}))
    for one in found if options.preload else ():
        one.environment["LD_PRELOAD"] = str(options.preload.resolve())
    return found


def best_batch(task: Task, options: argparse.Namespace, formats: dict[str, float], folder: Path) -> dict[int, float]:
    """Return the seconds of a step of the tuned Trainer in this task, for each batch that divides a step."""
    sizes = [size for size in options.batches if options.rows % size == 0]
    players = [contenders(task, options, formats, size)[1] for size in sizes]
    for size, one in zip(sizes, players, strict=True):
        one.name, one.order["stream"] = f"{one.name}, batches of {size}", str(task.short)
    play(players, folder, rounds=2, between=lambda: None)
    return {
        size: round(median([second for turn in one.turns for second in counted(turn)]), 4)
        for size, one in zip(sizes, players, strict=True)
        if one.turns
    }


def measure(task: Task, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Play all rounds of one task."""
    products = [matrix_products(options.threads)]
    tried = best_batch(task, options, products[0], folder)
    batch = min(tried, key=lambda size: tried[size]) if tried else min(8, options.rows)
    order = {"program": "plain", "tuned": True, "dtype": "float32", "medium": False, "seconds": 1e9}
    players = contenders(task, options, products[0], batch)
    plain = Contender("plain", "peer_training.py", options.peers, {**players[0].order, **order})
    expected = plain.take_turn(folder)
    if expected is None:
        raise SystemExit(f"{task.name}: the plain loop failed: {plain.failed}; {folder / 'failed.txt'} has all of it")
    play(players, folder, rounds=options.rounds, between=lambda: products.append(matrix_products(options.threads)))
    ceiling = max(medians(products).values())
    cells = {one.name: cell(one, expected, task, ceiling) for one in players}
    speeds = {name: found["tokens a second"] for name, found in cells.items() if "tokens a second" in found}
    peaks = {name: found["peak bytes"] for name, found in cells.items() if "peak bytes" in found}
    return {
        "model": task.about,
        "rows": len(task.given["rows"]),
        "rows in a step": options.rows,
        "tokens": expected["tokens"],
        "counted tokens": sum(label != -100 for row in task.given["rows"] for label in row["labels"]),
        "matrix products in 1e12 a second": medians(products),
        "seconds of a step by batch, Trainer tuned": tried,
        "cells": cells,
        "times faster than": {name: times(speeds, OWN, name) for name in cells if name != OWN},
        "peak memory as a share of": {name: times(peaks, OWN, name) for name in cells if name != OWN},
        "goal, times faster than": {} if on_card() else GOALS[task.name],
    }


def cell(one: Contender, plain: dict[str, Any], task: Task, ceiling: float) -> dict[str, Any]:
    """Return what one program showed; without its speed if it failed, or did not learn the same."""
    if not one.turns:
        late = {"at most tokens a second": round(plain["tokens"] / one.patience, 2)} if "longer" in one.failed else {}
        return {"failed": one.failed, **late}
    half = one.order["dtype"] == "bfloat16" or one.order.get("autocast", False)  # trl's default is to do so
    gate = training_gate(one.turns[0], plain, half=half)
    told: dict[str, Any] = {
        "equality": gate,
        "losses": [round(loss, 5) for loss in one.turns[0]["losses"]],
        "validation loss": round(one.turns[0]["validation"], 5),
        "weights": one.order["dtype"],
        "computed in": "bfloat16" if half else "float32",
        "batch": one.order["batch"] if one.name != OWN else f"{one.turns[0]['at once']:,} tokens",
        "turns": len(one.turns),
    }
    if not gate["passed"]:
        return told
    share = work(task.bare, task.given, lora=task.lora) / plain["tokens"]
    rates = [speed(turn, task) for turn in one.turns]
    return told | {
        "tokens a second": round(median(rates), 2),
        "lowest and highest": spread(rates),
        "share of the ceiling": round(median(rates) * share / ceiling, 4),
        "peak bytes": int(median([turn["peak_bytes"] for turn in one.turns])),
    }


def speed(turn: dict[str, Any], task: Task) -> float:
    """Return real tokens a second over all steps that count."""
    return sum(task.tokens_of_steps[turn["uncounted"] : len(turn["seconds"])]) / sum(counted(turn))


def earlier(options: argparse.Namespace) -> dict[str, Any]:
    """Return the tasks that an earlier call has measured in the same setting: one that names some leaves the others."""
    path = RESULTS / f"{named('train_speed')}.json"
    if options.small or not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    here = {"data": "DialogSum" if options.data else "the shipped support chats", "threads": options.threads}
    same = found["device"] == device_name() and all(found[name] == value for name, value in here.items())
    return dict(found["tasks"]) if same and not options.preload else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, default=8, help="in an optimizer step")
    parser.add_argument(
        "--steps", type=int, default=2, help="of a turn; the first is not counted, on a card the first three"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=90.0, help="after which a turn ends early, with a step that counts"
    )
    parser.add_argument("--patience", type=float, default=150.0, help="seconds for a turn of what runs as it comes")
    parser.add_argument("--longest", type=int, default=256, help="tokens of a row")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES[device().type], help="that Trainer tries")
    parser.add_argument("--tasks", nargs="+", default=list(GOALS), choices=list(GOALS))
    parser.add_argument("--peers", type=Path, help="Python that has torch, transformers, peft and trl")
    parser.add_argument("--preload", type=Path, help="an allocator for everybody, such as libtcmalloc_minimal.so.4")
    parser.add_argument("--out", type=Path, default=Path("runs/train_speed"))
    parser.add_argument("--small", action="store_true", help="tiny models, to try the script itself; nothing is kept")
    options = parser.parse_args()
    if options.steps <= (first := UNCOUNTED[device().type]):
        parser.error(f"--steps {options.steps}: the first {first} of a turn are not counted here, ask for more")
    options.peers, out = peers_python(options.peers), options.out.resolve()
    tasks = earlier(options)
    for task in prepare_tasks(options, out):
        tasks[task.name] = {**measure(task, options, out / "turns"), "commit": commit()}
    found: dict[str, Any] = {
        "question": "how many real tokens a second does tunesmith train with, beside Trainer with peft, and trl?",
        "data": "DialogSum" if options.data else "the shipped support chats",
        "threads": options.threads,
        "allocator": options.preload.name if options.preload else f"that of {'PyTorch' if on_card() else 'the system'}",
        "rounds": options.rounds,
        "steps": options.steps,
        "uncounted steps": first,
        "tolerance": TOLERANCE,
        "tasks": {name: tasks[name] for name in GOALS if name in tasks},
    }
    if options.small:
        for name, task in found["tasks"].items():
            print(name, task["times faster than"], {cell: one.get("equality") for cell, one in task["cells"].items()})
    else:
        keep(named("train_speed"), found, packages=("tunesmith", "torch", "transformers", "peft"))


if __name__ == "__main__":
    main()
