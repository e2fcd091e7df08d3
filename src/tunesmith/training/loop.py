"""The one loop: every method, both architectures.

What it does is a function of the examples, the settings and the seed. A run that is killed goes on from its newest
checkpoint and ends with the weights that it would have had.
"""

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, TextIO

import torch
from torch import Tensor

from tunesmith.data.encode import Encoded
from tunesmith.errors import Interrupted, UserError
from tunesmith.progress import track
from tunesmith.records import TrainPoint
from tunesmith.training.batches import Batch, Below, Step, all_steps, make_batch, split_step
from tunesmith.training.below import with_known
from tunesmith.training.checkpoint import full_disk_explained
from tunesmith.training.computing import computing, ready
from tunesmith.training.distilling import held_to_base
from tunesmith.training.halving import fitting, halved, noticing
from tunesmith.training.job import Job, Progress, tokens_per_batch, trainable
from tunesmith.training.loss import loss_sum, shifted
from tunesmith.training.optimizer import make_optimizer, rate_at
from tunesmith.training.recorder import Entering
from tunesmith.training.resuming import load_best, resume, save, save_best, trim_log
from tunesmith.training.stopping import stop_requests

LARGE = 1 << 25  # bytes of a gradient


def plan_steps(job: Job) -> list[tuple[float, Step]]:
    """Return every optimizer step of the whole training, each with the epochs that are done after it."""
    sizes = [example.tokens for example in job.train]
    ragged = job.kind == "causal"
    return all_steps(
        sizes, job.settings, seed=job.seed, tokens_per_batch=tokens_per_batch(job), ragged=ragged, draw=job.draw
    )


def train(job: Job) -> Progress:
    """Train ``job.model`` in place, and leave it with the best weights that validation found.

    Raises:
        Interrupted: A stop was asked for; a checkpoint was written.
        UserError: The loss, the gradient or a weight is not a number.
        ResourceError: The disk is full.
    """
    steps = plan_steps(job)
    optimizer = make_optimizer(job.model, job.settings)
    progress = resume(job, optimizer)
    trim_log(job.log, progress.step)
    with ExitStack() as stack:
        stack.enter_context(full_disk_explained(job.log.parent, job.log.name))
        job = remembering(stack.enter_context(ready(job)), steps, progress)
        stop = stack.enter_context(stop_requests())
        show = stack.enter_context(track(f"training {job.name}", len(steps), done=progress.step))
        log = stack.enter_context(job.log.open("a", encoding="utf-8"))
        run_steps(job, steps, optimizer, progress, Outlet(log, show, stop))
    load_best(job, progress)
    broken = [name for name, weight in trainable(job.model).items() if not weight.isfinite().all()]
    if broken:
        raise broke_down(job, progress.step, f"{len(broken)} weights are not numbers, the first {broken[0]}")
    return progress


