"""How many prompts a second does tunesmith answer, beside transformers' generate and its continuous batching?

    python benchmarks/predict_speed.py [--data FOLDER] [--model FOLDER] [--prompts 64] [--shots 0] [--rounds 3]
        [--peers PYTHON]

Greedy answers to dialogues that are to be summarised, by the built-in model or by a merged one that ``--model`` names.
The answers of generate as it comes are the ones to give. One that differs must part from it at two tokens between
which rounding decides: no further apart than rounding moves the logits of transformers' own layers there, in the
format that the program computes in; else a program has no speed here. All answers and times are kept in turns.json of
``--out``, and can be judged ``--again``. Each turn is a process of its own, in rounds, so that a busy moment falls on
all. Loading the model is not counted. "As it comes" is float32, batches of 8, in the given order; "tuned" is the number
format that this machine multiplies fastest, prompts sorted by length, and the fastest of the batches 8, 16 and 32.
FOLDER holds DialogSum's train_small.jsonl and dev.jsonl; else the shipped support chats are used. With ``--shots`` each
question comes after so many worked examples, the same ones; that is a result of its own. With 256 prompts or
more, what runs as it comes takes one turn, as it does where PyTorch sees a graphics card: everybody computes there,
larger batches are tried, and the result is kept beside that of the processor.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from keeping import keep, named
from speed.ceiling import answering_work, matrix_products, medians
from speed.environment import peers_python
from speed.equality import Referee, reach, same_answers
from speed.models import model_folder
from speed.rounds import Contender, median, play, spread, times
from speed.stream import encode, texts
from speed.turn import device, on_card

BATCHES = {"cpu": (8, 16, 32), "cuda": (32, 64, 128)}
OWN, PEER, TUNED, CONTINUOUS = "tunesmith", "generate, as it comes", "generate, tuned", "continuous batching"
GOALS = {TUNED: 2.5, PEER: 6.0}
MANY = 256  # prompts, of which what runs as it comes is asked once


def write_prompts(path: Path, model: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Write the prompts as token ids; return what was written."""
    from tunesmith.models.load import load

    loaded = load(model)
    pairs = texts(options.data, want=options.prompts + options.shots)
    prompts = [
        [token for token, counts in zip(example.input_ids, example.trains, strict=True) if not counts]
        for example in encode(loaded, pairs, longest=options.longest, shots=options.shots)
    ]
    given = {
        "prompts": prompts, "new": options.new, "pad": loaded.tokenizer.pad_token_id, "stops": sorted(loaded.stop_ids),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(given), encoding="utf-8")
    return given


def contenders(
    options: argparse.Namespace, stream: Path, model: Path, formats: dict[str, float], batch: int
) -> list[Contender]:
    """Return who takes part."""
    fast = "bfloat16" if formats["bfloat16"] > 1.1 * formats["float32"] else "float32"
    order = {"stream": str(stream), "model": str(model), "threads": options.threads, "dtype": fast}
    usual = {**order, "tuned": False, "dtype": "float32"}  # as the model's file has it
    tuned = {**order, "tuned": True, "medium": formats["float32, medium"] > 1.2 * formats["float32"]}
    peer = {"script": "peer_answering.py", "python": options.peers}
    generate = {"program": "generate"}
    once = {"most": 1} if on_card() or options.prompts >= MANY else {}  # small batches leave a card idle
    found = [
        Contender(OWN, "own_answering.py", Path(sys.executable), order),
        Contender(TUNED, **peer, order={**tuned, **generate, "batch": batch, "sorted": True}),
        Contender(PEER, **peer, **once, order={**usual, **generate, "batch": 8, "sorted": False}),
        Contender(CONTINUOUS, **peer, most=1, order={**tuned, "program": "continuous", "batch": max(options.batches)}),
    ]
    return [one for one in found if one.name != CONTINUOUS or not options.without_continuous]


def best_batch(options: argparse.Namespace, one: Contender, folder: Path) -> dict[str, float]:
    """Return prompts a second of the tuned generate for each batch, over the prompts of four of the largest."""
    tried = {}
    for batch in (size for size in options.batches if size <= options.prompts):
        order = {**one.order, "batch": batch, "first": min(options.prompts, 4 * max(options.batches))}
        again = Contender(f"{one.name}, batches of {batch}", one.script, one.python, order)
        play([again], folder, rounds=1, between=lambda: None)
        if again.turns:
            tried[str(batch)] = round(order["first"] / again.turns[0]["seconds"][1], 3)
    return tried


