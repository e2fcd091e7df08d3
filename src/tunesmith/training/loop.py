"""The one loop: every method, both architectures.

What it does is a function of the examples, the settings and the seed. A run that is killed goes on from its newest
checkpoint and ends with the weights that it would have had.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.data.encode import Encoded
from tunesmith.errors import Interrupted, UserError
from tunesmith.models.attention import NAME, attending, takes_ragged
from tunesmith.progress import track
from tunesmith.records import TrainPoint
from tunesmith.settings import TrainSettings
from tunesmith.training.batches import Step, epoch_steps, make_batch, split_step
from tunesmith.training.checkpoint import newest, read_checkpoint, remove_old, write_checkpoint
from tunesmith.training.loss import loss_sum
from tunesmith.training.optimizer import make_optimizer, rate_at
from tunesmith.training.stopping import stop_requests


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained, on what, and where it is recorded."""

    name: str
    model: Any  # with the method attached
    kind: str  # "causal" or "seq2seq"
    pad_id: int
    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    settings: TrainSettings
    rate: float  # highest learning rate
    seed: int
    autocast: bool  # fp32 weights computed with in bfloat16
    checkpoints: Path
    log: Path  # train.jsonl
    score: Callable[[], float] | None = None  # a generated metric on the validation rows, for keep_best


@dataclass(slots=True)
class Progress:
    """How far training is; all of it goes into a checkpoint."""

    step: int = 0
    seconds: float = 0.0
    tokens: int = 0
    target_tokens: int = 0
    best: float = math.inf  # validation loss, or minus the score that keep_best names
    best_step: int = 0
    worse: int = 0  # validations since the best one
    losses: list[float] = field(default_factory=list)  # of every step
    stopped: str = "finished"


def plan_steps(job: Job) -> list[tuple[int, Step]]:
    """Return (epoch, step) for every optimizer step of the whole training."""
    sizes = [example.tokens for example in job.train]
    settings, steps = job.settings, []
    for epoch in range(math.ceil(settings.epochs)):
        found = epoch_steps(
            sizes, seed=job.seed, epoch=epoch, tokens_per_step=settings.tokens_per_step,
            tokens_per_batch=tokens_per_batch(job), ragged=job.kind == "causal",
        )  # fmt: skip
        share = min(1.0, settings.epochs - epoch)
        steps += [(epoch, step) for step in found[: math.ceil(share * len(found))]]
    return steps[: settings.max_steps]


def tokens_per_batch(job: Job) -> int:
    """Return the tokens in memory at once; one example at a time where attention cannot be kept apart in a row."""
    alone = job.kind == "causal" and not takes_ragged(plain(job.model))
    return 1 if alone else job.settings.tokens_per_batch


def plain(model: Any) -> Any:
    """Return the transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def train(job: Job) -> Progress:
    """Train ``job.model`` in place, and leave it with the best weights that validation found.

    Raises:
        Interrupted: A stop was asked for; a checkpoint was written.
        UserError: The loss or the gradient is not a number.
        ResourceError: The disk is full.
    """
    steps = plan_steps(job)
    optimizer = make_optimizer(job.model, job.settings)
    progress = resume(job, optimizer)
    trim_log(job.log, progress.step)
    with ExitStack() as stack:
        stack.enter_context(attention(job))
        stop = stack.enter_context(stop_requests())
        show = stack.enter_context(track(f"training {job.name}", len(steps)))
        log = stack.enter_context(job.log.open("a", encoding="utf-8"))
        run_steps(job, steps, optimizer, progress, Outlet(log.write, log.flush, show, stop))
    if progress.best_step:
        weights = read_checkpoint(job.checkpoints / "best").tensors["weights"]
        load_trainable(job.model, weights)
    return progress


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where the loop writes to, and what may end it."""

    write: Callable[[str], Any]
    flush: Callable[[], Any]
    show: Callable[[float, str], None]
    stop: Callable[[], bool]

    def record(self, point: TrainPoint) -> None:
        """Append one line to train.jsonl, with the fields that this line has."""
        self.write(point.model_dump_json(exclude_none=True, exclude_defaults=True) + "\n")
        self.flush()


