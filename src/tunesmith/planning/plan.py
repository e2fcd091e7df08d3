"""The plan of a run: each candidate's parameters, memory, time and disk, before anything is loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.machine import available_memory
from tunesmith.models.catalog import home
from tunesmith.plan_records import CandidatePlan, Plan
from tunesmith.planning.answering import answer_stage
from tunesmith.planning.calibration import calibrations
from tunesmith.planning.ground import Ground, orders, survey
from tunesmith.planning.memory import checkpoint_bytes
from tunesmith.planning.room import advice, what_fits
from tunesmith.planning.training import train_stage, validation_seconds
from tunesmith.recipe import train_settings
from tunesmith.records import Example, Split
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import Recipe

NOT_SUITES = "How long benchmark suites take is not planned."
BUSY = 0.5  # programs for each core from which a measurement of time is not to be trusted

PAPERS = 8_000  # bytes beside an adapter's weights: their names, its config and its card


def make_plan(
    recipe: Recipe, folder: Path, examples: Mapping[Split, Sequence[Example]], *, names: Sequence[str] = (),
    table: bool = False,
) -> Plan:  # fmt: skip
    """Plan a run.

    Args:
        recipe: With its tasks filled in.
        folder: Of the base model.
        examples: The prepared data.
        names: Candidates to plan; empty: all.
        table: Whether to say also what else would fit this machine.

    Raises:
        ResourceError: This machine could not be measured.
    """
    ground = survey(recipe, folder, examples)
    free = available_memory()
    names = names or tuple(recipe.candidates)
    used = calibrations([order for name in names for order in orders(ground, name)], ground.shape)
    fits, notes = what_fits(ground, free) if table else ((), ())
    if recipe.suites():
        notes = (*notes, NOT_SUITES)
    if any(one.busy > BUSY for one in used):
        notes = (
            *notes,
            f"Other programs were computing when this machine was measured, so that times may be too "
            f"long; delete {home() / 'calibration'} to measure again.",
        )
    return Plan(
        free=free,
        program=max(one.program for one in used),
        calibrated=min(one.day for one in used),
        candidates=tuple(plan_candidate(ground, name, free) for name in names),
        fits=fits,
        notes=notes,
    )


def plan_candidate(ground: Ground, name: str, free: int) -> CandidatePlan:
    """Plan one candidate.

    Args:
        ground: Model and data.
        name: Of the candidate.
        free: Bytes of memory.
    """
    candidate, settings = ground.recipe.candidates[name], train_settings(ground.recipe, name)
    ground = ground.for_candidate(name)
    measured = calibrations(orders(ground, name), ground.shape)
    answer = answer_stage(ground, name, measured[0], split="test")
    if ground.recipe.sequence and candidate.method != "none":  # all of them are answered after each
        times = len(ground.recipe.sequence)
        answer = answer.model_copy(update={"seconds": answer.seconds * times, "tokens": answer.tokens * times})
    if candidate.method == "none":
        return CandidatePlan(
            name=name, method="none", total=ground.shape.total, trainable=0, train=None, validating=0.0, answer=answer,
            disk=0, working_disk=0,
        )  # fmt: skip
    method = resolve("method", candidate.method, METHODS)
    trainable = method.count(candidate.settings, ground.loaded.model)
    asked = answer_stage(ground, name, measured[0], split="validation") if settings.keep_best != "loss" else None
    beside = asked.needed - asked.parts.get("weights", 0) if asked else 0
    train = train_stage(ground, settings, measured[1], trainable=trainable, asked=beside)
    adapter, checkpoint = method.ON_DISK == "adapter", checkpoint_bytes(measured[1], ground.shape, trainable)
    return CandidatePlan(
        name=name,
        method=candidate.method,
        total=ground.shape.total,
        trainable=trainable,
        train=train,
        validating=round(validation_seconds(ground, name, measured), 2),
        answer=answer,
        disk=adapter_bytes(method, candidate.settings, ground.loaded.model) if adapter else _model_bytes(ground),
        working_disk=checkpoint * (settings.keep_checkpoints + 1) + 4 * trainable,  # a new one, then the oldest goes
        advice=advice(ground, name, free) if free and train.needed > free else "",
    )


def adapter_bytes(method: Any, settings: Any, model: Any) -> int:
    """Return how large the folder of an adapter gets.

    Args:
        method: Its module.
        settings: Its own.
        model: Base, with or without weights.
    """
    numbers: int = getattr(method, "saved", method.count)(settings, model)
    return 4 * numbers + PAPERS


def _model_bytes(ground: Ground) -> int:
    beside = (path for path in ground.loaded.folder.iterdir() if path.suffix in (".json", ".jinja", ".txt", ".model"))
    return 4 * ground.shape.total + sum(path.stat().st_size for path in beside)
