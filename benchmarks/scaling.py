"""What does training cost as rows, lengths, tokens in memory and threads grow?

    python benchmarks/scaling.py [--rounds 3] [--threads 1 2] [--small]

LoRA on the built-in model, over rows of random tokens of which the last eighth counts, so that nothing but the size
changes. Each turn is a process of its own, in rounds; the first step of a turn is not counted. "At cost" compares the
seconds of a token with those of the first setting: 1 is perfect proportion.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

from keeping import keep
from speed.models import RATES, model_folder
from speed.rounds import Contender, counted, median, play, spread
from speed.stream import RANK, write_adapter

STEP = 2048  # tokens of a step, unless rows grow
SERIES = ("length", "rows", "tokens at once", "threads")
IDS = range(3, 250)  # that are drawn from; the smallest vocabulary has them


def settings(threads: list[int]) -> list[dict[str, Any]]:
    """Return every setting: the series that it belongs to, and where it differs from the usual one."""
    usual = {"length": 256, "tokens": STEP, "at once": 1024, "threads": max(threads)}
    found = [{**usual, "series": "length", "value": length, "length": length} for length in (64, 128, 256, 512, 1024)]
    found += [{**usual, "series": "rows", "value": rows, "tokens": 256 * rows} for rows in (2, 4, 8, 16)]
    found += [{**usual, "series": "tokens at once", "value": size, "at once": size} for size in (256, 512, 1024, 2048)]
    return found + [{**usual, "series": "threads", "value": count, "threads": count} for count in threads]


def write_stream(path: Path, one: dict[str, Any], *, steps: int, pad: int) -> None:
    """Write rows of random tokens, of equal length."""
    draw, length = random.Random(0), one["length"]
    count = one["tokens"] // length
    rows = []
    for _ in range(steps * count):
        ids = [draw.choice(IDS) for _ in range(length)]
        rows.append({"ids": ids, "labels": [-100] * (length - length // 8) + ids[length - length // 8 :]})
    given = {
        "seq2seq": False, "pad": pad, "rank": RANK, "rate": RATES[True], "rows_per_step": count, "rows": rows,
        "steps": [list(range(start, start + count)) for start in range(0, len(rows), count)], "validation": rows[:1],
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(given), encoding="utf-8")


def contenders(options: argparse.Namespace, model: Path, out: Path) -> list[Contender]:
    """Return a turn for every setting."""
    from tunesmith.models.load import load

    loaded = load(model)
    pad, start = loaded.tokenizer.pad_token_id, write_adapter(out / "start", loaded)
    found = []
    for one in settings(options.threads):
        name = f"{one['series']} {one['value']}"
        stream = out / "streams" / f"{name.replace(' ', '-')}.json"
        write_stream(stream, one, steps=options.steps, pad=pad)
        order = {
            "stream": str(stream), "model": str(model), "adapter": str(start), "threads": one["threads"],
            "seconds": 1e9, "dtype": options.format, "settings": {"tokens_per_batch": one["at once"]}, **one,
        }  # fmt: skip
        found.append(Contender(name, "own_training.py", Path(sys.executable), order))
    return found


def cells(players: list[Contender]) -> dict[str, list[dict[str, Any]]]:
    """Return for each series its settings, with the cost of a token beside that of the first."""
    found: dict[str, list[dict[str, Any]]] = {series: [] for series in SERIES}
    for one in players:
        cell: dict[str, Any] = {"value": one.order["value"]}
        if one.failed:
            found[one.order["series"]].append({**cell, "failed": one.failed})
            continue
        seconds = [counted(turn) for turn in one.turns]
        rates = [one.order["tokens"] * len(turn) / sum(turn) for turn in seconds]
        cell |= {"tokens a second": round(median(rates), 2), "lowest and highest": spread(rates)}
        cell["peak bytes"] = int(median([turn["peak_bytes"] for turn in one.turns]))
        first = next((before for before in found[one.order["series"]] if "tokens a second" in before), cell)
        cell["at cost"] = round(first["tokens a second"] / cell["tokens a second"], 3)
        found[one.order["series"]].append(cell)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="of a turn; the first is not counted")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"))
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script itself; nothing is kept")
    options = parser.parse_args()
    from tunesmith.machine import fastest_dtype

    options.format, out = str(fastest_dtype()).removeprefix("torch."), options.out.resolve()
    model = model_folder("causal", out / "models", ["a few words"], small=options.small)
    players = contenders(options, model, out)
    play(players, out / "turns", rounds=options.rounds, between=lambda: None)
    found = {
        "question": "what does training cost as rows, lengths, tokens in memory and threads grow?",
        "model": "tiny" if options.small else "SmolLM2-135M-Instruct, LoRA of rank 16",
        "format": options.format,
        "tokens of a step": STEP,
        "rounds": options.rounds,
        "series": cells(players),
    }
    if options.small:
        print(json.dumps(found["series"]))
    else:
        keep("scaling", found, packages=("tunesmith", "torch", "transformers", "peft"))


if __name__ == "__main__":
    main()
