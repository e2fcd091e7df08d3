import re
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.encode import Coder, encode_prompts, encode_training, fit_prompt, named
from tunesmith.errors import DataError, RecipeError
from tunesmith.models.load import load_tokenizer
from tunesmith.records import Cut, Example, Message

WORDS = " ".join(f"word{n}" for n in range(60))


def example(**changes: Any) -> Example:
    given = {
        "id": "t/train/f.csv:2", "task": "t", "split": "train", "prompt": "Where is order 4711?",
        "target": "It left on Monday.", "references": ("It left on Monday.",),
    }  # fmt: skip
    return Example.model_validate({**given, **changes})


def history(*turns: tuple[str, str]) -> tuple[Message, ...]:
    return tuple(Message.model_validate({"role": role, "content": content}) for role, content in turns)


@pytest.fixture(scope="module")
def causal(tiny_causal: Path) -> Any:
    return load_tokenizer(tiny_causal)[0]


@pytest.fixture(scope="module")
def seq2seq(tiny_seq2seq: Path) -> Any:
    return load_tokenizer(tiny_seq2seq)[0]


@pytest.fixture
def base(tiny_causal: Path) -> Any:
    """The tokenizer of a base model: no chat template."""
    tokenizer = load_tokenizer(tiny_causal)[0]
    tokenizer.chat_template = None
    return tokenizer


def exactly(text: str) -> str:
    return f"^{re.escape(text)}$"


def test_the_prompt_stands_in_the_chat_template_and_the_loss_counts_the_target_and_its_end(causal: Any) -> None:
    (encoded,), _ = encode_training([example()], Coder(causal, "causal", 200))
    counted = [token for token, counts in zip(encoded.input_ids, encoded.trains, strict=True) if counts]
    ignored = [token for token, counts in zip(encoded.input_ids, encoded.trains, strict=True) if not counts]
    assert causal.decode(ignored) == "<|im_start|>user\nWhere is order 4711?<|im_end|>\n<|im_start|>assistant\n"
    assert causal.decode(counted) == "It left on Monday.<|im_end|>"
    assert counted[-1] == causal.eos_token_id
    assert encoded.trains == (False,) * len(ignored) + (True,) * len(counted)
    assert tuple(counted) == encoded.target_ids
    assert encoded.tokens == len(encoded.input_ids) == len(encoded.trains)


def test_the_control_tokens_of_the_template_are_single_ids(causal: Any) -> None:
    ids = Coder(causal, "causal", 200).ids(example())
    assert ids[0] == causal.bos_token_id
    assert ids.count(causal.eos_token_id) == 1


def test_earlier_turns_and_the_system_message_come_first(causal: Any) -> None:
    said = history(("system", "Be brief."), ("user", "Hello"), ("assistant", "Good day"))
    assert causal.decode(Coder(causal, "causal", 200).ids(example(history=said))) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nGood day<|im_end|>\n"
        "<|im_start|>user\nWhere is order 4711?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_base_model_gets_plain_lines(base: Any) -> None:
    said = history(("system", "Be brief."), ("user", "Hello"))
    (encoded,), _ = encode_training([example(history=said)], Coder(base, "causal", 200))
    assert base.decode(encoded.input_ids) == "Be brief.\nHello\nWhere is order 4711?\nIt left on Monday.<|im_end|>"
    assert base.decode(encoded.target_ids) == "It left on Monday.<|im_end|>"


def test_an_encoder_decoder_reads_the_prompt_and_its_end_and_writes_the_target_and_its_end(seq2seq: Any) -> None:
    (encoded,), _ = encode_training([example()], Coder(seq2seq, "seq2seq", 200))
    assert seq2seq.decode(encoded.input_ids) == "Where is order 4711?</s>"
    assert seq2seq.decode(encoded.target_ids) == "It left on Monday.</s>"
    assert encoded.trains == ()
    assert encoded.tokens == len(encoded.input_ids) + len(encoded.target_ids)


def test_every_script_comes_back_whole(causal: Any, seq2seq: Any) -> None:
    text = "Ein Café in Köln: 東京の椅子 🪑\tx\r\ny"
    for tokenizer, kind in ((causal, "causal"), (seq2seq, "seq2seq")):
        coder = Coder(tokenizer, "causal" if kind == "causal" else "seq2seq", 400)
        assert tokenizer.decode(coder.target(example(target=text))[:-1]) == text


