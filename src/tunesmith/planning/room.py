"""What fits this machine, and what to change where the asked does not."""

from pathlib import Path

from tunesmith.errors import RecipeError, ResourceError
from tunesmith.machine import need_memory, need_space
from tunesmith.plan_records import CandidatePlan, Fit
from tunesmith.planning.calibration import Calibration, calibration, extrapolated
from tunesmith.planning.ground import Ground, orders
from tunesmith.planning.memory import training_memory
from tunesmith.planning.training import tokens_at_once, train_stage
from tunesmith.planning.work import batch_load
from tunesmith.recipe import train_settings
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import Candidate, TrainSettings
from tunesmith.training.optimizer import optimizer_problems
from tunesmith.training.tune import check_context

SHOWN = ("full", "lora", "qlora", "soft-prompt")
"""Methods of the table; those that there are."""
LENGTHS = (128, 256, 512, 1024, 2048)  # tokens of an example
AT_ONCE = (1, 2, 4, 8, 16)  # examples in a batch
SMALLEST = 64  # tokens below which nobody wants a limit


def check_room(planned: CandidatePlan, where: Path) -> None:
    """Refuse to start a training that this machine's memory or disk cannot hold.

    Args:
        planned: The candidate.
        where: Its folder.

    Raises:
        ResourceError: With what it needs, what there is, and the nearest setting that fits.
    """
    if planned.train is None:
        return
    mend = (
        planned.advice or "Take a smaller train.tokens_per_batch, or a method that trains fewer weights, such as lora."
    )
    need_memory(planned.train.needed, f"training {planned.name}", mend)
    where.mkdir(parents=True, exist_ok=True)
    need_space(where, planned.working_disk, f"training {planned.name}")


def what_fits(ground: Ground, free: int) -> tuple[tuple[Fit, ...], tuple[str, ...]]:
    """Return the highest memory of training by method, length and examples at once, and what could not be measured."""
    fits: list[Fit] = []
    notes: list[str] = []
    share = _labelled(ground)
    for method in (name for name in SHOWN if name in METHODS):
        try:
            found = _calibrated(ground, method)
        except (RecipeError, ResourceError) as error:
            notes.append(f"{method} is not in the table: {error.problems[0]}")
            continue
        for length in LENGTHS:
            if ground.shape.context and length > ground.shape.context:
                continue
            example = (length, max(1, round(share * length)))
            for count in AT_ONCE:
                load = batch_load([example] * count, ground.shape)
                parts, _ = training_memory(found, ground.shape, [[load, load]], saving=True)
                peak = sum(parts.values())
                fits.append(
                    Fit(method=method, length=length, examples=count, peak=peak, fits=peak - parts["program"] <= free)
                )
    return tuple(fits), tuple(notes)


def _labelled(ground: Ground) -> float:
    """Return target tokens over input tokens of the training examples."""
    counted = ground.counted["train"]
    whole = sum(one.prompt + (one.target if ground.shape.kind == "causal" else 0) for one in counted)
    return sum(one.target for one in counted) / max(1, whole)


def _calibrated(ground: Ground, method: str) -> Calibration:
    """Return the calibration of a method: as a candidate of the recipe has it, or with its defaults."""
    recipe = ground.recipe
    name = next((name for name, one in recipe.candidates.items() if one.method == method), None)
    if name is None:
        name, settings = method, resolve("method", method, METHODS).Settings()
        resolve("method", method, METHODS).count(settings, ground.loaded.model)
        candidates = {**recipe.candidates, name: Candidate(method=method, settings=settings)}
        ground = ground.with_recipe(recipe.model_copy(update={"candidates": candidates}))
    return calibration(orders(ground, name)[1], ground.shape)


def advice(ground: Ground, name: str, free: int) -> str:
    """Return the nearest setting with which a candidate's training fits, in words.

    Tried in this order: fewer tokens in memory at once, which changes speed alone; moments in 8 bits; shorter examples;
    another method.
    """
    settings, method = train_settings(ground.recipe, name), ground.recipe.candidates[name].method
    found = calibration(orders(ground, name)[1], ground.shape)
    for tokens in _halves(tokens_at_once(ground.shape, settings)):
        if _fits(ground, method, found, settings.model_copy(update={"tokens_per_batch": tokens}), free):
            return f"It fits with candidates.{name}.train.tokens_per_batch={tokens}, which changes the speed alone."
    if narrow := _in_8_bits(ground, name, settings, found, free):
        return narrow
    for tokens in _halves(check_context(ground.loaded, settings)):
        shorter = settings.model_copy(update={"tokens_per_batch": tokens, "max_tokens": tokens})
        if _fits(ground, method, found, shorter, free):
            way = f"candidates.{name}.train"
            return f"It fits with {way}.max_tokens={tokens} and {way}.tokens_per_batch={tokens}; long prompts are cut."
    for other in SHOWN[1:]:
        if other in METHODS and other != method:
            try:
                fitting = _fits(ground, other, _calibrated(ground, other), settings, free)
            except (RecipeError, ResourceError):
                continue
            if fitting:
                return f"It fits with candidates.{name}.method={other}."
    return "No setting of it fits: take a smaller model."


def _in_8_bits(ground: Ground, name: str, settings: TrainSettings, found: Calibration, free: int) -> str:
    """Return how a training fits whose moments are kept in 8 bits; measured only where they are what is too much."""
    if settings.optimizer != "adamw" or optimizer_problems(settings.model_copy(update={"optimizer": "adamw-8bit"})):
        return ""
    method, tokens = ground.recipe.candidates[name].method, tokens_at_once(ground.shape, settings)
    trials = [settings.model_copy(update={"tokens_per_batch": one}) for one in (tokens, *_halves(tokens))]
    spared = 3 * extrapolated(found, ground.shape).moments // 4
    if not _fits(ground, method, found, trials[-1], free + spared):
        return ""
    order = orders(ground, name)[1].model_copy(update={"optimizer": "adamw-8bit"})
    try:
        narrow = calibration(order, ground.shape)
    except ResourceError:
        return ""
    way = f"candidates.{name}.train"
    for trial in trials:
        if _fits(ground, method, narrow, trial, free):
            fewer = f" and {way}.tokens_per_batch={trial.tokens_per_batch}" if trial is not trials[0] else ""
            return f"It fits with {way}.optimizer=adamw-8bit{fewer}."
    return ""


def _halves(tokens: int) -> list[int]:
    found = []
    while tokens // 2 >= SMALLEST:
        tokens //= 2
        found.append(tokens)
    return found


def _fits(ground: Ground, method: str, found: Calibration, settings: TrainSettings, free: int) -> bool:
    own = resolve("method", method, METHODS)
    trainable = own.count(own.Settings.model_validate(found.order.settings, strict=False), ground.loaded.model)
    return train_stage(ground, settings, found, trainable=trainable).needed <= free