def remembering(job: Job, steps: list[tuple[float, Step]], progress: Progress) -> Job:
    """Return the job with what enters the lowest layer that learns, where that pays; the time of it is training's."""
    started = time.monotonic()
    passes = sum(len(batch) for _, step in steps for batch in step) / max(1, len(job.train))
    found = with_known(job, passes=passes, validations=len(validation_steps(job, len(steps))))
    if found is not job:
        progress.seconds += time.monotonic() - started
    return found


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where the loop writes to, and what may end it."""

    log: TextIO  # train.jsonl
    show: Callable[[float, str], None]
    stop: Callable[[], bool]

    def record(self, point: TrainPoint) -> None:
        """Append one line to train.jsonl, with the fields that this line has."""
        self.log.write(point.model_dump_json(exclude_none=True, exclude_defaults=True) + "\n")
        self.log.flush()

    def sync(self) -> None:
        """Make the lines survive a power cut: a checkpoint must not know of more steps than the log."""
        os.fsync(self.log.fileno())


def run_steps(job: Job, steps: list[tuple[float, Step]], optimizer: Any, progress: Progress, out: Outlet) -> None:
    """Take the optimizer steps that are left."""
    total, saved = len(steps), time.monotonic()
    validate_at = validation_steps(job, total)
    while progress.step < total and progress.stopped == "finished":
        epoch, step = steps[progress.step]
        started = time.monotonic()
        rate, limit = rate_at(progress.step, steps=total, highest=job.rate, settings=job.settings), progress.limit
        loss, norm, kl = optimizer_step(job, step, optimizer, rate, progress)
        progress.step += 1
        progress.epoch = epoch
        progress.seconds += time.monotonic() - started
        progress.losses.append(loss)
        out.record(point(progress, halved(limit, progress), loss=loss, learning_rate=rate, gradient_norm=norm, kl=kl))
        speed = progress.tokens / max(progress.seconds, 1e-9)
        out.show(progress.step, f"step {progress.step}/{total}, loss {loss:.3f}, {speed:.0f} tokens/s")
        if progress.step in validate_at:
            validate_and_keep(job, progress, out)
        stopping = out.stop()
        if stopping or time.monotonic() - saved > 60 * job.settings.checkpoint_minutes:
            out.sync()
            save(job, optimizer, progress)
            saved = time.monotonic()
        if stopping:
            raise Interrupted(
                f"stopped at step {progress.step} of {total} of {job.name}; a checkpoint was written. "
                "The same command goes on from there."
            )


def optimizer_step(
    job: Job, step: Step, optimizer: Any, rate: float, progress: Progress
) -> tuple[float, float, float | None]:
    """Take one step.

    Returns:
        Its loss in nats per target token, the norm of its gradient before clipping, and the divergence from the base in
        nats per token where there is a teacher.
    """
    if not job.model.training:  # to ask costs nothing, to tell every layer does
        job.model.train()
    if job.stack and not job.recorder:
        job.stack.refresh()
    total = fitting(job, step, progress, lambda batches: gradients(job, batches))
    kl = held_to_base(job, progress.step) if job.teacher else None
    examples = [job.train[index] for batch in step for index in batch]
    progress.tokens += sum(example.tokens for example in examples)
    progress.target_tokens += sum(len(example.target_ids) for example in examples)
    parameters = [parameter for parameter in job.model.parameters() if parameter.grad is not None]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, job.settings.clip))
    if not math.isfinite(total) or not math.isfinite(norm):
        ids = ", ".join(example.example_id for example in examples)
        raise UserError(
            f"training {job.name} broke down at step {progress.step + 1}: loss {total}, gradient norm {norm}. Nothing "
            f"was learned from this step. Lower train.learning_rate (it is {rate:g}), or look at its examples: {ids}."
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    clear_gradients(parameters)
    return total, norm, kl


def clear_gradients(parameters: Sequence[Tensor]) -> None:
    """Forget gradients; large ones on a processor stay in memory as zeros.

    A block of that size, given back and wanted again in every step, leaves holes that it no longer fits into: memory
    grew from 1.7 to 2.6 GB in fourteen steps of T5-small.
    """
    for parameter in parameters:
        if parameter.grad is not None and parameter.device.type == "cpu" and parameter.grad.nbytes >= LARGE:
            parameter.grad.zero_()
        else:
            parameter.grad = None


def gradients(job: Job, step: Step) -> float:
    """Add the gradients of all batches of a step; return its loss in nats per target token.

    Raises:
        TooLarge: A batch did not fit into memory; the gradients of those before it are there.
    """
    targets = sum(len(job.train[index].target_ids) for batch in step for index in batch)
    total = 0.0
    for indices in step:
        with noticing(indices):
            if job.recorder:
                total += recorded_gradients(job, indices, share=1 / targets, alone=len(step) == 1)
                continue
            loss = batch_loss(job, job.train, indices, job.below) / targets
            loss.backward()
            total += loss.item()
    return total


def recorded_gradients(job: Job, indices: Sequence[int], *, share: float, alone: bool) -> float:
    """Add the gradients of a batch as a graphics card computes them; return its share of the step's loss."""
    assert job.recorder is not None
    stack, batch = job.recorder.stack, load_batch(job, job.train, indices)
    assert batch.position_ids is not None
    positions, labels = batch.position_ids[0], shifted(batch.labels)[0]
    if job.below:
        row = Entering(job.below.row(indices, 0), positions, labels, batch.lengths, first=stack.steady)
    else:
        ids = batch.input_ids[0]
        row = Entering(stack.embed(ids), positions, labels, batch.lengths, virtual=stack.virtual(ids))
    return job.recorder.add_gradients(row, share=share, alone=alone)