def test_a_prompt_that_fits_exactly_is_left_alone(causal: Any) -> None:
    coder = Coder(causal, "causal", 200)
    whole = coder.ids(example())
    assert fit_prompt(example(), coder, len(whole)) == (whole, None)


def test_the_oldest_turns_go_first_and_the_system_message_stays(causal: Any) -> None:
    turns = [("system", "Be brief.")]
    for n in range(4):
        turns += [("user", f"question {n} " + "why " * 5), ("assistant", f"answer {n}")]
    long = example(history=history(*turns))
    coder = Coder(causal, "causal", 999)
    before = len(coder.ids(long))
    ids, cut = fit_prompt(long, coder, before - 1)
    text = causal.decode(ids)
    assert "question 0" not in text
    assert "answer 0" not in text
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nquestion 1 why")
    assert text.endswith("Where is order 4711?<|im_end|>\n<|im_start|>assistant\n")
    assert cut == Cut(example_id="t/train/f.csv:2", tokens_before=before, tokens_after=len(ids))


def test_what_is_left_of_a_conversation_begins_with_a_question(causal: Any) -> None:
    long = example(history=history(("user", "a " * 30), ("assistant", "b"), ("user", "c"), ("assistant", "d")))
    coder = Coder(causal, "causal", 999)
    for room in range(len(coder.ids(long, history=4)), len(coder.ids(long))):
        text = causal.decode(fit_prompt(long, coder, room)[0])
        assert text.startswith("<|im_start|>user\n")


def test_after_the_turns_the_prompt_itself_loses_its_beginning(causal: Any) -> None:
    long = example(prompt=WORDS, history=history(("user", "Hello"), ("assistant", "Good day")))
    coder = Coder(causal, "causal", 999)
    for room in (40, 90, 150):
        ids, cut = fit_prompt(long, coder, room)
        text = causal.decode(ids)
        assert room - 8 <= len(ids) <= room, "no more is cut than has to be"
        assert "Hello" not in text
        kept = text.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n")
        assert WORDS.endswith(kept)
        assert len(kept) > 20
        assert cut is not None
        assert cut.tokens_after == len(ids)


def test_a_prompt_is_cut_between_characters_of_any_script(causal: Any) -> None:
    prompt = "東京の椅子🪑" * 12
    coder = Coder(causal, "causal", 999)
    for room in range(30, 60):
        text = causal.decode(fit_prompt(example(prompt=prompt), coder, room)[0])
        kept = text.removeprefix("<|im_start|>user\n").removesuffix("<|im_end|>\n<|im_start|>assistant\n")
        assert prompt.endswith(kept)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_target_is_never_cut_and_every_cut_is_named(kind: Any, causal: Any, seq2seq: Any) -> None:
    coder = Coder(causal if kind == "causal" else seq2seq, kind, 60)
    given = [example(id="short"), example(id="long", prompt=WORDS), example(id="longer", prompt=WORDS * 2)]
    encoded, health = encode_training(given, coder)
    end = "<|im_end|>" if kind == "causal" else "</s>"
    assert [coder.tokenizer.decode(one.target_ids) for one in encoded] == [f"It left on Monday.{end}"] * 3
    assert all(len(one.input_ids) <= 60 for one in encoded)
    assert [cut.example_id for cut in health.cut] == ["long", "longer"]
    assert all(cut.tokens_before == len(coder.ids(one)) for cut, one in zip(health.cut, given[1:], strict=True))
    prompts = [len(one.input_ids) - (len(one.target_ids) if kind == "causal" else 0) for one in encoded]
    assert [cut.tokens_after for cut in health.cut] == prompts[1:]
    assert (health.limit, health.too_long) == (60, ())
    assert health.prompt_tokens == sum(prompts)
    assert health.target_tokens == sum(len(one.target_ids) for one in encoded)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_an_example_whose_target_does_not_fit_is_set_aside_and_named(kind: Any, causal: Any, seq2seq: Any) -> None:
    coder = Coder(causal if kind == "causal" else seq2seq, kind, 60)
    encoded, health = encode_training([example(id="fits"), example(id="huge", target=WORDS)], coder)
    assert [one.example_id for one in encoded] == ["fits"]
    assert health.too_long == ("huge",)
    assert health.cut == ()


