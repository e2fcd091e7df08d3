"""How far are time and memory from what `tunesmith plan` says, over methods, lengths, batches and architectures?

    python benchmarks/plan_accuracy.py [--out FOLDER] [--rounds 3] [--small]

Every setting is trained for a few steps and answers a few prompts, each in a process of its own, which plans first. The
goal is that the highest memory is within 15 % of the plan and the time within 25 %, in the worst case. A busy moment of
a machine that others share makes a plan slow that is measured then, and whatever is planned with it: so all is done in
rounds, each with calibrations of its own, and what is compared are medians, of the plans and of the measurements; the
shares of every round are in the result as well. Causal is the built-in model; the encoder-decoder has the shape of
T5-small and random weights, since no model hub may be needed. The same command goes on with the settings that are left;
the result is written after each of them. ``--small`` takes tiny models, to try the script itself.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from keeping import keep

KINDS, METHODS = ("causal", "seq2seq"), ("lora", "full")
LENGTHS_AND_BATCHES = ((128, 512), (256, 1024), (512, 1024), (512, 2048))  # train.max_tokens, train.tokens_per_batch
SETTINGS = [(kind, method, size) for size, method, kind in itertools.product(LENGTHS_AND_BATCHES, METHODS, KINDS)]
GOALS = {"memory": 0.15, "seconds": 0.25}
PACKAGES = ("tunesmith", "torch", "transformers", "peft")
RECIPE = """\
name: plan-accuracy
model: {model}
tasks:
  - {{name: summarize, source: support, template: dialogue-summary, metrics: [rouge1], max_new_tokens: 24}}
split: {{limit: {{train: 96, validation: 4, test: 16}}}}
train: {{epochs: 1, max_steps: {steps}, tokens_per_step: 2048, validations: 0, max_tokens: {length},
        tokens_per_batch: {batch}}}
candidates:
  tuned: {{method: {method}}}
"""


def models(folder: Path, small: bool) -> dict[str, Path]:
    """Return the folder of a model of each architecture."""
    from tunesmith.data.sources import read_rows
    from tunesmith.models.load import materialize
    from tunesmith.models.tiny import write_tiny
    from tunesmith.settings import DataSettings, TaskSettings

    task = TaskSettings(source="support", template="dialogue-summary")
    rows = read_rows(task, DataSettings(), base=Path.cwd()).rows[:100]
    texts = [str(value) for row in rows for value in row.values.values()]
    found = {}
    for kind in ("causal", "seq2seq"):
        found[kind] = folder / kind
        if not (found[kind] / "config.json").is_file():
            write_tiny(found[kind], kind=kind, texts=texts, vocabulary=2048)
            if kind == "seq2seq" and not small:
                write_t5_small(found[kind])
    return found if small else {**found, "causal": materialize("smollm2-135m-instruct", base=Path.cwd())}


def write_t5_small(folder: Path) -> None:
    """Put random weights of the shape of T5-small (version 1.1) beside a tokenizer that is there."""
    import torch
    from transformers import AutoConfig, T5ForConditionalGeneration

    config = AutoConfig.from_pretrained(folder)
    config.update({
        "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8,
        "num_heads": 6, "dropout_rate": 0.1,
    })  # fmt: skip
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(32128, 512) * 512**-0.5)
    model.save_pretrained(folder)


def measure(where: Path, recipe: str, home: Path) -> dict[str, Any]:
    """Train and answer, each in a fresh process; return the plan beside what was measured."""
    where.mkdir(parents=True, exist_ok=True)
    (where / "recipe.yaml").write_text(recipe, encoding="utf-8")
    run = where / "run"
    for step in ("train", "answer"):
        words = [sys.executable, __file__, "--step", step, "--out", str(where)]
        subprocess.run(words, check=True, env={**os.environ, "TUNESMITH_HOME": str(home)})
    plans = {one["name"]: one for one in read(run / "plan.json")["candidates"]}
    plan, tuned = plans["tuned"], run / "candidates" / "tuned"
    done = {"train": read(tuned / "train.json"), "answer": read(tuned / "predict.json")}
    found: dict[str, Any] = {"trainable": plan["trainable"]}
    for what in ("train", "answer"):
        stage, real = plan[what], done[what]
        found[what] = {
            "planned": {"seconds": stage["seconds"], "peak_bytes": stage["peak"], "parts": stage["parts"]},
            "measured": {"seconds": real["seconds"], "peak_bytes": real["peak_bytes"]},
        }
    return found


def over_rounds(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Return medians of what was planned and of what was measured, their shares, and those of every round."""
    found: dict[str, Any] = {"trainable": turns[0]["trainable"]}
    for stage in ("train", "answer"):
        own = [turn[stage] for turn in turns]
        medians = {
            who: {what: median(one[who][what] for one in own) for what in ("seconds", "peak_bytes")}
            for who in ("planned", "measured")
        }
        found[stage] = {**medians, "parts of the first plan": own[0]["planned"]["parts"]}
        for what, name in (("seconds", "seconds"), ("memory", "peak_bytes")):
            found[stage][what] = round(medians["measured"][name] / medians["planned"][name], 3)
            shares = [round(one["measured"][name] / one["planned"][name], 3) for one in own]
            found[stage][f"{what}, every round"] = shares
    return found


