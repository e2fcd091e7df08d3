"""Everything that computes does so where the model is: on a device that is not the processor, with the same results.

No graphics card is needed, though one is taken where it is there. The device of these cases computes as the processor
does, and refuses operations between what is on it and what is not (``device.cpp``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import ways
from device import CARD, NAME
from flashing import stand_in
from safetensors.torch import load_file
from tiny_tuning import THINGS, example, going_on_ends_the_same, opened, prompt, recipe, tuned

from tunesmith import machine
from tunesmith.data.encode import Coder
from tunesmith.errors import ResourceError
from tunesmith.exporting.merging import merge_all
from tunesmith.exporting.sources import find_adapters
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import rank_all
from tunesmith.inference.tuned import Tuned
from tunesmith.machine import PLACE, compute_device
from tunesmith.models.load import Loaded, load
from tunesmith.models.tiny import write_tiny
from tunesmith.planning import probe
from tunesmith.registry import METHODS
from tunesmith.settings import GenerateSettings, Recipe

NOT_HERE = {"qlora", "bitfit"}  # four bits want a card of bitsandbytes; the tiny models have no biases
BEGUN = {name: {"method": name, "tokens": 4} for name in ("soft-prompt", "prefix")}  # with the task's words
CASES = {
    name: BEGUN.get(name, case)
    for name, case in ways.CASES.items()
    if case["method"] not in NOT_HERE and case.get("init") != "pissa"  # whose start peft moves as only cards allow
}
ONLY_SEQ2SEQ = {"decoder prompt": {"method": "soft-prompt", "tokens": 4, "place": "both"}}
KINDS = ("causal", "seq2seq")
EVERYWHERE = [*((case, kind) for case in CASES for kind in KINDS), *((case, "seq2seq") for case in ONLY_SEQ2SEQ)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: write_tiny(folder / kind, kind=kind, texts=texts, hidden=32) for kind in KINDS}  # type: ignore[arg-type]


def given(case: str, kind: str, **train: Any) -> Recipe:
    candidate = {**(CASES | ONLY_SEQ2SEQ)[case], **ways.BY_KIND.get((case, kind), {})}
    return recipe(candidate, max_steps=3, tokens_per_step=150, **train)


@dataclass(frozen=True)
class Said:
    """What a tuned model says."""

    answers: list[tuple[int, ...]]
    ranked: list[list[float]]


def said(loaded: Loaded) -> Said:
    """Greedy answers to several prompts of different lengths, and the likelihoods of choices."""
    prompts = [prompt(loaded, n) for n in range(5)]
    coder = Coder(loaded.tokenizer, loaded.kind, 1024, loaded.virtual)
    choices = [coder.target(example(0, target=f"{thing} is late")) for thing in THINGS[:3]]
    answers = generate(loaded, prompts, settings=GenerateSettings(), max_new_tokens=6)
    return Said([answer.ids for answer in answers], rank_all(loaded, prompts, [choices] * len(prompts)))


def on_the_processor(work: Callable[[], Any]) -> Any:
    """Do something as if there were no other device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE, "cpu")
        compute_device.cache_clear()
        try:
            return work()
        finally:
            patch.undo()
            compute_device.cache_clear()


def test_the_cases_are_all_methods_but_those_named() -> None:
    assert {case["method"] for case in CASES.values()} == set(METHODS) - NOT_HERE - {"none"}


def test_the_device_refuses_what_a_card_would_refuse(elsewhere: torch.device) -> None:
    here, there = torch.ones(3), torch.ones(3, device=elsewhere)
    with pytest.raises(RuntimeError, match="same device"):
        here + there
    if elsewhere.type == NAME:  # a graphics card takes indices from the processor, and waits for them
        with pytest.raises(RuntimeError, match="same device"):
            there[torch.tensor([0, 1])]


@pytest.mark.parametrize(("case", "kind"), EVERYWHERE)
def test_a_training_there_is_the_same_and_its_model_says_the_same(
    case: str, kind: str, models: dict[str, Path], elsewhere: torch.device, tmp_path: Path
) -> None:
    compared_with_the_processor(case, kind, models[kind], elsewhere, tmp_path)


FUSED = ("lora", "full", "norms", "last-layers", "soft-prompt", "embeddings")


