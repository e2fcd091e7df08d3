import gc
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from workshop import FULL, LORA, ingredients, make_job, read_log, recipe

from tunesmith.models.attention import NAME
from tunesmith.models.load import plain
from tunesmith.training import loop
from tunesmith.training.batches import IGNORED, make_batch
from tunesmith.training.computing import attention, ready
from tunesmith.training.job import Job, trainable
from tunesmith.training.loop import optimizer_step, plan_steps, train
from tunesmith.training.loss import decoder_inputs
from tunesmith.training.optimizer import make_optimizer, rate_at

WHOLE = 10**6  # tokens: more than all examples have


def copy(model: Any) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def digest(model: Any) -> str:
    found = hashlib.sha256()
    for name, weight in sorted(copy(model).items()):
        found.update(name.encode() + weight.numpy().tobytes())
    return found.hexdigest()


def closest(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference between two sets of weights."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_it_does_not_matter_into_how_many_batches_a_step_is_cut(
    tiny: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    found = []
    for number, (tokens_per_batch, batches) in enumerate([(1, 8), (115, 4), (WHOLE, 1)]):
        given = recipe(method, tokens_per_step=WHOLE, tokens_per_batch=tokens_per_batch, epochs=3.0)
        job, _ = make_job(ingredients(given, tiny, train=8), tmp_path / str(number), double=True)
        before = copy(job.model)
        assert len(plan_steps(job)[0][1]) in range(batches - 1, batches + 2)
        progress = train(job)
        assert (progress.step, progress.target_tokens) == (3, 3 * sum(len(one.target_ids) for one in job.train))
        assert closest(before, copy(job.model)) > 0.01
        found.append(copy(job.model))
    assert closest(found[0], found[1]) < 1e-6
    assert closest(found[0], found[2]) < 1e-6


@pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
def test_three_steps_are_those_of_a_plain_loop_over_one_padded_batch(
    tiny: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    given = recipe(method, tokens_per_step=WHOLE, epochs=3.0, clip=0.5, weight_decay=0.1)
    job, _ = make_job(ingredients(given, tiny, train=6), tmp_path / "ours", double=True)
    other, _ = make_job(ingredients(given, tiny, train=6), tmp_path / "theirs", double=True)
    train(job)
    optimizer = make_optimizer(other.model, other.settings)
    other.model.train()
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, steps=3, highest=0.01, settings=other.settings)
        batch = padded(other)
        labels = batch.pop("labels")
        if other.kind == "seq2seq":
            logits = other.model(**batch, decoder_input_ids=decoder_inputs(other.model, labels)).logits
        else:
            logits, labels = other.model(**batch).logits[:, :-1], labels[:, 1:]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(other.model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    assert closest(copy(job.model), copy(other.model)) < 1e-6


def padded(job: Job) -> dict[str, Tensor]:
    """All training examples as one padded batch, the usual way."""
    if job.kind == "seq2seq":
        batch = make_batch(job.train, kind=job.kind, pad_id=job.pad_id)
        assert batch.attention_mask is not None
        return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "labels": batch.labels}
    width = max(one.tokens for one in job.train)
    ids, mask, labels = [], [], []
    for one in job.train:
        blank = width - one.tokens
        ids.append([*one.input_ids, *[job.pad_id] * blank])
        mask.append([1] * one.tokens + [0] * blank)
        counted = [token if counts else IGNORED for token, counts in zip(one.input_ids, one.trains, strict=True)]
        labels.append(counted + [IGNORED] * blank)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def test_lora_changes_nothing_before_training_and_nothing_but_itself_by_training(tiny: Path, tmp_path: Path) -> None:
    from tunesmith.models.load import load

    job, _ = make_job(ingredients(recipe(LORA, max_steps=3), tiny), tmp_path)
    batch = padded(job)
    with torch.no_grad():
        base, before = load(tiny).model(**batch).logits, job.model(**batch).logits
    assert torch.equal(base, before)
    weights = copy(job.model)
    train(job)
    changed = {name for name, weight in copy(job.model).items() if not torch.equal(weight, weights[name])}
    assert changed == {name for name in weights if "lora_" in name} == set(trainable(job.model))
    with torch.no_grad():
        assert (job.model.eval()(**batch).logits - base).abs().max() > 0.01


def test_full_tuning_changes_every_weight(tiny: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(FULL, max_steps=3), tiny), tmp_path)
    weights = copy(job.model)
    train(job)
    assert [name for name, weight in copy(job.model).items() if torch.equal(weight, weights[name])] == []


