"""What must hold for every method of the table, on both architectures. A new one joins with a line in ``ways.py``."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from ways import CASES, candidate, logits
from workshop import ingredients, make_job, recipe

from tunesmith.environment import quiet_peft
from tunesmith.errors import RecipeError
from tunesmith.inference.answer import load_tuned
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton
from tunesmith.models.tiny import write_tiny
from tunesmith.planning.plan import PAPERS, adapter_bytes
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import CandidateDir
from tunesmith.training.job import Job, trainable
from tunesmith.training.loop import train
from tunesmith.training.tune import tune

NOT_THE_BASE: dict[str, str] = {
    "dora": "divides each row by its length and multiplies it by the same length",
    "pissa": "splits the matrix in two, and adds the parts again",
    "pissa, rslora, dora": "both",
}
"""Case -> why its output is that of the base only up to rounding before training."""

SAYS_SOMETHING = ("soft-prompt", "p-tuning", "prefix")
"""Methods whose virtual tokens are read like words: with them the output is never that of the base."""

CANNOT: dict[tuple[str, str], str] = {
    ("bitfit", kind): (
        f"bitfit: this model ({name}) has no biases that could learn. Take norms, which trains about as few weights, "
        "or lora."
    )
    for kind, name in (("causal", "LlamaForCausalLM"), ("seq2seq", "T5ForConditionalGeneration"))
}
"""Case and architecture -> why the one cannot be had with the other."""

KINDS = ("causal", "seq2seq")
POSSIBLE = [(case, kind) for case in CASES for kind in KINDS if (case, kind) not in CANNOT] + [("bitfit", "qwen2")]
"""Case and architecture; qwen2 is a causal one with biases."""
EVERYWHERE = pytest.mark.parametrize(("case", "kind"), POSSIBLE)
ANSWER = """
import sys
from pathlib import Path

import torch
from ways import logits

from tunesmith.inference.answer import load_tuned

torch.save(
    [
        logits(load_tuned(method, Path(base), Path(saved), dtype=torch.float32).model, kind)
        for method, kind, base, saved in torch.load("asked.pt")
    ],
    "answered.pt",
)
"""
"""What a fresh process does: it loads what was saved, one after the other, and answers."""


def method_of(case: str) -> Any:
    return resolve("method", CASES[case]["method"], METHODS)


def in_peft(case: str, kind: str) -> bool:
    own_format = case == "prefix" and kind == "seq2seq"  # peft gives several layers the same prefix there
    return method_of(case).ON_DISK == "adapter" and getattr(method_of(case), "IN_PEFT", True) and not own_format


def base(case: str, folder: Path) -> Any:
    return load(folder, quantize=getattr(method_of(case), "QUANTIZE", False)).model


def snapshot(model: Any) -> dict[str, Tensor]:
    """Every weight and every buffer; also those that are not saved."""
    return {name: value.detach().clone() for name, value in (*model.named_parameters(), *model.named_buffers())}


@pytest.fixture(scope="module")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> Path:
    """Half as wide as the one of the other tests, since here every method trains it several times."""
    return write_tiny(tmp_path_factory.mktemp("models") / "causal", kind="causal", texts=texts, hidden=32)


@pytest.fixture(scope="module")
def tiny_seq2seq(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> Path:
    """The same for an encoder-decoder."""
    return write_tiny(tmp_path_factory.mktemp("models") / "seq2seq", kind="seq2seq", texts=texts, hidden=32)


@dataclass(frozen=True)
class Trained:
    """A short training, from before it began to what was written."""

    job: Job
    before: Tensor  # logits
    was: dict[str, Tensor]  # all weights
    after: Tensor
    now: dict[str, Tensor]
    losses: list[float]
    saved: Path


_trained: dict[tuple[str, str], Trained] = {}
Training = Callable[[str, str], Trained]


@pytest.fixture
def training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Train a case on an architecture, once for all tests."""

    def find(case: str, kind: str) -> Trained:
        if (case, kind) not in _trained:
            folder, where = request.getfixturevalue(f"tiny_{kind}"), tmp_path_factory.mktemp("trained")
            job, loaded = make_job(ingredients(recipe(candidate(case, kind), max_steps=4), folder, train=12), where)
            before, was = logits(job.model, kind), snapshot(job.model)
            losses = train(job).losses
            saved = where / "saved"
            saved.mkdir()
            method_of(case).save(job.model, saved)
            loaded.tokenizer.save_pretrained(saved)
            after = logits(job.model, kind)
            _trained[case, kind] = Trained(job, before, was, after, snapshot(job.model), losses, saved)
        return _trained[case, kind]

    return find