@pytest.mark.skipif(torch.cuda.is_available(), reason="what stands in looks at values; test_on_a_card has the real one")
@pytest.mark.parametrize("case", FUSED)
def test_fused_layers_compute_the_same_there(
    case: str, models: dict[str, Path], elsewhere: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    compared_with_the_processor(
        case, "causal", models["causal"], elsewhere, tmp_path, before=lambda: calls.append(stand_in(monkeypatch))
    )
    assert {"read", "remembered"} <= set(calls[0])


def compared_with_the_processor(
    case: str, kind: str, model: Path, elsewhere: torch.device, tmp_path: Path, *, before: Callable[[], Any] = lambda: 0
) -> None:
    """Tune, save, load and answer on both; ``before`` is done in between."""
    asked = given(case, kind)
    expected = on_the_processor(
        lambda: (tuned(asked, model, tmp_path / "here"), said(opened(asked, model, tmp_path / "here")))
    )
    before()
    found = tuned(asked, model, tmp_path / "there", validation=2)
    answering = opened(asked, model, tmp_path / "there")
    assert {weight.device.type for weight in answering.model.parameters()} == {elsewhere.type}
    assert found.steps == expected[0].steps
    name = "model" if case == "full" else "adapter_model"
    here, there = (load_file(tmp_path / place / "adapter" / f"{name}.safetensors") for place in ("here", "there"))
    assert here.keys() == there.keys()
    if case == "sparse by sam":  # rounding decides between entries whose scores are nearly equal
        here, there = shared_entries(here, there)
    for key, value in here.items():
        torch.testing.assert_close(there[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    spoken = said(answering)
    assert spoken.answers == expected[1].answers
    torch.testing.assert_close(torch.tensor(spoken.ranked), torch.tensor(expected[1].ranked), rtol=1e-3, atol=1e-3)


def shared_entries(here: dict[str, torch.Tensor], there: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    """Return the values of the entries that both chose, which must be nearly all, by the name of their weight."""
    names = [key.removesuffix(".index") for key in here if key.endswith(".index")]
    common = {name: torch.isin(here[f"{name}.index"], there[f"{name}.index"]) for name in names}
    assert sum(int(one.sum()) for one in common.values()) > 0.97 * sum(len(one) for one in common.values())
    found = {name: here[f"{name}.values"][common[name]] for name in names}
    places = {name: torch.isin(there[f"{name}.index"], here[f"{name}.index"]) for name in names}
    return found, {name: there[f"{name}.values"][places[name]] for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_validations_and_cures_compute_there_too(
    kind: str, models: dict[str, Path], elsewhere: torch.device, tmp_path: Path
) -> None:
    asked = given("lora", kind, kl=0.5, average="auto", validations=2)
    expected = on_the_processor(lambda: tuned(asked, models[kind], tmp_path / "here", validation=3))
    found = tuned(asked, models[kind], tmp_path / "there", validation=3)
    assert found.validation_loss == pytest.approx(expected.validation_loss, rel=1e-3)
    assert found.averaged is not None
    assert found.averaged.share == expected.averaged.share


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_that_was_killed_there_ends_as_one_that_was_not(
    kind: str, models: dict[str, Path], elsewhere: torch.device, tmp_path: Path
) -> None:
    going_on_ends_the_same(given("lora", kind), models[kind], tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_own_generation_answers_there(kind: str, models: dict[str, Path], elsewhere: torch.device) -> None:
    def beams() -> list[tuple[int, ...]]:
        loaded = load(models[kind])
        prompts = [prompt(loaded, n) for n in range(3)]
        return [one.ids for one in generate(loaded, prompts, settings=GenerateSettings(beams=2), max_new_tokens=5)]

    assert beams() == on_the_processor(beams)


@pytest.mark.parametrize("kind", KINDS)
def test_many_adapters_share_a_base_there(
    kind: str, models: dict[str, Path], elsewhere: torch.device, tmp_path: Path
) -> None:
    cases = ["lora", "dora", "ia3", "soft-prompt", "prefix", "bottleneck"]
    cases += ["decoder prompt"] if kind == "seq2seq" else []
    for case in cases:
        tuned(given(case, kind), models[kind], tmp_path / case)
    rows = [{"text": f"My {thing} is late."} for thing in THINGS[: len(cases)]]

    def together() -> list[str]:
        own = {case: tmp_path / case / "adapter" for case in cases}
        return Tuned.load(models[kind], own).answer(rows, adapter=cases)

    found = together()
    assert any(found)
    assert found == on_the_processor(together)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_model_is_proved_there(
    kind: str, models: dict[str, Path], elsewhere: torch.device, tmp_path: Path
) -> None:
    tuned(given("lora", kind), models[kind], tmp_path / "run")
    sources = find_adapters([tmp_path / "run" / "adapter"])
    ((_, proof),) = merge_all(sources, tmp_path / "merged", base=str(models[kind]))
    assert proof.holds
    assert proof.equal_answers == proof.prompts


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_calibrated_there(kind: str, models: dict[str, Path], elsewhere: torch.device) -> None:
    common = {"folder": str(models[kind]), "half": False, "threads": 1, "depths": (1,)}
    training = list(probe.train_samples(probe.Order(what="train", method="lora", settings={"rank": 2}, **common), 1))
    answering = list(probe.answer_samples(probe.Order(what="answer", **common), 1))
    assert len(training) == len(probe.STEPS)
    assert len(answering) == len(probe.WRITINGS)
    if elsewhere.type == NAME:
        assert {one.peak for one in (*training, *answering)} == {CARD["max_memory_allocated"]}, "the memory of the card"


@pytest.mark.skipif(torch.cuda.is_available(), reason="what a real card says is not known")
def test_memory_and_name_are_those_of_the_card(elsewhere: torch.device) -> None:
    assert machine.available_memory() == (8 + 2 - 1) << 30, "what is free, and what torch keeps without using it"
    assert machine.main_memory() != machine.available_memory()
    assert machine.device_name() == CARD["get_device_name"]


def test_what_torch_keeps_is_given_back_when_memory_runs_out(
    elsewhere: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied = []
    monkeypatch.setattr(torch.get_device_module(elsewhere), "empty_cache", lambda: emptied.append(True))
    assert machine.out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."))
    assert emptied == [True]
    assert not machine.out_of_memory(RuntimeError("something else"))
    assert emptied == [True]


@pytest.mark.parametrize("name", ["cuda:7", "nowhere"])
def test_a_device_that_is_not_there_is_refused_with_the_mend(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLACE, name)
    compute_device.cache_clear()
    with pytest.raises(ResourceError, match=f"{PLACE}={name}: .*Take auto, cpu, or a card"):
        compute_device()
    compute_device.cache_clear()
