from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny_tuning as tiny
import torch

from tunesmith.errors import RecipeError
from tunesmith.inference.fused_reading import FusedReader
from tunesmith.inference.generate import generate
from tunesmith.methods import prefix
from tunesmith.methods.prefix import Settings
from tunesmith.models.load import Loaded, load
from tunesmith.models.skeleton import skeleton
from tunesmith.settings import GenerateSettings
from tunesmith.training.tune import attached

Folder = Callable[[str], Path]


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Folder:
    return lambda kind: request.getfixturevalue(f"tiny_{kind}")


BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])


def recipe(**own: Any) -> Any:
    return tiny.recipe({"method": "prefix", "tokens": 5, "train": {"epochs": 1}, **own})


@BOTH
def test_as_many_parameters_learn_as_the_formula_says_and_nothing_else(
    kind: str, folder: Folder, tmp_path: Path
) -> None:
    tiny.only_what_was_declared_learns(recipe(), folder(kind), tmp_path)


def test_the_numbers_worked_by_hand(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    # two layers; keys and values are 32 wide with grouped queries, and 64 wide in the decoder of the other
    assert prefix.count(Settings(tokens=7), skeleton(tiny_causal)) == 7 * 2 * (32 + 32)
    assert prefix.count(Settings(tokens=7), skeleton(tiny_seq2seq)) == 7 * 2 * (64 + 64)


@BOTH
def test_loaded_again_it_says_the_same(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.loaded_again_it_says_the_same(recipe(), folder(kind), tmp_path)


def test_plain_peft_loads_that_of_a_causal_model_and_says_the_same(tiny_causal: Path, tmp_path: Path) -> None:
    tiny.tuned(recipe(), tiny_causal, tmp_path)
    found, base = tiny.opened(recipe(), tiny_causal, tmp_path), load(tiny_causal)
    words = tiny.prompt(base)
    ours = tiny.logits(found, tiny.prompt(found))[:, -len(words) :]
    torch.testing.assert_close(
        ours, tiny.by_plain_peft(load(tiny_causal), tmp_path / "adapter", words), rtol=0, atol=1e-5
    )
    assert (ours - tiny.logits(base, words)).abs().max() > 1e-2


def test_plain_peft_refuses_that_of_an_encoder_decoder(tiny_seq2seq: Path, tmp_path: Path) -> None:
    tiny.tuned(recipe(), tiny_seq2seq, tmp_path)
    with pytest.raises((KeyError, ValueError)):
        tiny.by_plain_peft(load(tiny_seq2seq), tmp_path / "adapter", [5, 6])


@BOTH
def test_training_twice_with_one_seed_gives_the_same_bytes(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.twice_is_the_same(recipe(init="random"), folder(kind), tmp_path)


@BOTH
def test_a_training_that_was_killed_ends_as_one_that_was_not(kind: str, folder: Folder, tmp_path: Path) -> None:
    tiny.going_on_ends_the_same(recipe(), folder(kind), tmp_path)


@BOTH
def test_a_batch_is_as_each_example_alone(kind: str, folder: Folder) -> None:
    tiny.batches_are_as_each_example_alone(recipe(init="random"), folder(kind))


@BOTH
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_are_those_of_each_prompt_alone(kind: str, beams: int, folder: Folder, tmp_path: Path) -> None:
    tiny.tuned(recipe(init="random"), folder(kind), tmp_path)
    found = tiny.opened(recipe(), folder(kind), tmp_path)
    tiny.answers_are_those_of_each_alone(found, beams=beams)
    tiny.choices_are_ranked_as_each_alone(found)


def test_the_words_of_the_task_are_what_a_prefix_begins_with(tiny_causal: Path) -> None:
    base, loaded = load(tiny_causal), load(tiny_causal)
    found = attached(recipe(tokens=8), "tuned", loaded)
    words = base.tokenizer("Say in short what it is about. In short:", add_special_tokens=False)["input_ids"][:8]
    tail = [40, 41, 42]
    untrained = Loaded(found, base.tokenizer, base.kind, base.folder, base.context)
    ours = tiny.logits(untrained, [*loaded.virtual[""], *tail])[:, -3:]
    theirs = tiny.logits(base, [*words, *tail])[:, -3:]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_nothing_but_keys_and_values_of_its_places_is_read(tiny_causal: Path) -> None:
    loaded = load(tiny_causal)
    attached(recipe(init="random"), "tuned", loaded)
    ids = tiny.prompt(loaded)
    before = tiny.logits(loaded, ids)[:, 5:]
    loaded.model.get_input_embeddings().rows.zeros.normal_()
    assert torch.equal(tiny.logits(loaded, ids)[:, 5:], before)


def test_beams_in_the_middle_of_a_training_leave_nothing_behind(tiny_causal: Path) -> None:
    loaded = load(tiny_causal)
    attached(recipe(), "tuned", loaded)
    ids = tiny.prompt(loaded)
    before = tiny.logits(loaded, ids)
    generate(loaded, [ids, ids[:-3]], settings=GenerateSettings(beams=2), max_new_tokens=3)
    assert torch.equal(tiny.logits(loaded, ids), before)


def test_fused_layers_answer_as_those_of_transformers(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    base = load(tiny_causal)
    tuned = load(tiny_causal)
    model = prefix.attach(Settings(tokens=5), tuned.model, "causal").eval()
    for rows in (weight for weight in model.parameters() if weight.requires_grad):
        torch.nn.init.normal_(rows, std=1.0)
    tuned = Loaded(model, tuned.tokenizer, tuned.kind, tuned.folder, tuned.context)
    words = [list(range(20, 20 + n)) for n in (9, 6, 2)]
    prompts = [[*tuned.virtual[""], *ids] for ids in words]

    def answers(loaded: Loaded, asked: list[list[int]]) -> list[tuple[int, ...]]:
        return [one.ids for one in generate(loaded, asked, settings=GenerateSettings(), max_new_tokens=8)]

    used: list[int] = []
    usual = FusedReader.read
    monkeypatch.setattr(FusedReader, "read", lambda self, reading: used.append(len(reading)) or usual(self, reading))  # type: ignore[func-returns-value]
    found = answers(tuned, prompts)
    assert used, "fused layers take a model with a prefix"
    monkeypatch.setattr("tunesmith.inference.decode.fused", lambda *_, **__: nullcontext())
    assert answers(tuned, prompts) == found
    assert answers(base, words) != found


class TestWhatIsWrong:
    def test_more_tokens_than_the_context(self, tiny_causal: Path) -> None:
        with pytest.raises(RecipeError) as caught:
            prefix.count(Settings(tokens=1024), skeleton(tiny_causal))
        assert str(caught.value) == (
            "prefix: 1024 virtual tokens leave no room for a prompt, the model's context is 1024 tokens. Lower tokens."
        )

    def test_a_model_that_makes_keys_and_values_in_one(self) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        with torch.device("meta"):
            model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=50))
        with pytest.raises(RecipeError) as caught:
            prefix.count(Settings(), model)
        assert str(caught.value) == (
            "prefix: this model has no layers k_proj and v_proj (or k and v) in its self-attention. Take soft-prompt."
        )
