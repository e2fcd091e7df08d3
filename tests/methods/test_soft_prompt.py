import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_tuning as tiny
import torch
from safetensors.torch import load_file

from tunesmith.data.encode import Coder, encode_training
from tunesmith.errors import DataError, RecipeError
from tunesmith.inference.answer import answer
from tunesmith.inference.generate import generate
from tunesmith.inference.tuned import Tuned
from tunesmith.methods import soft_prompt
from tunesmith.methods.soft_prompt import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton
from tunesmith.records import NearestTokens
from tunesmith.rundir import read_record
from tunesmith.settings import GenerateSettings
from tunesmith.training.nearest import in_words

PROMPT: dict[str, Any] = {"method": "soft-prompt", "tokens": 5, "train": {"epochs": 1}}
INSTRUCTION = "Say in short what it is about. In short:"
Folder = Callable[[str], Path]


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Folder:
    return lambda kind: request.getfixturevalue(f"tiny_{kind}")


BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])
PLACES = pytest.mark.parametrize(
    ("kind", "place"), [("causal", "encoder"), ("seq2seq", "encoder"), ("seq2seq", "decoder"), ("seq2seq", "both")]
)


def attached(folder: Path, settings: Settings, *, text: str = INSTRUCTION) -> Any:
    loaded = load(folder)
    torch.manual_seed(0)
    soft_prompt.attach(settings, loaded.model, loaded.kind)
    soft_prompt.begin(settings, loaded.model, tokenizer=loaded.tokenizer, instructions={"orders": text})
    return loaded


@PLACES
def test_as_many_parameters_learn_as_the_formula_says_and_nothing_else(
    kind: str, place: str, folder: Folder, tmp_path: Path
) -> None:
    given = tiny.recipe({**PROMPT, "place": place})
    tiny.only_what_was_declared_learns(given, folder(kind), tmp_path)
    tables = 2 if place == "both" else 1
    assert soft_prompt.count(Settings(tokens=7, place=place), skeleton(folder(kind))) == tables * 7 * 64


@PLACES
def test_loaded_again_it_says_the_same(kind: str, place: str, folder: Folder, tmp_path: Path) -> None:
    tiny.loaded_again_it_says_the_same(tiny.recipe({**PROMPT, "place": place}), folder(kind), tmp_path)


@BOTH
def test_plain_peft_loads_it_and_says_the_same(kind: str, folder: Folder, tmp_path: Path) -> None:
    given = tiny.recipe(PROMPT)
    tiny.tuned(given, folder(kind), tmp_path)
    found, base = tiny.opened(given, folder(kind), tmp_path), load(folder(kind))
    theirs = tiny.by_plain_peft(base, tmp_path / "adapter", tiny.prompt(load(folder(kind))))
    ours = tiny.logits(found, tiny.prompt(found))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_fresh_process_gets_the_same(tiny_causal: Path, tmp_path: Path) -> None:
    given = tiny.recipe(PROMPT)
    tiny.tuned(given, tiny_causal, tmp_path)
    found = tiny.opened(given, tiny_causal, tmp_path)
    ids = tiny.prompt(found)
    theirs = tiny.in_a_fresh_process(given, tiny_causal, tmp_path, ids)
    torch.testing.assert_close(tiny.logits(found, ids), theirs, rtol=0, atol=1e-5)


@PLACES
def test_training_twice_with_one_seed_gives_the_same_bytes(
    kind: str, place: str, folder: Folder, tmp_path: Path
) -> None:
    tiny.twice_is_the_same(tiny.recipe({**PROMPT, "place": place, "init": "vocab"}), folder(kind), tmp_path)


@PLACES
def test_a_training_that_was_killed_ends_as_one_that_was_not(
    kind: str, place: str, folder: Folder, tmp_path: Path
) -> None:
    tiny.going_on_ends_the_same(tiny.recipe({**PROMPT, "place": place}), folder(kind), tmp_path)


@PLACES
def test_a_batch_is_as_each_example_alone(kind: str, place: str, folder: Folder) -> None:
    tiny.batches_are_as_each_example_alone(tiny.recipe({**PROMPT, "place": place}), folder(kind))


