"""Tiny models tuned for a few steps, for the tests of methods."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.data.encode import Coder, encode_training
from tunesmith.inference.answer import load_tuned
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import rank_choices
from tunesmith.models.attention import NAME, attending
from tunesmith.models.load import Loaded, load
from tunesmith.models.skeleton import skeleton
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example, Split, TrainResult
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import CandidateDir
from tunesmith.settings import GenerateSettings, Recipe
from tunesmith.training import checkpoint, loop
from tunesmith.training.batches import make_batch
from tunesmith.training.loss import loss_sum
from tunesmith.training.tune import Ingredients, attached, tune

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


def trained(given: Recipe, model: Path, where: Path) -> tuple[Loaded, TrainResult]:
    """Train the candidate; return the very model that was trained, before it is written."""
    kept: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "load_best", lambda job, progress: kept.append(job.model))
        result = tuned(given, model, where)
    base = load(model)
    return Loaded(kept[0], base.tokenizer, base.kind, base.folder, base.context), result


def learning(model: Any) -> dict[str, Tensor]:
    """The weights that learn, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def only_what_was_declared_learns(given: Recipe, model: Path, where: Path) -> None:
    """What was counted is what requires a gradient, all of it learned, and nothing of the base changed."""
    found, result = trained(given, model, where)
    candidate = given.candidates["tuned"]
    own = learning(found.model)
    counted = resolve("method", candidate.method, METHODS).count(candidate.settings, skeleton(model))
    assert sum(weight.numel() for weight in own.values()) == counted == result.trainable > 0
    before = load(model).model
    frozen = {weight.data_ptr(): weight for name, weight in found.model.named_parameters() if name not in own}
    old = list({weight.data_ptr(): weight for weight in before.parameters()}.values())
    assert len(frozen) == len(old)
    assert all(torch.equal(now, then) for now, then in zip(frozen.values(), old, strict=True))
    start = attached(given, "tuned", load(model))
    assert result.steps >= 2
    assert [name for name, weight in learning(start).items() if torch.equal(weight, own[name])] == []


def before_training_it_is_the_base(given: Recipe, model: Path) -> None:
    """An adapter that was not trained changes no output by a single bit."""
    base = load(model)
    expected = logits(base, prompt(base))
    found = attached(given, "tuned", base)
    untrained = Loaded(found, base.tokenizer, base.kind, base.folder, base.context)
    assert torch.equal(logits(untrained, prompt(base)), expected)


def loaded_again_it_says_the_same(given: Recipe, model: Path, where: Path) -> Loaded:
    """From the folder onto a fresh base; returns what was loaded."""
    before, _ = trained(given, model, where)
    found, base = opened(given, model, where), load(model)
    ids = prompt(before)
    assert ids == prompt(found)
    torch.testing.assert_close(logits(found, ids), logits(before, ids), rtol=0, atol=1e-5)
    change = logits(found, ids)[:, -4:] - logits(base, prompt(base))[:, -4:]
    assert change.abs().max() > 1e-2, "what was learned does something"
    return found


def twice_is_the_same(given: Recipe, model: Path, where: Path) -> None:
    """One seed, the same bytes; another seed, others."""
    other = given.model_copy(update={"seed": given.seed + 1})
    for name, one in (("a", given), ("b", given), ("c", other)):
        tuned(one, model, where / name)
    a, b, c = (weights(where / name) for name in "abc")
    assert a == b != c


def weights(where: Path) -> bytes:
    return (where / "adapter" / "adapter_model.safetensors").read_bytes()


def going_on_ends_the_same(given: Recipe, model: Path, where: Path) -> None:
    """A training that was killed after a step and begun again leaves the bytes of one that was not."""
    settings = given.train.model_copy(update={"checkpoint_minutes": 1e-9})
    given = given.model_copy(update={"train": settings})
    tuned(given, model, where / "whole")
    real = loop.save

    def killed(job: Any, optimizer: Any, progress: Any) -> None:
        real(job, optimizer, progress)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            tuned(given, model, where / "cut")
    assert checkpoint.newest(where / "cut" / "checkpoints") is not None
    tuned(given, model, where / "cut")
    assert weights(where / "whole") == weights(where / "cut")


def answers_are_those_of_each_alone(loaded: Loaded, *, beams: int = 1) -> list[list[int]]:
    """Many prompts at once, by whatever way ``generate`` takes, against transformers one by one."""
    prompts = [prompt(loaded, n) for n in range(6)]
    settings = GenerateSettings(beams=beams)
    found = [list(one.ids) for one in generate(loaded, prompts, settings=settings, max_new_tokens=8)]
    assert found == [alone(loaded, ids, 8, num_beams=beams) for ids in prompts]
    return found


def choices_are_ranked_as_each_alone(loaded: Loaded) -> None:
    """Likelihoods of choices, against one pass for each."""
    ids, choices = prompt(loaded), [[7, 2], [40, 41, 2], [2]]
    for choice, value in zip(choices, rank_choices(loaded, ids, choices), strict=True):
        with torch.no_grad():
            if loaded.kind == "seq2seq":
                read = torch.tensor([[loaded.model.config.decoder_start_token_id, *choice[:-1]]])
                rows = loaded.model(input_ids=torch.tensor([ids]), decoder_input_ids=read).logits[0]
            else:
                rows = loaded.model(input_ids=torch.tensor([ids + choice])).logits[0, len(ids) - 1 : -1]
        by_hand = sum(float(row.log_softmax(-1)[token]) for row, token in zip(rows, choice, strict=True))
        assert value == pytest.approx(by_hand, abs=1e-4)


def batches_are_as_each_example_alone(given: Recipe, model: Path) -> None:
    """The summed loss of examples in one batch is the sum of their losses alone; so are the gradients."""
    loaded = load(model)
    found = attached(given, "tuned", loaded)
    with torch.no_grad():
        for weight in learning(found).values():
            weight.add_(torch.randn(weight.shape) * 0.1)
    coder = Coder(loaded.tokenizer, loaded.kind, 1024, loaded.virtual)
    encoded, _ = encode_training(examples(4), coder)
    pad = loaded.tokenizer.pad_token_id

    def loss(some: Any) -> Tensor:
        batch = make_batch(some, kind=loaded.kind, pad_id=pad)
        with attending(loaded.model, NAME) if loaded.kind == "causal" else nullcontext():
            return loss_sum(found, batch, loaded.kind)

    def gradients(total: Tensor) -> list[Tensor]:
        found.zero_grad()
        total.backward()
        return [weight.grad.clone() for weight in learning(found).values()]

    together = loss(encoded)
    alone = torch.stack([loss([one]) for one in encoded]).sum()
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)
    for one, other in zip(gradients(together), gradients(alone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


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