@pytest.mark.parametrize("method", [{**LORA, "dropout": 0.2}, FULL], ids=["lora", "full"])
def test_training_twice_gives_equal_weights_and_another_seed_gives_others(
    tiny: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    found = []
    for number, seed in enumerate([0, 0, 1]):
        given = ingredients(recipe(method, seed=seed, max_steps=2), tiny)
        job, _ = make_job(given, tmp_path / str(number))
        train(job)
        found.append(digest(job.model))
    assert found[0] == found[1] != found[2]


def test_the_rate_of_every_step_is_in_the_log_and_in_the_optimizer(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def spy(job: Job, settings: Any) -> Any:
        optimizer = make_optimizer(job, settings)
        optimizer.register_step_pre_hook(lambda opt, *_: used.append(opt.param_groups[-1]["lr"]))
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", spy)
    job, _ = make_job(ingredients(recipe(LORA, max_steps=6, warmup=0.5, schedule="linear"), tiny), tmp_path)
    train(job)
    wanted = [rate_at(step, steps=6, highest=0.01, settings=job.settings) for step in range(6)]
    assert used == wanted
    assert [point.learning_rate for point in read_log(tmp_path)] == wanted
    assert wanted[0] < wanted[1] < wanted[2] > wanted[5]


def test_the_log_counts_steps_epochs_and_tokens(tiny: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(LORA, epochs=1.5), tiny), tmp_path)
    plan = plan_steps(job)
    per_epoch = len([epoch for epoch, _ in plan if epoch <= 1])
    train(job)
    log = read_log(tmp_path)
    assert [point.step for point in log] == list(range(1, len(log) + 1))
    assert [point.epoch for point in log] == [round(epoch, 4) for epoch, _ in plan]
    assert log[per_epoch - 1].epoch == 1.0
    assert 1.5 <= log[-1].epoch < 1.7
    assert log[per_epoch - 1].tokens == sum(one.tokens for one in job.train)
    assert log[per_epoch - 1].target_tokens == sum(len(one.target_ids) for one in job.train)
    seconds = [point.seconds for point in log]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


@pytest.mark.parametrize(("epochs", "share"), [(0.5, 0.5), (2.1, 2.1), (1.0, 1.0), (3.0, 3.0)])
def test_a_part_of_an_epoch_is_that_part_of_its_steps(
    tiny_causal: Path, tmp_path: Path, epochs: float, share: float
) -> None:
    given = recipe(LORA, epochs=epochs, tokens_per_step=1)  # one example in each step
    job, _ = make_job(ingredients(given, tiny_causal, train=10), tmp_path)
    steps = plan_steps(job)
    assert len(steps) == round(10 * share)
    assert steps[-1][0] == pytest.approx(share)


def test_max_steps_ends_training_and_the_epoch_says_how_far_it_came(tiny_causal: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(LORA, max_steps=4, tokens_per_step=1), tiny_causal, train=10), tmp_path)
    progress = train(job)
    assert (progress.step, progress.epoch) == (4, 0.4)
    assert [point.epoch for point in read_log(tmp_path)] == [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(("clip", "clipped"), [(0.25, True), (1e6, False)])
def test_a_gradient_is_scaled_down_to_the_clip_and_its_norm_before_is_reported(
    tiny: Path, tmp_path: Path, clip: float, clipped: bool
) -> None:
    job, _ = make_job(ingredients(recipe(FULL, clip=clip), tiny), tmp_path)
    optimizer = make_optimizer(job.model, job.settings)
    norms = []

    def measure(*_: Any) -> None:
        gradients = [weight.grad for weight in job.model.parameters() if weight.grad is not None]
        norms.append(float(torch.stack([(gradient**2).sum() for gradient in gradients]).sum().sqrt()))

    optimizer.register_step_pre_hook(measure)
    with attention(job):
        loss, norm, _ = optimizer_step(job, plan_steps(job)[0][1], optimizer, 0.01, loop.Progress())
    assert norm > 0.25
    assert norms == pytest.approx([0.25 if clipped else norm], rel=1e-4)
    assert 3 < loss < 12, "nats per token of a model that knows nothing"
    assert [weight for weight in job.model.parameters() if weight.grad is not None] == []


def test_training_leaves_the_attention_of_the_model_as_it_was(tiny_causal: Path, tmp_path: Path) -> None:
    job, loaded = make_job(ingredients(recipe(LORA, max_steps=1), tiny_causal), tmp_path)
    before = loaded.model.config._attn_implementation
    assert before != NAME
    train(job)
    assert loaded.model.config._attn_implementation == before


def test_a_model_answers_in_the_middle_of_training_and_trains_on(tiny: Path, tmp_path: Path) -> None:
    from tunesmith.inference.generate import generate
    from tunesmith.settings import GenerateSettings

    def score(model: Any) -> float:
        assert not model.model.training
        assert plain(model.model).config._attn_implementation != NAME
        generate(model, [[5, 6, 7], [9]], settings=GenerateSettings(temperature=1.0), max_new_tokens=2, seed=7)
        return 1.0

    method = {**LORA, "dropout": 0.3}
    found = []
    for number, scored in enumerate((False, True)):
        given = ingredients(recipe(method, max_steps=4, validations=4), tiny, validation=2)
        job, _ = make_job(given, tmp_path / str(number), score=score if scored else None)
        monotone = iter([4.0, 3.0, 2.0, 1.0])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "validation_loss", lambda _, values=monotone: next(values))
            patch.setattr(loop, "load_best", lambda *_: None)
            train(job)
        found.append(digest(job.model))
    assert found[0] == found[1], "answering must not move the random state of dropout"