def test_every_method_has_a_case() -> None:
    assert {case["method"] for case in CASES.values()} == set(METHODS)
    assert NOT_THE_BASE.keys() <= CASES.keys()


@pytest.mark.parametrize(("case", "kind"), CANNOT)
def test_what_an_architecture_cannot_take_is_refused_on_the_skeleton(
    case: str, kind: str, request: pytest.FixtureRequest
) -> None:
    settings = recipe(candidate(case, kind)).candidates["tuned"].settings
    with pytest.raises(RecipeError) as caught:
        method_of(case).count(settings, skeleton(request.getfixturevalue(f"tiny_{kind}")))
    assert str(caught.value) == CANNOT[case, kind]


@EVERYWHERE
def test_before_training_the_output_is_that_of_the_base(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest
) -> None:
    expected = logits(base(case, request.getfixturevalue(f"tiny_{kind}")), kind)
    difference = (training(case, kind).before - expected).abs().max()
    if case in SAYS_SOMETHING:
        assert difference > 1e-4
    else:
        assert difference <= (1e-5 if case in NOT_THE_BASE else 0)


@EVERYWHERE
def test_as_many_parameters_learn_as_the_method_counts(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    settings = recipe(candidate(case, kind)).candidates["tuned"].settings
    learning = sum(weight.numel() for weight in trainable(training(case, kind).job.model).values())
    assert method_of(case).count(settings, base(case, folder)) == learning > 0
    assert method_of(case).count(settings, skeleton(folder)) == learning


@pytest.mark.parametrize(("case", "kind"), [one for one in POSSIBLE if method_of(one[0]).ON_DISK == "adapter"])
def test_as_many_bytes_are_written_as_are_planned(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest
) -> None:
    from safetensors.torch import load_file

    saved, bones = training(case, kind).saved, skeleton(request.getfixturevalue(f"tiny_{kind}"))
    planned = adapter_bytes(method_of(case), recipe(candidate(case, kind)).candidates["tuned"].settings, bones)
    tensors = sum(value.nbytes for value in load_file(saved / "adapter_model.safetensors").values())
    assert tensors == planned - PAPERS
    assert planned == pytest.approx(sum(path.stat().st_size for path in saved.glob("adapter_*")), abs=PAPERS)


@EVERYWHERE
def test_training_changes_what_learns_and_nothing_else(case: str, kind: str, training: Training) -> None:
    found = training(case, kind)
    changed = {name for name, value in found.now.items() if not torch.equal(value, found.was[name])}
    assert changed
    assert changed <= trainable(found.job.model).keys()
    assert found.now.keys() == found.was.keys()
    assert (found.after - found.before).abs().max() > 1e-3, "it learned something"
    assert {weight.dtype for weight in trainable(found.job.model).values()} == {torch.float32}


@EVERYWHERE
def test_saved_and_loaded_onto_a_fresh_base_it_answers_the_same(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest
) -> None:
    found, method = training(case, kind), method_of(case)
    if method.ON_DISK == "model":
        again = load(found.saved).model
    else:
        with quiet_peft():
            again = method.load(base(case, request.getfixturevalue(f"tiny_{kind}")), found.saved)
    torch.testing.assert_close(logits(again, kind), found.after, rtol=0, atol=1e-5)


def test_in_a_fresh_process_every_method_answers_the_same(
    training: Training, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """One process for all, since most of its time goes into the imports."""
    folders = {kind: str(request.getfixturevalue(f"tiny_{kind}")) for _, kind in POSSIBLE}
    asked = [(CASES[case]["method"], kind, folders[kind], str(training(case, kind).saved)) for case, kind in POSSIBLE]
    torch.save(asked, tmp_path / "asked.pt")
    tests = str(Path(__file__).parents[1])
    there = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (tests, os.environ.get("PYTHONPATH"))))}
    call = [sys.executable, "-c", ANSWER]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env=there, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for (case, kind), found in zip(POSSIBLE, torch.load(tmp_path / "answered.pt"), strict=True):
        said = f"{case}, {kind}: ".__add__
        torch.testing.assert_close(found, training(case, kind).after, rtol=0, atol=1e-5, msg=said)


