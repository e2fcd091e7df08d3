from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tunesmith.errors import RecipeError
from tunesmith.inference.fused_reading import FusedReader
from tunesmith.inference.rank import rank_choices
from tunesmith.methods import soft_prompt
from tunesmith.models.load import Loaded, load
from tunesmith.suites.answering import HEAD, Answering, alike
from tunesmith.suites.kept import Kept


class Small(Answering):
    """What the harness adds, without the harness."""

    def __init__(self, loaded: Loaded, max_length: int = 1024) -> None:
        self.loaded, self.backend, self.max_length, self.kept = loaded, loaded.kind, max_length, Kept()

    def tok_batch_encode(self, texts: list[str], left_truncate_len: int) -> tuple[Any, Any]:
        ids = [self.loaded.tokenizer(text)["input_ids"][-left_truncate_len:] for text in texts]
        return torch.tensor(ids), None


@pytest.fixture(scope="module")
def loaded(tiny_causal: Path) -> Loaded:
    return load(tiny_causal)


def ids(loaded: Loaded, text: str) -> list[int]:
    return list(loaded.tokenizer(text)["input_ids"])


def asked(loaded: Loaded, pairs: list[tuple[str, str]]) -> list[tuple[Any, list[int], list[int]]]:
    return [(pair, ids(loaded, pair[0]), ids(loaded, pair[1])) for pair in pairs]


def test_likelihoods_come_back_in_the_order_of_the_requests(loaded: Loaded) -> None:
    pairs = [("Is the lamp on?", " yes"), ("Where?", " no"), ("Is the lamp on?", " no, it is not"), ("Where?", " yes")]
    found = [one for one, _ in Small(loaded)._loglikelihood_tokens(asked(loaded, pairs))]
    wanted = [rank_choices(loaded, ids(loaded, context), [ids(loaded, rest)])[0] for context, rest in pairs]
    assert found == pytest.approx(wanted, abs=1e-4)


def test_an_encoder_decoder_is_asked_as_well(tiny_seq2seq: Path) -> None:
    loaded = load(tiny_seq2seq)
    pairs = [("Is the lamp on?", "yes"), ("Is the lamp on?", "no")]
    found = [one for one, _ in Small(loaded)._loglikelihood_tokens(asked(loaded, pairs))]
    wanted = rank_choices(loaded, ids(loaded, "Is the lamp on?"), [ids(loaded, "yes"), ids(loaded, "no")])
    assert found == pytest.approx(wanted, abs=1e-4)


def test_what_is_too_long_loses_its_beginning(loaded: Loaded) -> None:
    context, rest = ids(loaded, "The lamp flickers and then goes dark. Is it broken?"), ids(loaded, " yes")
    limit = len(rest) + 5
    ((found, _),) = Small(loaded, limit)._loglikelihood_tokens([(None, context, rest)])
    assert found == pytest.approx(rank_choices(loaded, context[-6:], [rest])[0], abs=1e-4)  # 6 + rest - 1 are read


def test_virtual_tokens_stand_before_every_prompt(tiny_causal: Path) -> None:
    tuned = load(tiny_causal)
    model = soft_prompt.attach(soft_prompt.Settings(tokens=4), tuned.model, "causal")
    tuned = Loaded(model.eval(), tuned.tokenizer, tuned.kind, tuned.folder, tuned.context)
    virtual = list(tuned.virtual[""])
    context, rest = ids(tuned, "Where is it?"), ids(tuned, " yes")
    ((found, _),) = Small(tuned)._loglikelihood_tokens([(None, context, rest)])
    assert found == pytest.approx(rank_choices(tuned, [*virtual, *context], [rest])[0], abs=1e-4)
    assert found != pytest.approx(rank_choices(tuned, context, [rest])[0], abs=1e-4)


def requests(*contexts: str, **settings: Any) -> list[Any]:
    return [
        SimpleNamespace(args=(context, {"until": ["</s>"], "do_sample": False, **settings})) for context in contexts
    ]


def test_answers_end_before_the_words_that_end_them(loaded: Loaded) -> None:
    small = Small(loaded)
    whole = small.generate_until(requests("Where is the lamp?", "Who asks?", max_gen_toks=24))
    word = whole[0][6:8]
    cut = small.generate_until(requests("Where is the lamp?", "Who asks?", max_gen_toks=24, until=[word]))
    assert len(whole[0]) > len(cut[0])
    assert cut == [text.partition(word)[0] for text in whole]


def test_worked_examples_of_each_task_are_read_once(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [f"{words} The next question counts. " * 12 for words in ("Name what is lost.", "Say who asks.")]
    contexts = [task + question for task in tasks for question in ("Where is the lamp?", "Who has it?")]
    read: list[int] = []
    monkeypatch.setattr(FusedReader, "read", noted(FusedReader.read, read))
    together = Small(loaded).generate_until(requests(*contexts, max_gen_toks=6))
    assert sum(read) < 0.6 * sum(len(ids(loaded, context)) for context in contexts)
    assert together == [Small(loaded).generate_until(requests(one, max_gen_toks=6))[0] for one in contexts]


def noted(read: Any, tokens: list[int]) -> Any:
    def first(self: FusedReader, reading: Any) -> Any:
        tokens.append(sum(len(own) for _, own in reading))
        return read(self, reading)

    return first


def test_the_same_question_with_other_settings_has_its_own_answer(loaded: Loaded) -> None:
    short, long = requests("Who asks?", max_gen_toks=2) + requests("Who asks?", max_gen_toks=12)
    first, second, third = Small(loaded).generate_until([short, long, short])
    assert first == third
    assert second.startswith(first)
    assert len(second) > len(first)


def test_a_context_without_room_for_the_answer_is_refused(loaded: Loaded) -> None:
    with pytest.raises(
        RecipeError, match="the answers of this suite may have 1024 tokens, and the model's context has"
    ):
        Small(loaded, 1000).generate_until(requests("Who asks?", max_gen_toks=1024))


def test_sampling_is_not_pretended(loaded: Loaded) -> None:
    with pytest.raises(RecipeError, match="this suite wants sampled answers, and tunesmith gives the likeliest ones"):
        Small(loaded).generate_until(requests("Who asks?", temperature=0.7))


def test_prompts_that_begin_alike_are_read_together() -> None:
    head = tuple(range(HEAD))
    assert alike([(1,), (*head, 1), (*head, 2), (2,)]) == [[1, 2], [0, 3]]
    assert alike([(1, 2), (1, 2)]) == [[0, 1]]
    assert alike([]) == []
