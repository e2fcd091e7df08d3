import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from workshop import LORA, ingredients, make_job, recipe

from tunesmith.models.attention import NAME, attending
from tunesmith.training.batches import IGNORED, Batch, make_batch
from tunesmith.training.job import Job
from tunesmith.training.loss import decoder_inputs, loss_sum, shifted


@pytest.fixture
def job(tiny: Path, tmp_path: Path) -> Job:
    job, _ = make_job(ingredients(recipe(LORA), tiny, train=7), tmp_path)
    return job


def batch_of(job: Job, *indices: int) -> Batch:
    return make_batch([job.train[index] for index in indices], kind=job.kind, pad_id=job.pad_id)


class Certain:
    """A model of four words whose logits are written down: it looks at nothing."""

    def __init__(self, logits: list[list[float]]) -> None:
        self.logits = torch.tensor(logits)

    def __call__(self, *, input_ids: Tensor, logits_to_keep: Tensor, **_: Any) -> SimpleNamespace:
        assert input_ids.shape == (1, len(self.logits))
        return SimpleNamespace(logits=self.logits[None, logits_to_keep])


def test_five_tokens_worked_by_hand() -> None:
    # Tokens 0 1 | 2 3 1: the loss counts the last three. Position 1 predicts token 2, position 2 token 3, position 3
    # token 1. Positions 0 and 4 are sure of nonsense, and must not matter.
    nonsense = [99.0, -99.0, 50.0, 7.0]
    model = Certain(
        [nonsense, [0.0, 0.0, math.log(2), 0.0], [0.0, 0.0, 0.0, math.log(5)], [0.0, math.log(7), 0.0, 0.0], nonsense]
    )
    batch = Batch(
        torch.tensor([[0, 1, 2, 3, 1]]), torch.tensor([[IGNORED, IGNORED, 2, 3, 1]]), torch.arange(5)[None], None,
        (5,), 5, 3,
    )  # fmt: skip
    # Shares of the right word: 2 of 5, 5 of 8, 7 of 10.
    by_hand = -math.log(2 / 5) - math.log(5 / 8) - math.log(7 / 10)
    assert loss_sum(model, batch, "causal").item() == pytest.approx(by_hand, rel=1e-6)


def test_position_t_predicts_token_t_plus_one_and_never_the_next_example() -> None:
    labels = torch.tensor([[IGNORED, 7, 8, IGNORED, IGNORED, 9]])
    assert shifted(labels).tolist() == [[7, 8, IGNORED, IGNORED, 9, IGNORED]]


def test_the_loss_of_a_batch_is_the_sum_of_its_examples_alone(job: Job) -> None:
    with attending(job.model.get_base_model(), NAME) if job.kind == "causal" else torch.no_grad(), torch.no_grad():
        together = loss_sum(job.model, batch_of(job, *range(7)), job.kind).item()
        alone = [loss_sum(job.model, batch_of(job, n), job.kind).item() for n in range(7)]
    assert together == pytest.approx(sum(alone), rel=1e-5)
    assert len({round(loss, 3) for loss in alone}) > 3, "the examples are not alike, or this would prove nothing"


def test_a_ragged_row_gives_the_gradient_of_its_examples_alone(tiny_causal: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(LORA), tiny_causal, train=5), tmp_path, double=True)
    weight = next(w for name, w in job.model.named_parameters() if "lora_B" in name)
    with attending(job.model.get_base_model(), NAME):
        (together,) = torch.autograd.grad(loss_sum(job.model, batch_of(job, *range(5)), "causal"), weight)
    # Alone, and with the attention of transformers: two reasons for which it could differ.
    alone = [torch.autograd.grad(loss_sum(job.model, batch_of(job, n), "causal"), weight)[0] for n in range(5)]
    torch.testing.assert_close(together, sum(alone, torch.zeros(())).to(together.dtype), rtol=1e-5, atol=1e-7)


def test_the_head_on_counted_positions_gives_what_all_logits_give(tiny_causal: Path, tmp_path: Path) -> None:
    job, loaded = make_job(ingredients(recipe(LORA), tiny_causal, train=1), tmp_path)
    batch = batch_of(job, 0)
    with torch.no_grad():
        whole = loaded.model(input_ids=batch.input_ids, labels=batch.labels).loss * batch.target_tokens
        assert loss_sum(job.model, batch, "causal").item() == pytest.approx(whole.item(), rel=1e-5)


def test_the_seq2seq_loss_is_that_of_transformers_times_the_tokens_counted(tiny_seq2seq: Path, tmp_path: Path) -> None:
    job, loaded = make_job(ingredients(recipe(LORA), tiny_seq2seq, train=7), tmp_path)
    batch = batch_of(job, *range(7))
    assert (batch.labels == IGNORED).any(), "the targets are of different lengths"
    with torch.no_grad():
        theirs = loaded.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels
        ).loss  # fmt: skip
        ours = loss_sum(job.model, batch, "seq2seq")
    assert ours.item() == pytest.approx(theirs.item() * batch.target_tokens, rel=1e-5)


@pytest.mark.parametrize(("start", "pad", "rows"), [(5, 0, [[5, 7], [5, 9]]), (None, 3, [[3, 7], [3, 9]])])
def test_the_decoder_reads_the_start_token_and_all_labels_but_the_last(
    start: int | None, pad: int, rows: list[list[int]]
) -> None:
    model = SimpleNamespace(config=SimpleNamespace(decoder_start_token_id=start, pad_token_id=pad))
    assert decoder_inputs(model, torch.tensor([[7, 8], [9, IGNORED]])).tolist() == rows


def test_ignored_labels_become_padding_for_the_decoder() -> None:
    model = SimpleNamespace(config=SimpleNamespace(decoder_start_token_id=0, pad_token_id=4))
    assert decoder_inputs(model, torch.tensor([[9, IGNORED, IGNORED]])).tolist() == [[0, 9, 4]]


@pytest.mark.parametrize(("dtype", "expected"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_the_loss_is_taken_in_float32_or_better(dtype: torch.dtype, expected: torch.dtype) -> None:
    model = Certain([[0.0, 1.0, 0.0, 0.0]] * 3)
    model.logits = model.logits.to(dtype)
    batch = Batch(torch.tensor([[0, 1, 2]]), torch.tensor([[IGNORED, 1, 2]]), torch.arange(3)[None], None, (3,), 3, 2)
    assert loss_sum(model, batch, "causal").dtype == expected


def test_attention_within_a_row_drops_what_the_config_says_and_only_while_training(tiny_causal: Path) -> None:
    from tunesmith.models.load import load

    model = load(tiny_causal).model
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    ids = {"input_ids": torch.arange(5, 25)[None], "segment_lengths": [12, 8]}
    with attending(model, NAME), torch.no_grad():
        assert torch.equal(model(**ids).logits, model(**ids).logits)
        model.train()
        assert not torch.equal(model(**ids).logits, model(**ids).logits)