@pytest.mark.parametrize(("case", "kind"), [one for one in POSSIBLE if in_peft(*one)])
def test_plain_peft_loads_what_it_knows(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest
) -> None:
    from peft import PeftModel

    again = PeftModel.from_pretrained(base(case, request.getfixturevalue(f"tiny_{kind}")), training(case, kind).saved)
    torch.testing.assert_close(logits(again, kind), training(case, kind).after, rtol=0, atol=1e-5)


@EVERYWHERE
def test_training_twice_with_one_seed_gives_equal_weights(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    given = ingredients(recipe(candidate(case, kind), max_steps=4), request.getfixturevalue(f"tiny_{kind}"), train=12)
    torch.rand(3)
    job, _ = make_job(given, tmp_path)
    train(job)
    now = snapshot(job.model)
    assert [name for name, value in training(case, kind).now.items() if not torch.equal(value, now[name])] == []


@pytest.mark.parametrize(("case", "kind"), [one for one in POSSIBLE if hasattr(method_of(one[0]), "merge")])
def test_merged_it_answers_the_same_and_is_a_plain_model(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest
) -> None:
    found, method = training(case, kind), method_of(case)
    folder = request.getfixturevalue(f"tiny_{kind}")
    with quiet_peft():
        again = load(found.saved).model if method.ON_DISK == "model" else method.load(base(case, folder), found.saved)
        merged = method.merge(again)
    plain = load(folder).model
    assert type(merged) is type(plain)
    assert merged.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(logits(merged, kind), found.after, rtol=0, atol=1e-5)


@EVERYWHERE
def test_how_a_step_is_cut_into_batches_changes_nothing_but_rounding(
    case: str, kind: str, training: Training, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Examples end to end in one row, each attending to itself alone, or one at a time."""
    folder = request.getfixturevalue(f"tiny_{kind}")
    given = ingredients(recipe(candidate(case, kind), max_steps=2, tokens_per_batch=1), folder, train=12)
    job, _ = make_job(given, tmp_path)
    assert train(job).losses == pytest.approx(training(case, kind).losses[:2], rel=2e-4)


@EVERYWHERE
def test_in_bfloat16_the_base_is_narrow_and_what_learns_is_not(
    case: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    folder, where = request.getfixturevalue(f"tiny_{kind}"), CandidateDir(tmp_path)
    given = ingredients(recipe(candidate(case, kind), max_steps=3, precision="bfloat16"), folder, train=12)
    assert tune(given, "tuned", where).precision == "bfloat16"
    (weights,) = where.adapter.glob("*.safetensors")
    written = load_file(weights).items()
    assert {value.dtype for name, value in written if not name.endswith(".index")} == {torch.float32}
    loaded = load_tuned(CASES[case]["method"], folder, where.adapter, dtype=torch.bfloat16)
    assert logits(loaded.model, kind).isfinite().all()
