"""Short examples, recipes and jobs for the tests of training; also read by the process that ``killing.py`` starts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.encode import Coder, encode_training
from tunesmith.models.load import Loaded, load
from tunesmith.recipe import recipe_from_text, train_settings
from tunesmith.records import Example, Split, TrainPoint
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import CandidateDir
from tunesmith.settings import Recipe
from tunesmith.training.job import Job
from tunesmith.training.preparing import Losses, attach_prepared
from tunesmith.training.tune import Ingredients, scorer

THINGS = ("lamp", "parcel", "bill", "chair", "order", "label", "photo", "payment")
FATES = ("is late", "is broken", "went to another address", "was sent twice")
LORA: dict[str, Any] = {"method": "lora", "rank": 4}
FULL: dict[str, Any] = {"method": "full"}


def example(n: int, *, split: Split = "train", **changes: Any) -> Example:
    """One of endlessly many short examples of different lengths."""
    thing, fate = THINGS[n % 8], FATES[n // 8 % 4]
    prompt = f"Customer: My {thing} of day {n} {fate}." + " Please help." * (n % 5)
    target = f"{thing} {fate}" + " again" * (n % 3)
    given = {
        "id": f"orders/{split}/rows.csv:{n + 2}", "task": "orders", "split": split, "prompt": prompt, "target": target,
        "references": (target,),
    }  # fmt: skip
    return Example.model_validate({**given, **changes})


def examples(count: int, *, start: int = 0, split: Split = "train") -> list[Example]:
    return [example(n, split=split) for n in range(start, start + count)]


def recipe(candidate: dict[str, Any], *, seed: int = 0, choices: Sequence[str] = (), **train: Any) -> Recipe:
    """A recipe with one candidate, "tuned"; the settings of training are fit for tiny models."""
    common = {"precision": "float32", "learning_rate": 0.01, "tokens_per_step": 120, "tokens_per_batch": 60}
    task = {"name": "orders", "source": "rows.csv", "max_new_tokens": 6, "choices": list(choices)}
    body = {"name": "tiny", "model": "tiny", "seed": seed, "tasks": [task], "train": {**common, **train}}
    return recipe_from_text(json.dumps({**body, "candidates": {"tuned": candidate}}))


def ingredients(given: Recipe, model: Path, *, train: int = 16, validation: int = 0) -> Ingredients:
    held_out = examples(validation, start=500, split="validation")
    return Ingredients(given, model, examples(train), held_out)


def make_job(given: Ingredients, where: Path, *, score: Any = None, double: bool = False) -> tuple[Job, Loaded]:
    """What ``tune`` makes before it trains, without the checks."""
    import torch

    torch.manual_seed(given.recipe.seed)
    settings, candidate = train_settings(given.recipe, "tuned"), given.recipe.candidates["tuned"]
    method = resolve("method", candidate.method, METHODS)
    loaded = load(given.model, quantize=getattr(method, "QUANTIZE", False))
    looks_first = hasattr(method, "prepare")
    model = loaded.model if looks_first else method.attach(candidate.settings, loaded.model, loaded.kind)
    coder = Coder(loaded.tokenizer, loaded.kind, settings.max_tokens, loaded.virtual)
    train, _ = encode_training(given.train, coder)
    validation = encode_training(given.validation, coder)[0] if given.validation else []
    folder = CandidateDir(where)
    if looks_first:
        losses = Losses(loaded, train, seed=given.recipe.seed)
        kept = folder.checkpoints
        model = attach_prepared(method, candidate.settings, loaded, losses=losses, kept=kept, identity="a test")
    if double:
        model.double()
    rate = settings.learning_rate
    assert rate != "auto"
    job = Job(
        "tuned", model, loaded.kind, loaded.tokenizer.pad_token_id, train, validation, settings, rate,
        given.recipe.seed, False, folder.checkpoints, folder.train_log, "a test", scorer(loaded, model, score),
    )  # fmt: skip
    return job, loaded


def read_log(where: Path) -> list[TrainPoint]:
    lines = CandidateDir(where).train_log.read_text(encoding="utf-8").splitlines()
    return [TrainPoint.model_validate_json(line) for line in lines]
