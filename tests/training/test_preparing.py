from pathlib import Path
from typing import Any

import pytest
import torch
from workshop import LORA, ingredients, make_job, recipe

from tunesmith import machine
from tunesmith.errors import ResourceError
from tunesmith.methods import sparse
from tunesmith.methods.learned import learned
from tunesmith.models.load import load
from tunesmith.training.loop import train
from tunesmith.training.preparing import Losses

SPARSE: dict[str, Any] = {"method": "sparse", "share": 0.01, "examples": 4}


def entries(model: Any) -> dict[str, list[int]]:
    return {name: part.index.tolist() for name, part in learned(model).items() if part.index is not None}


def test_losses_are_those_of_single_examples_drawn_by_the_seed(tiny: Path, tmp_path: Path) -> None:
    job, loaded = make_job(ingredients(recipe(LORA), tiny, train=9), tmp_path)
    draws = {seed: [loss().item() for loss in Losses(loaded, job.train, seed=seed)(4)] for seed in (0, 0, 1)}
    assert len(draws[0]) == 4
    assert draws[0] != draws[1]
    every = [loss().item() for loss in Losses(loaded, job.train, seed=0)(100)]
    assert len(every) == 9, "no example twice"
    assert set(draws[0]) <= set(every)
    targets = sum(len(example.target_ids) for example in job.train)
    first = train(make_job(ingredients(recipe(LORA, max_steps=1, tokens_per_step=9999), tiny, train=9), tmp_path)[0])
    assert sum(every) / targets == pytest.approx(first.losses[0], rel=1e-5)


def test_the_choice_is_made_once_and_read_back_by_a_training_that_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ingredients(recipe(SPARSE), tiny)
    job, _ = make_job(given, tmp_path)
    monkeypatch.setattr(sparse, "prepare", lambda *_: pytest.fail("it was chosen already"))
    again, _ = make_job(given, tmp_path)
    assert entries(again.model) == entries(job.model)
    assert sum(map(len, entries(job.model).values())) == sparse.count(sparse.Settings(share=0.01), load(tiny).model)


def test_a_choice_that_was_damaged_on_the_disk_is_made_again(tiny_causal: Path, tmp_path: Path) -> None:
    given = ingredients(recipe(SPARSE), tiny_causal)
    job, _ = make_job(given, tmp_path)
    (file,) = job.checkpoints.glob("prepared-*/prepared.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    again, _ = make_job(given, tmp_path)
    assert entries(again.model) == entries(job.model)
    assert file.read_bytes() == whole


def test_scoring_leaves_the_random_state_alone(tiny_causal: Path, tmp_path: Path) -> None:
    given = ingredients(recipe({**SPARSE, "score": "sam"}), tiny_causal)
    make_job(given, tmp_path)
    first = torch.rand(3)
    make_job(given, tmp_path)
    assert torch.equal(torch.rand(3), first), "whether the choice was made or read"


def test_too_little_memory_for_scoring_is_refused(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(sparse, "preparing_bytes", lambda *_, tokens: asked.append(tokens) or 7_200_000_000)
    given = ingredients(recipe(SPARSE), tiny_causal)
    job, _ = make_job(given, tmp_path / "enough")
    assert asked == [max(one.tokens for one in job.train)]
    monkeypatch.setattr(machine, "available_memory", lambda: 100_000)
    with pytest.raises(ResourceError) as caught:
        make_job(given, tmp_path / "too-little")
    assert str(caught.value) == (
        "scoring the weights needs about 7.2 GB of memory, this machine has 0.0 GB free. Take a "
        "smaller model, or a method that need not look at every weight, such as lora."
    )
