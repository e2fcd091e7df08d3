"""What training takes: steps, batches, validations."""

from collections.abc import Sequence

from tunesmith.data.replay import per_epoch, replayed
from tunesmith.errors import DataError
from tunesmith.mixtures import draw_of, epoch_size
from tunesmith.plan_records import StagePlan
from tunesmith.planning.answering import answer_stage
from tunesmith.planning.calibration import Calibration
from tunesmith.planning.fitting import dot
from tunesmith.planning.ground import Ground
from tunesmith.planning.lengths import training_lengths
from tunesmith.planning.memory import training_memory, while_loading
from tunesmith.planning.shapes import Shape
from tunesmith.planning.work import Length, Load, batch_load, step_work
from tunesmith.recipe import train_settings
from tunesmith.settings import TrainSettings
from tunesmith.training.averaging import SHARES
from tunesmith.training.batches import all_steps, split_step
from tunesmith.training.batches import tokens_at_once as at_once
from tunesmith.training.teacher import bytes_kept, drawn
from tunesmith.training.tune import check_context

FORWARD = 1 / 3  # share of a step's time that a batch takes without its backward pass


def train_stage(
    ground: Ground, settings: TrainSettings, found: Calibration, *, trainable: int, asked: int = 0
) -> StagePlan:
    """Plan a training.

    Args:
        ground: Model and data.
        settings: Of the training.
        found: Calibration of the method.
        trainable: Parameters that learn.
        asked: Bytes that answers for validations take beside the weights.

    Raises:
        DataError: No example fits.
    """
    steps = train_steps(ground, settings)
    seconds = sum(dot(step_work(ground.shape, step, trainable), found.seconds) for step in steps)
    saving = seconds > 60 * settings.checkpoint_minutes
    parts, moment = training_memory(found, ground.shape, steps, saving=saving, asked=asked)
    touched = sum(parts.values()) - sum(parts[name] for name in ("program", "weights", "optimizer"))
    seconds += dot((1, touched), found.once)
    if settings.kl:
        parts["temporary"] += comparing_bytes(ground, settings)
    parts, moment = while_loading(parts, moment, ground.stored())
    loads = [load for step in steps for load in step]
    return StagePlan(
        seconds=round(seconds, 2),
        parts=parts,
        peak=sum(parts.values()),
        moment=moment,
        steps=len(steps),
        largest=max(sum(load.tokens) for load in loads),
        tokens=sum(sum(load.tokens) for load in loads),
    )


def train_steps(ground: Ground, settings: TrainSettings) -> list[list[Load]]:
    """Return every optimizer step of a training as the loads of its batches.

    Raises:
        DataError: No example fits.
    """
    shape = ground.shape
    limit, own, seed = check_context(ground.loaded, settings), ground.counted["train"], ground.recipe.seed
    wanted = per_epoch(epoch_size(len(own), ground.quotas), settings.replay)
    order = replayed(wanted, known=len(ground.general), epochs=settings.epochs, seed=seed)
    mixed = [*own, *(ground.general[number] for number in order)]
    fitting = [(one.task, length) for one in mixed for length in training_lengths([one], shape.kind, limit)]
    if not fitting:
        raise DataError("plan: there is nothing to train on: no example fits into train.max_tokens. Raise it.")
    tasks, lengths = [task for task, _ in fitting], [length for _, length in fitting]
    draw = draw_of(tasks, ground.quotas, general=wanted, seed=seed)
    steps = all_steps(
        sizes_of(lengths, shape), settings, seed=seed, tokens_per_batch=tokens_at_once(shape, settings),
        ragged=shape.kind == "causal", draw=draw,
    )  # fmt: skip
    loads = [[batch_load([lengths[index] for index in batch], shape) for batch in step] for _, step in steps]
    return [[*step, *compared(ground, settings, number)] for number, step in enumerate(loads)]


def compared(ground: Ground, settings: TrainSettings, step: int) -> list[Load]:
    """Return the batch of general text that a step is compared with the base on, where the recipe wants that."""
    if not settings.kl:
        return []
    texts = general_lengths(ground, settings)
    indices = drawn(sizes_of(texts, ground.shape), seed=ground.recipe.seed, step=step)
    return [batch_load([texts[index] for index in indices], ground.shape)]


def general_lengths(ground: Ground, settings: TrainSettings) -> list[Length]:
    """Return (input, compared) tokens of the general texts, as ``training.teacher.general_texts`` has them."""
    limit, causal = check_context(ground.loaded, settings), ground.shape.kind == "causal"
    found = [(n, n - 1) if causal else (n, u) for n, u in training_lengths(ground.general, ground.shape.kind, 10**6)]
    return [one for one in found if sum(one if not causal else one[:1]) <= limit]


def comparing_bytes(ground: Ground, settings: TrainSettings) -> int:
    """Return the bytes that ``train.kl`` takes beside training: what is kept of the base, and a step's comparison."""
    counted = [compared for _, compared in general_lengths(ground, settings)]
    return bytes_kept(counted, width=ground.shape.width, vocabulary=ground.shape.vocabulary)


def validation_seconds(ground: Ground, name: str, measured: Sequence[Calibration]) -> float:
    """Return the seconds of all validations: a pass forward over the validation rows, and answers where asked for.

    Args:
        ground: Model and data.
        name: Of the candidate.
        measured: Calibrations of answering and of its training.
    """
    settings, shape = train_settings(ground.recipe, name), ground.shape
    lengths = training_lengths(ground.counted["validation"], shape.kind, check_context(ground.loaded, settings))
    if not settings.validations or not lengths:
        return 0.0
    sizes = sizes_of(lengths, shape)
    batches = split_step(range(len(sizes)), sizes, tokens_at_once(shape, settings), ragged=shape.kind == "causal")
    loads = [batch_load([lengths[index] for index in batch], shape) for batch in batches]
    once = FORWARD * dot(step_work(shape, loads, 0), measured[1].seconds)
    if settings.keep_best != "loss":
        once += answer_stage(ground, name, measured[0], split="validation").seconds
    times = min(settings.validations, len(train_steps(ground, settings)))
    return (times + (len(SHARES) if settings.average == "auto" else 0)) * once


def sizes_of(lengths: Sequence[Length], shape: Shape) -> list[int]:
    """Return the tokens of each example that pass through the model."""
    return [n + u if shape.kind == "seq2seq" else n for n, u in lengths]


def tokens_at_once(shape: Shape, settings: TrainSettings) -> int:
    """Return the tokens in memory at once; one example at a time where ``training.loop`` does so."""
    if shape.kind == "causal" and not shape.ragged:
        return 1
    return at_once(settings, layers=sum(stack.layers for stack in shape.stacks), width=shape.width)