def test_a_target_that_fits_only_without_its_template_is_set_aside(causal: Any) -> None:
    coder = Coder(causal, "causal", 999)
    bare = len(coder.ids(example(prompt="")))
    target = len(coder.target(example()))
    encoded, _ = encode_training([example()], Coder(causal, "causal", bare + target))
    assert encoded[0].input_ids == (*coder.ids(example(prompt="")), *coder.target(example()))
    _, health = encode_training([example(target="x"), example(id="no")], Coder(causal, "causal", bare + target - 1))
    assert health.too_long == ("no",)


def test_nothing_to_train_on_is_refused_with_the_first_examples(causal: Any) -> None:
    coder = Coder(causal, "causal", 20)
    with pytest.raises(DataError) as caught:
        encode_training([example(id=f"t/train/f.csv:{n}", target=WORDS) for n in range(5)], coder)
    assert str(caught.value) == (
        "there is nothing to train on: none of the 5 train examples has a target that fits beside its prompt into 20 "
        "tokens (t/train/f.csv:0, t/train/f.csv:1, t/train/f.csv:2 and 2 more). Raise train.max_tokens or shorten the "
        "targets."
    )


def test_nothing_to_validate_on_is_refused(causal: Any) -> None:
    with pytest.raises(DataError) as caught:
        encode_training([example(id="v", split="validation", target=WORDS)], Coder(causal, "causal", 20))
    assert str(caught.value) == (
        "there is nothing to validate on: none of the 1 validation examples has a target that fits beside its prompt "
        "into 20 tokens (v). Raise train.max_tokens or shorten the targets."
    )


def test_an_empty_split_is_refused(causal: Any) -> None:
    message = "there is nothing to train on: there are no training examples. Look at the split of the recipe."
    with pytest.raises(DataError, match=exactly(message)):
        encode_training([], Coder(causal, "causal", 20))


def test_prompts_for_answering_are_cut_alike(causal: Any) -> None:
    coder = Coder(causal, "causal", 50)
    ids, health = encode_prompts([example(id="a"), example(id="b", prompt=WORDS)], coder)
    assert ids[0] == coder.ids(example())
    assert ids[1] == fit_prompt(example(prompt=WORDS), coder, 50)[0]
    assert [cut.example_id for cut in health.cut] == ["b"]
    assert (health.limit, health.prompt_tokens, health.target_tokens) == (50, len(ids[0]) + len(ids[1]), 0)


def test_prompts_that_do_not_fit_at_all_are_refused_together(causal: Any) -> None:
    with pytest.raises(DataError) as caught:
        encode_prompts([example(id="a"), example(id="b")], Coder(causal, "causal", 3))
    assert str(caught.value) == (
        "2 prompts do not fit: the room for a prompt is 3 tokens (a, b). "
        "Raise train.max_tokens, or lower max_new_tokens if the model's context is too small for its template and "
        "the answer."
    )


def test_a_chat_template_that_refuses_a_system_message_says_which_example(tiny_causal: Path) -> None:
    tokenizer = load_tokenizer(tiny_causal)[0]
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}x"
    )
    with pytest.raises(RecipeError) as caught:
        Coder(tokenizer, "causal", 50).ids(example(history=history(("system", "Be brief."))))
    assert str(caught.value) == (
        "t/train/f.csv:2: the chat template of this model refuses the turns system, user: System role not supported. "
        "Leave the system message out of the template, or take another model."
    )


@pytest.mark.parametrize(
    ("ids", "text"),
    [([], ""), (["a"], " (a)"), (["a", "b", "c"], " (a, b, c)"), (list("abcde"), " (a, b, c and 2 more)")],
)
def test_the_first_ids_are_named(ids: list[str], text: str) -> None:
    assert named(ids) == text


def test_a_control_token_that_somebody_wrote_stays_text(tiny_causal: Path) -> None:
    tokenizer, _ = load_tokenizer(tiny_causal)
    coder = Coder(tokenizer, "causal", 512)
    end = tokenizer.eos_token
    asked = f"one {end} two"
    example = Example(id="a", task="t", split="train", prompt=asked, target=f"no {end}", references=("no",))
    harmless = example.model_copy(update={"prompt": "one two"})
    ids, plain = coder.ids(example), coder.ids(harmless)
    assert ids.count(tokenizer.eos_token_id) == plain.count(tokenizer.eos_token_id)
    assert asked in tokenizer.decode(ids)
    assert coder.target(example).count(tokenizer.eos_token_id) == 1