Sequence = Callable[[list[float]], list[str]]


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Sequence:
    """Make validation find these losses; the list that is returned fills with the weights it looked at."""

    def prescribe(values: list[float]) -> list[str]:
        seen: list[str] = []

        def found(job: Job) -> float:
            seen.append(digest(job.model))
            return values[len(seen) - 1]

        monkeypatch.setattr(loop, "validation_loss", found)
        return seen

    return prescribe


@pytest.mark.parametrize(
    ("validations", "expected"), [(1, [9]), (2, [4, 9]), (4, [2, 4, 7, 9]), (99, list(range(1, 10)))]
)
def test_validations_are_evenly_spaced_and_the_last_step_is_among_them(
    tiny_causal: Path, tmp_path: Path, validations: int, expected: list[int]
) -> None:
    given = recipe(LORA, max_steps=9, validations=validations)
    job, _ = make_job(ingredients(given, tiny_causal, validation=3), tmp_path)
    train(job)
    assert [point.step for point in read_log(tmp_path) if point.validation_loss is not None] == expected


def test_without_validations_the_last_weights_stay(tiny_causal: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(LORA, max_steps=3, validations=0), tiny_causal, validation=3), tmp_path)
    progress = train(job)
    assert progress.best_step == 0
    assert all(point.validation_loss is None for point in read_log(tmp_path))


def test_the_validation_loss_is_the_mean_over_all_target_tokens(tiny: Path, tmp_path: Path) -> None:
    given = recipe({**LORA, "dropout": 0.5}, tokens_per_batch=70)
    job, _ = make_job(ingredients(given, tiny, validation=7), tmp_path)
    with torch.no_grad():
        for weight in trainable(job.model).values():
            weight.normal_(std=0.1)  # as long as B is zero, dropout would not be noticed
    job.model.train()
    with attention(job):
        ours = loop.validation_loss(job)
    with torch.no_grad():
        total = sum(
            loop.loss_sum(job.model.eval(), make_batch([one], kind=job.kind, pad_id=job.pad_id), job.kind).item()
            for one in job.validation
        )
    assert ours == pytest.approx(total / sum(len(one.target_ids) for one in job.validation), rel=1e-5)


def test_the_weights_that_stay_are_those_of_the_best_validation(tiny: Path, tmp_path: Path, losses: Sequence) -> None:
    seen = losses([3.0, 1.0, 2.0, 1.0])
    job, _ = make_job(ingredients(recipe(LORA, max_steps=8, validations=4), tiny, validation=3), tmp_path)
    progress = train(job)
    assert (progress.best, progress.best_step, progress.worse, progress.stopped) == (1.0, 4, 2, "finished")
    assert len(set(seen)) == 4
    assert digest(job.model) == seen[1], "the first of two equally good ones"
    assert progress.step == 8


def test_patience_ends_training_after_so_many_validations_without_a_better_one(
    tiny_causal: Path, tmp_path: Path, losses: Sequence
) -> None:
    seen = losses([3.0, 3.1, 2.0, 2.5, 2.0, 1.0])
    given = recipe(LORA, max_steps=12, validations=6, patience=2)
    job, _ = make_job(ingredients(given, tiny_causal, validation=3), tmp_path)
    progress = train(job)
    assert (progress.step, progress.best_step, progress.stopped) == (10, 6, "early")
    assert len(seen) == 5
    assert digest(job.model) == seen[2]


def test_a_score_decides_instead_of_the_loss_where_keep_best_names_one(
    tiny_causal: Path, tmp_path: Path, losses: Sequence
) -> None:
    seen = losses([4.0, 3.0, 2.0])
    scores = iter([30.0, 50.0, 40.0])
    given = ingredients(recipe(LORA, max_steps=6, validations=3), tiny_causal, validation=3)
    job, _ = make_job(given, tmp_path, score=lambda _: next(scores))
    progress = train(job)
    assert (progress.best, progress.best_step) == (-50.0, 4)
    assert digest(job.model) == seen[1]
    found = [point for point in read_log(tmp_path) if point.validation_loss is not None]
    assert [(point.validation_loss, point.validation_score) for point in found] == [(4, 30), (3, 50), (2, 40)]


def test_python_looks_for_garbage_only_among_what_training_makes(tiny: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(LORA), tiny, train=2), tmp_path)
    before = gc.get_freeze_count()
    with ready(job):
        assert gc.get_freeze_count() > before + 1000
    assert gc.get_freeze_count() <= before


def test_large_gradients_stay_in_memory_as_zeros_and_training_is_the_same(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for large in (1, 10**9):
        monkeypatch.setattr(loop, "LARGE", large)
        job, _ = make_job(ingredients(recipe(FULL, max_steps=3), tiny), tmp_path / str(large), double=True)
        train(job)
        gradients = [weight.grad for weight in trainable(job.model).values()]
        assert all(one is None for one in gradients) if large > 1 else not any(one.any() for one in gradients)
        found.append(copy(job.model))
    assert closest(*found) < 1e-6