def batch_loss(job: Job, examples: Sequence[Encoded], indices: Sequence[int], below: Below | None) -> Tensor:
    """Return the summed loss of some examples; ``below`` belongs to all of them."""
    batch = load_batch(job, examples, indices)
    known = below.row(indices, batch.shared) if below else None
    with nullcontext() if job.stack else computing(job):  # fused layers know what they compute in
        return loss_sum(job.model, batch, job.kind, stack=job.stack, below=known)


def load_batch(job: Job, examples: Sequence[Encoded], indices: Sequence[int]) -> Batch:
    """Return some examples as tensors; what they all begin with stands there once if the layers know how to use it."""
    chosen = [examples[index] for index in indices]
    share = job.stack is not None and not job.stack.flashes
    return make_batch(chosen, kind=job.kind, pad_id=job.pad_id, share=share, device=job.model.device)


def validation_loss(job: Job) -> float:
    """Return the mean loss over all target tokens of the validation examples, in nats per token."""
    sizes = [example.tokens for example in job.validation]
    batches = split_step(range(len(sizes)), sizes, tokens_per_batch(job), ragged=job.kind == "causal")
    job.model.eval()
    if job.stack:
        job.stack.refresh()
    total = 0.0
    with torch.no_grad():
        for indices in batches:
            total += batch_loss(job, job.validation, indices, job.below_validation).item()
    return total / sum(len(example.target_ids) for example in job.validation)


def validation_steps(job: Job, total: int) -> set[int]:
    """Return after which steps to validate: evenly spaced, the last one always among them."""
    count = min(job.settings.validations, total) if job.validation else 0
    return {round(total * (n + 1) / count) for n in range(count)}


@dataclass(frozen=True, slots=True)
class Validated:
    """What the validation examples say of the weights as they are."""

    loss: float  # nats per target token
    score: float | None  # of the metric that keep_best names
    value: float  # what decides; less is better


def validated(job: Job) -> Validated:
    """Measure on the validation examples."""
    loss = validation_loss(job)
    score = job.score() if job.score else None
    return Validated(loss, score, loss if score is None else -score)


def validate_and_keep(job: Job, progress: Progress, out: Outlet) -> None:
    """Measure on the validation examples; keep the weights if they are the best so far, stop if patience ends."""
    found = validated(job)
    job.model.train()
    if not math.isfinite(found.loss):
        raise broke_down(job, progress.step, f"the validation loss is {found.loss}")
    out.record(point(progress, validation_loss=found.loss, validation_score=found.score))
    out.show(progress.step, f"validation loss {found.loss:.3f} nats per token")
    value = found.value
    if value < progress.best:
        progress.best, progress.best_step, progress.worse = value, progress.step, 0
        save_best(job, progress)
        return
    progress.worse += 1
    if job.settings.patience and progress.worse >= job.settings.patience:
        progress.stopped = "early"


def broke_down(job: Job, step: int, what: str) -> UserError:
    """Return the error for weights that were ruined by a step whose loss still was a number."""
    return UserError(
        f"training {job.name} broke down after step {step}: {what}. Lower train.learning_rate (it is {job.rate:g})."
    )


def point(progress: Progress, note: str = "", **values: float | None) -> TrainPoint:
    """Return a line of train.jsonl for where training is now."""
    return TrainPoint(
        step=progress.step, epoch=round(progress.epoch, 4), seconds=round(progress.seconds, 3),
        tokens=progress.tokens, target_tokens=progress.target_tokens, note=note, **values,
    )  # fmt: skip
