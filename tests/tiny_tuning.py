"""Tiny models tuned for a few steps, for the tests of methods."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.data.encode import Coder
from tunesmith.inference.answer import load_tuned
from tunesmith.models.load import Loaded, load
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example, Split, TrainResult
from tunesmith.rundir import CandidateDir
from tunesmith.settings import Recipe
from tunesmith.training.tune import Ingredients, tune

THINGS = ("lamp", "parcel", "bill", "chair", "order", "label", "photo", "payment")
TEMPLATE = {"prompt": "Say in short what it is about.\n\n{{ text }}\n\nIn short:", "target": "{{ short }}"}
SOURCE = Path(__file__).parents[1] / "src"


def recipe(candidate: dict[str, Any], *, seed: int = 0, tasks: Sequence[str] = ("orders",), **train: Any) -> Recipe:
    """A recipe with one candidate, "tuned"."""
    common = {"precision": "float32", "learning_rate": 0.01, "tokens_per_step": 400, "tokens_per_batch": 200}
    made = [{"name": name, "source": "rows.csv", "template": TEMPLATE, "max_new_tokens": 6} for name in tasks]
    body = {"name": "tiny", "model": "tiny", "seed": seed, "tasks": made, "train": {**common, **train}}
    return recipe_from_text(json.dumps({**body, "candidates": {"tuned": candidate}}))


def example(n: int, *, task: str = "orders", split: Split = "train", **changes: Any) -> Example:
    target = f"{THINGS[n % 8]} is late" + " again" * (n % 3)
    text = f"Customer: My {THINGS[n % 8]} of day {n} is late." + " Please help." * (n % 4)
    given = {
        "id": f"{task}/{split}/rows.csv:{n}", "task": task, "split": split, "target": target, "references": (target,),
        "prompt": TEMPLATE["prompt"].replace("{{ text }}", text),
    }  # fmt: skip
    return Example.model_validate({**given, **changes})


def examples(count: int, *, tasks: Sequence[str] = ("orders",), **changes: Any) -> list[Example]:
    return [example(n, task=tasks[n % len(tasks)], **changes) for n in range(count)]


def tuned(given: Recipe, model: Path, where: Path, *, count: int = 8, validation: int = 0) -> TrainResult:
    """Train the candidate as ``tunesmith train`` does; the adapter lies in ``where / "adapter"``."""
    names = [task.name for task in given.tasks]
    held_out = examples(validation, split="validation")
    return tune(Ingredients(given, model, examples(count, tasks=names), held_out), "tuned", CandidateDir(where))


def opened(given: Recipe, model: Path, where: Path) -> Loaded:
    """What ``tune`` left, ready to answer."""
    return load_tuned(given.candidates["tuned"].method, model, where / "adapter", dtype=torch.float32)


def prompt(loaded: Loaded, n: int = 3, task: str = "orders") -> list[int]:
    """The ids of a prompt, virtual tokens first where there are any."""
    return Coder(loaded.tokenizer, loaded.kind, 1024, loaded.virtual).ids(example(n, task=task))


def logits(loaded: Loaded, ids: Sequence[int]) -> Tensor:
    """What a model says after a prompt, at every position of the decoder or of the prompt."""
    more = {"decoder_input_ids": torch.tensor([[0, 7, 20, 9]])} if loaded.kind == "seq2seq" else {}
    with torch.no_grad():
        found: Tensor = loaded.model.eval()(input_ids=torch.tensor([list(ids)]), **more).logits
    return found


def by_plain_peft(base: Loaded, adapter: Path, ids: Sequence[int]) -> Tensor:
    """The same from peft alone, which puts its virtual tokens itself where it has any."""
    from peft import PeftModel

    model = PeftModel.from_pretrained(base.model, adapter).eval()
    more = {"decoder_input_ids": torch.tensor([[0, 7, 20, 9]])} if base.kind == "seq2seq" else {}
    given = torch.tensor([list(ids)])
    with torch.no_grad():
        found: Tensor = model(input_ids=given, attention_mask=torch.ones_like(given), **more).logits
    return found


def in_a_fresh_process(given: Recipe, model: Path, where: Path, ids: Sequence[int]) -> Tensor:
    """The logits that another Python gets from the folder."""
    code = (
        "import sys, json, torch\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from tunesmith.inference.answer import load_tuned\n"
        "from tiny_tuning import logits\n"
        f"torch.set_num_threads(1)\n"
        f"loaded = load_tuned({given.candidates['tuned'].method!r}, Path({str(model)!r}), "
        f"Path({str(where / 'adapter')!r}), dtype=torch.float32)\n"
        f"print(json.dumps(logits(loaded, {list(ids)!r}).tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1", "PATH": "", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    return torch.tensor(json.loads(done.stdout.splitlines()[-1]))


def base_weights(model: Any) -> dict[int, Tensor]:
    """Copies of the weights of a model, by the identity of the parameter."""
    return {id(weight): weight.detach().clone() for weight in model.parameters()}


def alone(loaded: Loaded, ids: Sequence[int], new: int, **options: Any) -> list[int]:
    """One prompt by transformers' own generate, without padding."""
    given = torch.tensor([list(ids)])
    out = loaded.model.generate(
        input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=new, do_sample=False,
        pad_token_id=loaded.tokenizer.pad_token_id, eos_token_id=sorted(loaded.stop_ids), **options,
    )[0].tolist()  # fmt: skip
    found: list[int] = out[len(ids) if loaded.kind == "causal" else 1 :]
    stop = next((n for n, token in enumerate(found) if token in loaded.stop_ids), len(found))
    return found[:stop]


def fresh(model: Path) -> Loaded:
    return load(model)