class TestTheStart:
    def test_by_default_the_prompt_is_the_words_of_the_template_over_and_over(self, tiny_causal: Path) -> None:
        loaded = attached(tiny_causal, Settings(tokens=30))
        ids = loaded.tokenizer(INSTRUCTION, add_special_tokens=False)["input_ids"]
        assert len(ids) < 30
        rows = soft_prompt.vectors(loaded.model)["", ""]
        assert torch.equal(rows, loaded.model.get_input_embeddings().weight[(ids * 30)[:30]])

    @BOTH
    def test_a_prompt_of_real_tokens_is_read_as_these_tokens(self, kind: str, folder: Folder) -> None:
        loaded = attached(folder(kind), Settings(tokens=6, init_text="The lamp is broken and late."))
        words = loaded.tokenizer("The lamp is broken and late.", add_special_tokens=False)["input_ids"][:6]
        tail = [40, 41, 42]
        virtual = loaded.virtual[""]
        assert min(virtual) == loaded.model.config.vocab_size
        assert torch.equal(tiny.logits(loaded, [*virtual, *tail]), tiny.logits(load(folder(kind)), [*words, *tail]))

    def test_the_training_takes_the_words_of_the_recipes_template(self, tiny_causal: Path, tmp_path: Path) -> None:
        given = tiny.recipe({**PROMPT, "tokens": 12}, max_steps=1, learning_rate=1e-9)
        tiny.tuned(given, tiny_causal, tmp_path)
        base = load(tiny_causal)
        ids = base.tokenizer(INSTRUCTION, add_special_tokens=False)["input_ids"][:12]
        rows = load_file(tmp_path / "adapter" / "adapter_model.safetensors")["prompt_embeddings"]
        torch.testing.assert_close(rows, base.model.get_input_embeddings().weight[ids], rtol=0, atol=1e-6)

    def test_vocab_takes_frequent_tokens_that_are_not_special(self, tiny_causal: Path) -> None:
        loaded = attached(tiny_causal, Settings(tokens=40, init="vocab"))
        table, rows = loaded.model.get_input_embeddings().weight, soft_prompt.vectors(loaded.model)["", ""]
        drawn = [int((table == row).all(-1).nonzero()[0]) for row in rows]
        assert not set(drawn) & set(loaded.tokenizer.all_special_ids)
        assert len(set(drawn)) > 20

    def test_random_is_spread_as_the_embedding_is(self, tiny_causal: Path) -> None:
        loaded = attached(tiny_causal, Settings(tokens=500, init="random"))
        rows = soft_prompt.vectors(loaded.model)["", ""]
        assert rows.std().item() == pytest.approx(loaded.model.get_input_embeddings().weight.std().item(), rel=0.05)

    def test_a_template_without_words_begins_with_frequent_tokens_and_says_so(
        self, tiny_causal: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        loaded = attached(tiny_causal, Settings(tokens=4), text="")
        said = "soft-prompt: the template has no words of its own; the prompt begins with frequent tokens.\n"
        assert capsys.readouterr().err == said
        table = loaded.model.get_input_embeddings().weight
        assert all((table == row).all(-1).any() for row in soft_prompt.vectors(loaded.model)["", ""])


class TestAnswering:
    """With a prompt of noise, so that it changes every answer."""

    def noisy(self, folder: Path, *, place: Any = "encoder", tokens: int = 10) -> Any:
        loaded = attached(folder, Settings(tokens=tokens, init="random", place=place))
        with torch.no_grad():
            for weight in loaded.model.parameters():
                if weight.requires_grad:
                    weight.mul_(4)
        return loaded

    @PLACES
    @pytest.mark.parametrize("beams", [1, 3])
    def test_many_prompts_at_once_are_answered_as_each_alone(
        self, kind: str, place: str, beams: int, folder: Folder
    ) -> None:
        loaded = self.noisy(folder(kind), place=place)
        found = tiny.answers_are_those_of_each_alone(loaded, beams=beams)
        base = load(folder(kind))
        assert found != [tiny.alone(base, tiny.prompt(base, n), 8, num_beams=beams) for n in range(6)]

    @PLACES
    def test_a_penalty_that_the_maker_wants_meets_no_id_beyond_the_vocabulary(
        self, kind: str, place: str, folder: Folder
    ) -> None:
        loaded = self.noisy(folder(kind), place=place)
        loaded.model.generation_config.repetition_penalty = 1.5
        prompts = [tiny.prompt(loaded, n) for n in range(3)]
        found = generate(loaded, prompts, settings=GenerateSettings(), max_new_tokens=6)
        one_by_one = [generate(loaded, [ids], settings=GenerateSettings(), max_new_tokens=6)[0] for ids in prompts]
        assert found == one_by_one
        assert all(max(one.ids, default=0) < loaded.model.config.vocab_size for one in found)

    @PLACES
    def test_choices_are_ranked_with_the_prompt_before_them(self, kind: str, place: str, folder: Folder) -> None:
        tiny.choices_are_ranked_as_each_alone(self.noisy(folder(kind), place=place))

    @pytest.mark.parametrize("place", ["decoder", "both"])
    def test_a_prompt_of_the_decoder_is_what_stands_before_its_first_token(self, place: str, folder: Folder) -> None:
        loaded = self.noisy(folder("seq2seq"), place=place)
        ids, read = tiny.prompt(loaded), torch.tensor([[0, 7, 20, 9]])
        found = tiny.logits(loaded, ids)
        base, rows = load(folder("seq2seq")).model, soft_prompt.vectors(loaded.model)["", "decoder"]
        embeds = torch.cat([rows[None], base.shared(read)], 1)
        with torch.no_grad():
            states = loaded.model.get_encoder()(input_ids=torch.tensor([ids]))
            theirs = base(encoder_outputs=states, decoder_inputs_embeds=embeds).logits[:, len(rows) :]
        torch.testing.assert_close(found, theirs, rtol=0, atol=1e-5)


class TestLimits:
    def test_a_long_prompt_is_cut_behind_the_virtual_tokens(self, tiny_causal: Path) -> None:
        loaded = attached(tiny_causal, Settings(tokens=10))
        long = tiny.example(1, prompt="My parcel is late. " * 60)
        encoded, health = encode_training([long], Coder(loaded.tokenizer, "causal", 80, loaded.virtual))
        assert encoded[0].input_ids[:10] == loaded.virtual[""]
        assert len(encoded[0].input_ids) <= 80
        assert [cut.example_id for cut in health.cut] == [long.id]

    @BOTH
    def test_as_many_words_are_read_as_without_it(self, kind: str, folder: Folder, tmp_path: Path) -> None:
        results = [
            tiny.tuned(tiny.recipe(method, max_steps=1, max_tokens=60), folder(kind), tmp_path / str(n), count=6)
            for n, method in enumerate(({"method": "lora"}, {**PROMPT, "tokens": 9}))
        ]
        lora, prompt = (one.encoding for one in results)
        assert lora.cut
        assert [cut.example_id for cut in prompt.cut] == [cut.example_id for cut in lora.cut]
        assert prompt.limit == lora.limit + 9
        assert prompt.prompt_tokens == lora.prompt_tokens + 6 * 9

    def test_no_room_beside_the_virtual_tokens_is_said(self, tiny_causal: Path, tmp_path: Path) -> None:
        given = tiny.recipe({**PROMPT, "tokens": 1020})
        with pytest.raises(DataError) as caught:
            tiny.tuned(given, tiny_causal, tmp_path)
        assert str(caught.value) == (
            "there is nothing to train on: none of the 8 train examples has a target that fits beside its prompt into "
            "1024 tokens, 1020 of which are virtual (orders/train/rows.csv:0, orders/train/rows.csv:1, "
            "orders/train/rows.csv:2 and 5 more). Raise train.max_tokens or shorten the targets, or take fewer virtual "
            "tokens."
        )


class TestWhatIsWrong:
    def refused(self, settings: Settings, folder: Path) -> tuple[str, ...]:
        with pytest.raises(RecipeError) as caught:
            soft_prompt.count(settings, skeleton(folder))
        return caught.value.problems

    def test_more_virtual_tokens_than_the_context(self, tiny_causal: Path) -> None:
        assert self.refused(Settings(tokens=1024), tiny_causal) == (
            "soft-prompt: 1024 virtual tokens leave no room for a prompt, the model's context is 1024 tokens. "
            "Lower tokens.",
        )
        assert soft_prompt.count(Settings(tokens=1023), skeleton(tiny_causal)) == 1023 * 64

    def test_a_place_that_a_causal_model_does_not_have(self, tiny_causal: Path) -> None:
        assert self.refused(Settings(place="both"), tiny_causal) == (
            "soft-prompt: place: both is one of an encoder-decoder; this model is causal. Delete it.",
        )

    def test_everything_else_at_once(self, tiny_seq2seq: Path) -> None:
        settings = Settings(place="decoder", per_task=True, init="random", init_text="Hello").for_tasks(("a", "b"))
        assert self.refused(settings, tiny_seq2seq) == (
            "soft-prompt: per_task needs place: encoder; a decoder does not see which task it serves.",
            "soft-prompt: init_text is not read with init: random. Delete one of the two.",
        )

    def test_a_prompt_of_another_width_does_not_fit(self, tiny_causal: Path, tmp_path: Path) -> None:
        from tunesmith.models.tiny import write_tiny

        given = tiny.recipe(PROMPT, max_steps=1)
        tiny.tuned(given, tiny_causal, tmp_path)
        other = write_tiny(tmp_path / "other", kind="causal", texts=["a lamp"], hidden=32, layers=1)
        with pytest.raises(RecipeError, match="this adapter does not fit the base model in"):
            tiny.opened(given, other, tmp_path)


class TestAPromptForEachTask:
    TASKS = ("orders", "bills", "mood")

    def trained(self, folder: Path, where: Path) -> Any:
        given = tiny.recipe({**PROMPT, "per_task": True}, tasks=self.TASKS)
        result = tiny.tuned(given, folder, where, count=12)
        assert result.trainable == 3 * 5 * 64
        return given

    @BOTH
    def test_each_task_has_ids_of_its_own(self, kind: str, folder: Folder, tmp_path: Path) -> None:
        given = self.trained(folder(kind), tmp_path)
        loaded = tiny.opened(given, folder(kind), tmp_path)
        first = load(folder(kind)).model.config.vocab_size
        assert dict(loaded.virtual) == {
            task: tuple(range(first + 5 * n, first + 5 * n + 5)) for n, task in enumerate(self.TASKS)
        }
        for task in self.TASKS:
            assert tiny.prompt(loaded, task=task)[:5] == list(loaded.virtual[task])
        rows = soft_prompt.vectors(loaded.model)
        assert not torch.equal(rows["orders", ""], rows["bills", ""]), "each learned from its own rows"

    def test_an_example_changes_the_prompt_of_its_task_alone(self, tiny_causal: Path) -> None:
        settings = Settings(tokens=5, per_task=True).for_tasks(self.TASKS)
        loaded = load(tiny_causal)
        soft_prompt.attach(settings, loaded.model, "causal")
        loaded.model(input_ids=torch.tensor([tiny.prompt(loaded, task="bills")])).logits.sum().backward()
        (table,) = (weight for weight in loaded.model.parameters() if weight.requires_grad)
        moved = table.grad.abs().sum(-1) > 0
        assert moved.tolist() == [False] * 5 + [True] * 5 + [False] * 5

    def test_rows_are_answered_with_the_prompt_of_their_task(
        self, tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tunesmith.inference import tuned as module

        monkeypatch.setattr(module, "fastest_dtype", lambda: torch.float32)
        given = self.trained(tiny_causal, tmp_path)
        loaded = tiny.opened(given, tiny_causal, tmp_path)
        by_hand = Tuned.load(tmp_path / "adapter", base=tiny_causal)
        for task in self.TASKS:
            asked = [tiny.example(n, task=task, split="test") for n in range(4)]
            found = answer(given, "tuned", loaded, examples=asked, training=[]).predictions[task]
            prompts = [Coder(loaded.tokenizer, "causal", 1024, loaded.virtual).ids(one) for one in asked]
            assert [one.prompt_tokens for one in found] == [len(ids) for ids in prompts]
            words = [tiny.alone(loaded, ids, 6) for ids in prompts]
            texts = [loaded.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in words]
            assert [one.text for one in found] == texts
            rows = [{"text": one.prompt.split("\n\n")[1]} for one in asked]
            assert by_hand.answer(rows, task=task) == texts

    def test_plain_peft_refuses_it(self, tiny_causal: Path, tmp_path: Path) -> None:
        self.trained(tiny_causal, tmp_path)
        with pytest.raises((KeyError, ValueError)):
            tiny.by_plain_peft(load(tiny_causal), tmp_path / "adapter", [5, 6])


@PLACES
def test_what_each_virtual_token_is_near_to_is_written_down(
    kind: str, place: str, folder: Folder, tmp_path: Path
) -> None:
    given = tiny.recipe({**PROMPT, "place": place}, max_steps=2)
    tiny.tuned(given, folder(kind), tmp_path)
    found = read_record(tmp_path / "adapter" / "nearest.json", NearestTokens)
    loaded = tiny.opened(given, folder(kind), tmp_path)
    table = loaded.model.get_input_embeddings().weight
    expected = [
        (where, number + 1, in_words(loaded.tokenizer, int(cosines.argmax())), float(cosines.max()))
        for (_, where), rows in soft_prompt.vectors(loaded.model).items()
        for number, row in enumerate(rows)
        for cosines in [torch.cosine_similarity(table, row[None], dim=-1)]
    ]
    for one, (where, number, token, cosine) in zip(found.tokens, expected, strict=True):
        assert (one.task, one.place, one.number, one.nearest[0].token) == ("", where, number, token)
        assert one.nearest[0].cosine == pytest.approx(cosine, abs=1e-4)
        values = [near.cosine for near in one.nearest]
        assert values == sorted(values, reverse=True)
        assert len(values) == 5


def test_its_file_is_small(tiny_causal: Path, tmp_path: Path) -> None:
    tiny.tuned(tiny.recipe(PROMPT, max_steps=1), tiny_causal, tmp_path)
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    assert {name: value.shape for name, value in load_file(weights).items()} == {"prompt_embeddings": (5, 64)}
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["peft_type"], config["num_virtual_tokens"]) == ("PROMPT_TUNING", 5)