def run_steps(job: Job, steps: list[tuple[int, Step]], optimizer: Any, progress: Progress, out: Outlet) -> None:
    """Take the optimizer steps that are left."""
    total, saved = len(steps), time.monotonic()
    validate_at = validation_steps(job, total)
    while progress.step < total and progress.stopped == "finished":
        epoch, step = steps[progress.step]
        started = time.monotonic()
        rate = rate_at(progress.step, steps=total, highest=job.rate, settings=job.settings)
        loss, norm = optimizer_step(job, step, optimizer, rate, progress)
        progress.step += 1
        progress.seconds += time.monotonic() - started
        progress.losses.append(loss)
        done = sum(1 for e, _ in steps[: progress.step] if e == epoch) / max(1, sum(1 for e, _ in steps if e == epoch))
        out.record(
            point(progress, epoch + done * min(1.0, job.settings.epochs - epoch),
                  loss=loss, learning_rate=rate, gradient_norm=norm)  # fmt: skip
        )
        speed = progress.tokens / max(progress.seconds, 1e-9)
        out.show(progress.step, f"step {progress.step}/{total}, loss {loss:.3f}, {speed:.0f} tokens/s")
        if progress.step in validate_at:
            validate_and_keep(job, progress, epoch + done, out)
        stopping = out.stop() and progress.step < total
        if stopping or time.monotonic() - saved > 60 * job.settings.checkpoint_minutes:
            save(job, optimizer, progress)
            saved = time.monotonic()
        if stopping:
            raise Interrupted(
                f"stopped at step {progress.step} of {total} of {job.name}; a checkpoint was written. "
                "The same command goes on from there."
            )


