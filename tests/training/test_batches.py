from collections import Counter
from pathlib import Path

import pytest
import torch
from workshop import examples

from tunesmith.data.encode import Encoded
from tunesmith.training.batches import IGNORED, Step, epoch_steps, make_batch, split_step

SIZES = [7 + 13 * n % 61 for n in range(200)]


def steps(*, seed: int = 0, epoch: int = 0, tokens_per_step: int = 300, tokens_per_batch: int = 100) -> list[Step]:
    return epoch_steps(
        SIZES, seed=seed, epoch=epoch, tokens_per_step=tokens_per_step, tokens_per_batch=tokens_per_batch
    )


def flat(found: list[Step]) -> list[list[int]]:
    return [[index for batch in step for index in batch] for step in found]


@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize(("tokens_per_step", "tokens_per_batch"), [(300, 100), (1, 1), (10**6, 50), (50, 10**6)])
def test_each_example_stands_in_exactly_one_step_of_an_epoch(
    tokens_per_step: int, tokens_per_batch: int, ragged: bool
) -> None:
    found = epoch_steps(
        SIZES, seed=3, epoch=1, tokens_per_step=tokens_per_step, tokens_per_batch=tokens_per_batch, ragged=ragged
    )
    assert Counter(index for step in flat(found) for index in step) == dict.fromkeys(range(len(SIZES)), 1)
    assert all(batch for step in found for batch in step)


def test_the_order_is_another_one_in_every_epoch_and_for_every_seed() -> None:
    orders = {str(flat(steps(seed=seed, epoch=epoch))) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_a_step_holds_as_many_examples_as_have_room() -> None:
    found = flat(steps(tokens_per_step=300))
    totals = [sum(SIZES[index] for index in step) for step in found]
    assert max(totals) <= 300
    order = [set(step) for step in found]
    for total, following in zip(totals, order[1:], strict=False):
        assert total + max(SIZES[index] for index in following) > 300, "an example of the next step had room here"


def test_the_cut_into_batches_changes_no_step() -> None:
    small, large = steps(tokens_per_batch=1), steps(tokens_per_batch=10**6)
    assert [sorted(step) for step in flat(small)] == [sorted(step) for step in flat(large)]
    assert all(len(batch) == 1 for step in small for batch in step)
    assert all(len(step) == 1 for step in large)


def test_a_ragged_batch_keeps_within_its_tokens_and_is_sorted_by_length() -> None:
    for step in steps(tokens_per_step=900, tokens_per_batch=130):
        for batch in step:
            assert sum(SIZES[index] for index in batch) <= 130
        lengths = [SIZES[index] for batch in step for index in batch]
        assert lengths == sorted(lengths, reverse=True)


def test_a_padded_batch_counts_its_padding() -> None:
    sizes = [50, 10, 10, 10, 10, 9]
    assert split_step(range(6), sizes, 100, ragged=True) == ((0, 1, 2, 3, 4, 5),)
    assert split_step(range(6), sizes, 100, ragged=False) == ((0, 1), (2, 3, 4, 5))


def test_an_example_that_is_larger_than_the_budget_is_a_batch_of_its_own() -> None:
    assert split_step([0, 1, 2], [500, 40, 50], 100) == ((0,), (2, 1))
    assert epoch_steps([500, 40, 50], seed=0, epoch=0, tokens_per_step=10, tokens_per_batch=10, ragged=True) in (
        [((a,),), ((b,),), ((c,),)] for a, b, c in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
    )


CAUSAL = [
    Encoded("a", (11, 12, 13), (13,), (False, False, True)),
    Encoded("b", (21, 22), (22,), (False, True)),
]
SEQ2SEQ = [Encoded("a", (11, 12, 13), (31,), ()), Encoded("b", (21,), (41, 42), ())]


def test_a_causal_batch_is_one_row_without_padding() -> None:
    batch = make_batch(CAUSAL, kind="causal", pad_id=0)
    assert batch.input_ids.tolist() == [[11, 12, 13, 21, 22]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 13, IGNORED, 22]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[0, 1, 2, 0, 1]]
    assert batch.attention_mask is None
    assert (batch.lengths, batch.tokens, batch.target_tokens) == ((3, 2), 5, 2)
    assert batch.input_ids.dtype == batch.labels.dtype == torch.int64


def test_a_seq2seq_batch_is_padded_and_masked() -> None:
    batch = make_batch(SEQ2SEQ, kind="seq2seq", pad_id=9)
    assert batch.input_ids.tolist() == [[11, 12, 13], [21, 9, 9]]
    assert batch.labels.tolist() == [[31, IGNORED], [41, 42]]
    assert batch.attention_mask is not None
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.position_ids is None
    assert (batch.lengths, batch.tokens, batch.target_tokens) == ((3, 1), 7, 3)


def test_what_a_batch_counts_is_what_its_examples_count(tiny: Path) -> None:
    from tunesmith.data.encode import Coder, encode_training
    from tunesmith.models.load import load_tokenizer

    tokenizer, kind = load_tokenizer(tiny)
    encoded, health = encode_training(examples(9), Coder(tokenizer, kind, 200))
    batch = make_batch(encoded, kind=kind, pad_id=tokenizer.pad_token_id)
    assert batch.tokens == sum(one.tokens for one in encoded) == health.prompt_tokens + health.target_tokens
    assert batch.target_tokens == int((batch.labels != IGNORED).sum()) == health.target_tokens