def equality(players: list[Contender], model: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Compare everybody's answers with those of generate as it comes, and judge where they part."""
    import torch

    from tunesmith.models.load import load

    expected = next(one for one in players if one.name == PEER)
    if not expected.turns:
        raise SystemExit(f"{PEER} failed, and nothing can be compared with it: {expected.failed}")
    exact = load(model, dtype=torch.float32).model
    half = any(one.order["dtype"] == "bfloat16" for one in players)
    rounded = {"float32": None, "bfloat16": load(model, dtype=torch.bfloat16).model if half else None}
    wanted, found = expected.turns[0]["answers"], {}
    for one in (one for one in players if one.turns and one.name != PEER):
        answers = one.turns[0]["answers"]
        places = same_answers(answers, wanted)
        referee = Referee(exact, rounded[one.order["dtype"]], given["stops"], reach(sum(map(len, wanted))))
        parted = [n for n in places if not referee.tied(given["prompts"][n], answers[n], wanted[n])]
        found[one.name] = {
            "equal": len(wanted) - len(places), "ties": len(places) - len(parted), "other": len(parted),
            "passed": not parted,
        }  # fmt: skip
        if parted:
            print(f"{one.name} parts at more than a tie in the answers {parted}", file=sys.stderr)
    return found


def cell(one: Contender, given: dict[str, Any], gate: dict[str, Any] | None, *, least: float) -> dict[str, Any]:
    """Return what one program showed; without its speed if it failed, or did not write the same.

    Args:
        one: The program.
        given: The prompts.
        gate: How its answers compare with others'.
        least: Seconds that all answers take at the ceiling.
    """
    if not one.turns:
        return {"failed": one.failed}
    told: dict[str, Any] = {"format": one.order["dtype"], "batch": one.order.get("batch", "as it likes")}
    if gate is not None:
        told["equality"] = gate
    if gate is not None and not gate["passed"]:
        return told
    rates = [len(given["prompts"]) / turn["seconds"][1] for turn in one.turns]
    return told | {
        "prompts a second": round(median(rates), 3),
        "lowest and highest": spread(rates),
        "share of the ceiling": round(least * median(rates) / len(given["prompts"]), 4),
        "peak bytes": int(median([turn["peak_bytes"] for turn in one.turns])),
        "new tokens": sum(len(answer) for answer in one.turns[0]["answers"]),
        "turns": len(rates),
    }


def least_seconds(model: Path, given: dict[str, Any], expected: Contender, products: dict[str, float]) -> float:
    """Return how long the answers take if nothing but matrix products takes time, and those are as fast as can be."""
    from tunesmith.inference.reading import shared_prefix
    from tunesmith.models.load import load

    lengths = [
        (len(prompt), len(answer))
        for prompt, answer in zip(given["prompts"], expected.turns[0]["answers"], strict=True)
    ]
    shared = shared_prefix(list(map(tuple, given["prompts"])))
    return answering_work(load(model).model, lengths, shared=shared) / max(products.values())


def measure(options: argparse.Namespace, model: Path, out: Path) -> None:
    """Let everybody answer, and keep the turns, what the machine could do, and what each batch brought."""
    stream, products = out / "prompts.json", [matrix_products(options.threads)]
    tried = best_batch(options, contenders(options, stream, model, products[0], 8)[1], out / "turns")
    batch = int(max(tried, key=lambda size: tried[size])) if tried else 8
    players = contenders(options, stream, model, products[0], batch)
    for one in players:
        one.patience = options.seconds
    play(
        players, out / "turns", rounds=options.rounds, between=lambda: products.append(matrix_products(options.threads))
    )
    kept = {"products": products, "tried": tried, "batch": batch, "turns": {one.name: one.turns for one in players},
            "failed": {one.name: one.failed for one in players}}  # fmt: skip
    (out / "turns.json").write_text(json.dumps(kept), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", type=Path, help="folder of a merged model; else the built-in one")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--shots", type=int, default=0, help="worked examples before each question")
    parser.add_argument(
        "--without-continuous", action="store_true", help="batching, which takes as long as all others together"
    )
    parser.add_argument("--new", type=int, default=48, help="longest answer, in tokens")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=300.0, help="after which a turn is ended, and has failed")
    parser.add_argument("--longest", type=int, default=1024, help="tokens of a prompt with its answer")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES[device().type], help="that generate tries")
    parser.add_argument("--peers", type=Path, help="Python that has torch and transformers")
    parser.add_argument("--out", type=Path, default=Path("runs/predict_speed"))
    parser.add_argument(
        "--again", action="store_true", help="judge what the last call measured; give its other options too"
    )
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script itself; nothing is kept")
    options = parser.parse_args()
    options.peers, out = peers_python(options.peers), options.out.resolve()
    words = [text for pair in texts(options.data, want=options.prompts + options.shots) for text in pair]
    model = options.model or model_folder("causal", out / "models", words, small=options.small)
    if options.again:
        if not (out / "turns.json").is_file():
            parser.error(f"--again: {out} has no turns.json; measure first, without it.")
        given = json.loads((out / "prompts.json").read_text(encoding="utf-8"))
    else:
        given = write_prompts(out / "prompts.json", model, options)
        measure(options, model, out)
    kept = json.loads((out / "turns.json").read_text(encoding="utf-8"))
    products = kept["products"]
    players = contenders(options, out / "prompts.json", model, products[0], kept["batch"])
    for one in players:
        one.turns, one.failed = kept["turns"][one.name], kept["failed"][one.name]
    gate = equality(players, model, given)
    least = least_seconds(model, given, next(one for one in players if one.name == PEER), medians(products))
    cells = {one.name: cell(one, given, gate.get(one.name), least=least) for one in players}
    speeds = {name: cell["prompts a second"] for name, cell in cells.items() if "prompts a second" in cell}
    found = {
        "question": "how many prompts a second does tunesmith answer, beside generate and continuous batching?",
        "data": "DialogSum" if options.data else "the shipped support chats",
        "model": "tiny" if options.small else "a merged one" if options.model else "SmolLM2-135M-Instruct",
        "prompts": len(given["prompts"]),
        "prompt tokens": sum(map(len, given["prompts"])),
        "longest answer": options.new,
        "shots": options.shots,
        "threads": options.threads,
        "rounds": options.rounds,
        "matrix products in 1e12 a second": medians(products),
        "prompts a second by batch, generate tuned": kept["tried"],
        "cells": cells,
        "times faster than": {name: times(speeds, OWN, name) for name in cells if name != OWN},
        "goal, times faster than": {} if on_card() or options.shots else GOALS,
    }
    if options.small:
        print({name: found[name] for name in ("times faster than", "cells")})
    else:
        keep(
            named("predict_speed_shots" if options.shots else "predict_speed"),
            found,
            packages=("tunesmith", "torch", "transformers"),
        )


if __name__ == "__main__":
    main()
