from pathlib import Path

import pytest
from workshop import example, examples

from tunesmith.data.encode import Coder, encode_training
from tunesmith.inference.few_shot import choose_shots, with_shots
from tunesmith.inference.reading import shared_prefix
from tunesmith.models.load import load_tokenizer
from tunesmith.planning import lengths
from tunesmith.planning.lengths import Prompts, asked_prompts, count_tokens, training_lengths


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("limit", [1000, 40])
def test_lengths_are_those_that_training_reads(kind: str, limit: int, request: pytest.FixtureRequest) -> None:
    tokenizer, _ = load_tokenizer(request.getfixturevalue(f"tiny_{kind}"))
    coder = Coder(tokenizer, "causal" if kind == "causal" else "seq2seq", limit)
    given = examples(24)
    found = training_lengths(count_tokens(given, coder), kind, limit)
    real, health = encode_training(given, coder)
    assert len(found) == len(real)
    assert [u for _, u in found] == [len(one.target_ids) for one in real]
    if limit == 1000:
        assert [n for n, _ in found] == [len(one.input_ids) for one in real]
    else:
        assert health.cut
        # a cut falls between two words of the prompt, so a few tokens below the limit
        assert all(0 <= n - len(one.input_ids) < 12 for (n, _), one in zip(found, real, strict=True))


def test_of_many_examples_some_are_counted(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, _ = load_tokenizer(tiny_causal)
    coder = Coder(tokenizer, "causal", 1000)
    given = examples(60)
    whole = count_tokens(given, coder)
    monkeypatch.setattr(lengths, "COUNTED", 20)
    some = count_tokens(given, coder, seed=1)
    assert len(some) == len(whole)
    assert len({one.text for one in some}) <= 20
    mean = [sum(one.prompt for one in found) / len(found) for found in (some, whole)]
    assert mean[0] == pytest.approx(mean[1], rel=0.2)
    assert some == count_tokens(given, coder, seed=1)
    assert some != count_tokens(given, coder, seed=2)


def test_allowed_answers_are_counted_with_their_end(tiny_causal: Path) -> None:
    tokenizer, _ = load_tokenizer(tiny_causal)
    coder = Coder(tokenizer, "causal", 1000)
    one = example(1, choices=("good", "very bad"), target="good", references=("good",))
    (found,) = count_tokens([one], coder)
    assert found.choices == tuple(len(coder.target(one.model_copy(update={"target": c}))) for c in one.choices)
    assert found.target == found.choices[0]


def test_worked_examples_make_prompts_longer_by_as_much_as_they_do(tiny_causal: Path) -> None:
    tokenizer, _ = load_tokenizer(tiny_causal)
    coder = Coder(tokenizer, "causal", 900)
    training, asked = examples(10), examples(5, start=100, split="test")
    chosen = choose_shots(training, task="orders", shots=2, seed=4)
    real = sum(len(coder.ids(with_shots(one, chosen, coder)[0])) for one in asked)
    found = asked_prompts(asked, training, coder, shots=2, seed=4)
    assert found.longer * sum(len(coder.ids(one)) for one in asked) == pytest.approx(real)
    assert found.longer > 2
    prompts = [tuple(coder.ids(with_shots(one, chosen, coder)[0])) for one in asked]
    assert found.shared == shared_prefix(prompts)
    alone = asked_prompts(asked, training, coder, shots=0, seed=4)
    assert alone == Prompts(shared=shared_prefix([tuple(coder.ids(one)) for one in asked]))
    assert found.shared > 2 * alone.shared
    assert asked_prompts([], training, coder, shots=2, seed=4) == Prompts()
