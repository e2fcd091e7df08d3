"""What no step changes is computed once: the numbers stay, the work does not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from workshop import FULL, LORA, ingredients, make_job, recipe

from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.fused.layer import Layer
from tunesmith.training import below
from tunesmith.training.below import ROOM, bytes_kept, with_known
from tunesmith.training.computing import ready
from tunesmith.training.job import Job, trainable
from tunesmith.training.loop import plan_steps, train

LAST: dict[str, Any] = {"method": "last-layers", "layers": 1}
DECODER: list[dict[str, Any]] = [LAST, {"method": "modules", "patterns": ["decoder.*.wo"]}]
ENCODER: list[dict[str, Any]] = [FULL, LORA, {"method": "norms"}, {"method": "embeddings"}]
SETTINGS: dict[str, Any] = {"epochs": 3.0, "validations": 2}


def job_of(candidate: dict[str, Any], model: Path, where: Path, **settings: Any) -> Job:
    given = recipe(candidate, **{**SETTINGS, **settings})
    job, _ = make_job(ingredients(given, model, train=12, validation=4), where)
    return job


def rows_read_by_the_lowest_layer(monkeypatch: pytest.MonkeyPatch, job: Job) -> list[int]:
    """Count the tokens of every row that the lowest layer is given while ``job`` is trained."""
    read: list[int] = []
    forward = Layer.forward

    def spy(layer: Layer, x: torch.Tensor, row: Any, **options: Any) -> Any:
        if layer.norms[0].weight is job.model.model.layers[0].input_layernorm.weight:
            read.append(len(x))
        return forward(layer, x, row, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Layer, "forward", spy)
        train(job)
    return read


def test_layers_under_those_that_learn_read_every_example_once(
    tiny_tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(LAST, tiny_tall, tmp_path)
    read = rows_read_by_the_lowest_layer(monkeypatch, job)
    assert sum(read) == sum(len(one.input_ids) for one in [*job.train, *job.validation])


def test_what_is_learned_is_what_is_learned_without(
    tiny_tall: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, room in enumerate([ROOM, 0]):
        monkeypatch.setattr(below, "ROOM", room)
        job = job_of(LAST, tiny_tall, tmp_path / str(number))
        read = rows_read_by_the_lowest_layer(monkeypatch, job)
        assert (sum(read) > 3 * sum(len(one.input_ids) for one in job.train)) == (not room)
        found.append({name: weight.detach().clone() for name, weight in trainable(job.model).items()})
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=1e-4, atol=1e-5)


def texts_that_the_encoder_reads(monkeypatch: pytest.MonkeyPatch, job: Job) -> list[int]:
    """Count the tokens of every row that the encoder is given while ``job`` is trained."""
    read: list[int] = []
    encode = EncoderDecoder.encode

    def spy(stack: EncoderDecoder, ids: torch.Tensor, lengths: Any) -> torch.Tensor:
        read.append(len(ids))
        return encode(stack, ids, lengths)

    with monkeypatch.context() as patch:
        patch.setattr(EncoderDecoder, "encode", spy)
        train(job)
    return read


def drop(model: Any) -> None:
    """Give a T5 dropout."""
    model.config.dropout_rate = 0.2
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2


@pytest.mark.parametrize("candidate", DECODER, ids=["last-layers", "modules"])
def test_an_encoder_of_which_nothing_learns_reads_every_text_once_and_changes_nothing(
    candidate: dict[str, Any], tiny_seq2seq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for number, room in enumerate([ROOM, 0]):
        monkeypatch.setattr(below, "ROOM", room)
        job = job_of(candidate, tiny_seq2seq, tmp_path / str(number))
        drop(job.model)  # the decoder alone has any: the encoder says the same in every pass
        read = texts_that_the_encoder_reads(monkeypatch, job)
        texts = sum(len(one.input_ids) for one in [*job.train, *job.validation])
        assert sum(read) == texts if room else sum(read) > 2 * texts
        found.append({name: weight.detach().clone() for name, weight in trainable(job.model).items()})
    for name, weight in found[0].items():
        torch.testing.assert_close(weight, found[1][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("candidate", ENCODER, ids=lambda one: one["method"])
def test_an_encoder_of_which_something_learns_is_not_kept(
    candidate: dict[str, Any], tiny_seq2seq: Path, tmp_path: Path
) -> None:
    with ready(job_of(candidate, tiny_seq2seq, tmp_path)) as job:
        assert job.stack is not None
        assert with_known(job, passes=3, validations=3) is job


@pytest.mark.parametrize("candidate", [FULL, LORA], ids=["full", "lora"])
def test_nothing_is_kept_where_the_lowest_layer_learns(
    candidate: dict[str, Any], tiny_tall: Path, tmp_path: Path
) -> None:
    with ready(job_of(candidate, tiny_tall, tmp_path)) as job:
        assert with_known(job, passes=3, validations=3) is job


def test_a_single_pass_keeps_nothing(tiny_tall: Path, tmp_path: Path) -> None:
    with ready(job_of(LAST, tiny_tall, tmp_path)) as job:
        once = with_known(job, passes=1, validations=1)
        assert (once.below, once.below_validation) == (None, None)
        again = with_known(job, passes=1.5, validations=2)
        assert again.below is not None
        assert [len(one) for one in again.below.states] == [len(one.input_ids) for one in job.train]
        assert again.below_validation is not None
        assert len(again.below_validation.states) == len(job.validation)


def test_the_same_row_as_a_batch_shares_it(tiny_tall: Path, tmp_path: Path) -> None:
    with ready(job_of(LAST, tiny_tall, tmp_path, tokens_per_batch=10**6, tokens_per_step=10**6)) as job:
        known = with_known(job, passes=2, validations=0).below
        assert known is not None
        shared = 2
        row = known.row((3, 1), shared)
        assert len(row) == sum(len(job.train[index].input_ids) for index in (3, 1)) - shared
        torch.testing.assert_close(row[shared:][: len(known.states[3]) - shared], known.states[3][shared:])
        (indices,) = {batch for _, step in plan_steps(job)[:1] for batch in step}
        assert len(indices) == len(job.train)


def test_more_than_there_is_room_for_is_not_kept() -> None:
    assert bytes_kept(600 * 220, 576, 4) == 600 * 220 * 576 * 4
    assert bytes_kept(2 * ROOM // 576, 576, 4) == 0