def optimizer_step(job: Job, step: Step, optimizer: Any, rate: float, progress: Progress) -> tuple[float, float]:
    """Take one step; return its loss in nats per target token and the norm of its gradient before clipping."""
    job.model.train()
    targets = sum(len(job.train[index].target_ids) for batch in step for index in batch)
    total = 0.0
    for indices in step:
        batch = make_batch([job.train[index] for index in indices], kind=job.kind, pad_id=job.pad_id)
        with computing(job):
            loss = loss_sum(job.model, batch, job.kind) / targets
        loss.backward()
        total += loss.item()
        progress.tokens += batch.tokens
        progress.target_tokens += batch.target_tokens
    parameters = [parameter for parameter in job.model.parameters() if parameter.grad is not None]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, job.settings.clip))
    if not math.isfinite(total) or not math.isfinite(norm):
        ids = ", ".join(job.train[index].example_id for batch in step for index in batch)
        raise UserError(
            f"training {job.name} broke down at step {progress.step + 1}: loss {total}, gradient norm {norm}. Nothing "
            f"was learned from this step. Lower train.learning_rate (it is {rate:g}), or look at its examples: {ids}."
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total, norm


def validation_loss(job: Job) -> float:
    """Return the mean loss over all target tokens of the validation examples, in nats per token."""
    sizes = [example.tokens for example in job.validation]
    batches = split_step(range(len(sizes)), sizes, tokens_per_batch(job), ragged=job.kind == "causal")
    job.model.eval()
    total = 0.0
    with torch.no_grad(), computing(job):
        for indices in batches:
            batch = make_batch([job.validation[index] for index in indices], kind=job.kind, pad_id=job.pad_id)
            total += loss_sum(job.model, batch, job.kind).item()
    return total / sum(len(example.target_ids) for example in job.validation)


def validation_steps(job: Job, total: int) -> set[int]:
    """Return after which steps to validate: evenly spaced, the last one always among them."""
    count = min(job.settings.validations, total) if job.validation else 0
    return {round(total * (n + 1) / count) for n in range(count)}


def validate_and_keep(job: Job, progress: Progress, epoch: float, out: Outlet) -> None:
    """Measure on the validation examples; keep the weights if they are the best so far, stop if patience ends."""
    loss = validation_loss(job)
    score = job.score() if job.score else None
    job.model.train()
    out.record(point(progress, epoch, validation_loss=loss, validation_score=score))
    out.show(progress.step, f"validation loss {loss:.3f} nats per token")
    value = loss if score is None else -score
    if value < progress.best:
        progress.best, progress.best_step, progress.worse = value, progress.step, 0
        write_checkpoint(job.checkpoints, "best", {"weights": trainable(job.model)}, {"step": progress.step})
        return
    progress.worse += 1
    if job.settings.patience and progress.worse >= job.settings.patience:
        progress.stopped = "early"


def point(progress: Progress, epoch: float, **values: float | None) -> TrainPoint:
    """Return a line of train.jsonl for where training is now."""
    return TrainPoint(
        step=progress.step, epoch=round(epoch, 4), seconds=round(progress.seconds, 3),
        tokens=progress.tokens, target_tokens=progress.target_tokens, **values,
    )  # fmt: skip


@contextmanager
def attention(job: Job) -> Iterator[None]:
    """Let a causal model take examples end to end in one row."""
    model = plain(job.model)
    if job.kind == "causal" and takes_ragged(model):
        with attending(model, NAME):
            yield
    else:
        yield


@contextmanager
def answering(model: Any) -> Iterator[None]:
    """Let a model that is in training write answers: padded batches, no dropout; afterwards it trains on."""
    whole = plain(model)
    was_training = model.training
    model.eval()
    with attending(whole, "sdpa" if whole.config._attn_implementation == NAME else whole.config._attn_implementation):
        yield
    model.train(was_training)


@contextmanager
def computing(job: Job) -> Iterator[None]:
    """Compute in bfloat16 where the weights are fp32 and the machine is faster with it."""
    with torch.autocast(job.model.device.type, torch.bfloat16, enabled=job.autocast):
        yield


def trainable(model: Any) -> dict[str, Tensor]:
    """Return the weights that learn, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def load_trainable(model: Any, weights: dict[str, Tensor]) -> None:
    """Copy weights back into the parameters of the same names."""
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(weights[name])


def save(job: Job, optimizer: Any, progress: Progress) -> None:
    """Write a checkpoint of everything the rest of the training depends on."""
    names = {parameter: name for name, parameter in trainable(job.model).items()}
    moments: dict[str, Tensor] = {}
    for parameter, values in optimizer.state.items():
        moments.update({f"{key}/{names[parameter]}": value for key, value in values.items()})
    state = {
        "progress": {key: getattr(progress, key) for key in Progress.__slots__ if key != "best"},
        "best": progress.best if math.isfinite(progress.best) else None,
        "random": torch.get_rng_state().tolist(),
    }
    weights = trainable(job.model)
    name = f"step-{progress.step:08d}"
    write_checkpoint(job.checkpoints, name, {"weights": weights, "optimizer": moments}, state)
    remove_old(job.checkpoints, job.settings.keep_checkpoints)


def resume(job: Job, optimizer: Any) -> Progress:
    """Put model, optimizer and random state back to the newest checkpoint; start from nothing if there is none."""
    found = newest(job.checkpoints) if job.checkpoints.is_dir() else None
    if found is None:
        return Progress()
    load_trainable(job.model, found.tensors["weights"])
    moments = found.tensors["optimizer"]
    for name, parameter in trainable(job.model).items():
        optimizer.state[parameter] = {
            key.split("/", 1)[0]: value for key, value in moments.items() if key.split("/", 1)[1] == name
        }
    torch.set_rng_state(torch.tensor(found.state["random"], dtype=torch.uint8))
    best = found.state["best"]
    return Progress(**found.state["progress"], best=math.inf if best is None else best)


def trim_log(log: Path, step: int) -> None:
    """Drop the lines of train.jsonl that come after ``step``: those steps are taken again."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n") or TrainPoint.model_validate_json(line).step > step:
            break
        kept.append(line)
    log.write_text("".join(kept), encoding="utf-8")