def alone(where: Path, step: str) -> None:
    """Plan and train, or answer, in this process and with one candidate."""
    from tunesmith.environment import calm
    from tunesmith.foresight import plan_ahead
    from tunesmith.opening import open_run
    from tunesmith.pipeline import predict_candidate, prepare_data
    from tunesmith.tuning import train_candidate

    calm()
    with open_run(where / "recipe.yaml", out=where / "run") as job:
        job = prepare_data(job)
        if step == "train":
            plan_ahead(job)
            train_candidate(job, "tuned")
        else:
            predict_candidate(job, "tuned")


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def worst(cells: dict[str, dict[str, Any]], stage: str, what: str) -> dict[str, Any]:
    """Return the setting whose measurement is farthest from its plan, as a share of the plan."""
    name = max(cells, key=lambda one: abs(cells[one][stage][what] - 1))
    return {"setting": name, "measured / planned": cells[name][stage][what], "goal": GOALS[what]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/plan_accuracy"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--step", choices=("train", "answer"), help="for the processes that this script starts")
    options = parser.parse_args()
    out = options.out.resolve()
    if options.step:
        alone(out, options.step)
        return
    folders = models(out / "models", options.small)
    turns: dict[str, list[dict[str, Any]]] = {}
    for number, (kind, method, (length, batch)) in itertools.product(range(options.rounds), SETTINGS):
        name, inside = named((kind, method, (length, batch))), out / f"round-{number + 1}"
        where = inside / name.replace(", ", "-").replace(" ", "-")
        kept = where / "cell.json"
        if not kept.exists():
            recipe = RECIPE.format(
                model=json.dumps(str(folders[kind])), method=method, length=length, batch=batch, steps=4
            )
            kept.write_text(json.dumps(measure(where, recipe, inside / "home")), encoding="utf-8")
        turns.setdefault(name, []).append(read(kept))
        cells = {one: over_rounds(done) for one, done in turns.items()}
        shown = {stage: {what: cells[name][stage][what] for what in GOALS} for stage in ("train", "answer")}
        print(f"{name}: measured / planned {json.dumps(shown)}", file=sys.stderr, flush=True)
        if not options.small:
            keep("plan_accuracy", result(cells, options), packages=PACKAGES, show=False)
    print(json.dumps(result(cells, options)["worst"], indent=1))


def result(cells: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Return what the settings that are done have shown, and which are missing."""
    return {
        "question": "how far are time and memory from what `tunesmith plan` says?",
        "goal": {"memory within": GOALS["memory"], "time within": GOALS["seconds"], "settings": 12},
        "models": "tiny" if options.small else "SmolLM2-135M-Instruct; random weights of the shape of T5-small 1.1",
        "rounds": options.rounds,
        "worst": {f"{stage} {what}": worst(cells, stage, what) for stage in ("train", "answer") for what in GOALS},
        "missing": [name for name in map(named, SETTINGS) if name not in cells],
        "settings": cells,
    }


def named(setting: tuple[str, str, tuple[int, int]]) -> str:
    kind, method, (length, batch) = setting
    return f"{kind}, {method}, {length} tokens, {batch} at once"


if __name__ == "__main__":
    main()
