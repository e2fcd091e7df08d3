"""How fast this machine computes and what it keeps in memory meanwhile: measured once for a model and a method.

Calibrations are files under TUNESMITH_HOME. One holds for a processor, a number of threads, versions of the libraries,
shapes of a model, and settings of a method; if any of these changes, it is measured again.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tunesmith import __version__
from tunesmith.machine import device_name, usable_cores
from tunesmith.models.catalog import home
from tunesmith.planning import probe
from tunesmith.planning.fitting import fit, fit_others
from tunesmith.planning.probe import STEPS, WRITINGS, Order, Sample
from tunesmith.planning.shapes import Shape, Stack
from tunesmith.planning.work import (
    Writing,
    batch_load,
    batch_memory,
    decoding,
    padded_writing,
    step_work,
    writing_memory,
    writing_work,
)
from tunesmith.progress import say
from tunesmith.records import Record
from tunesmith.rundir import read_record, write_record

CACHE = 1  # column of keys and values in ``work.writing_memory``; our own decoder keeps each once, in its format
RELATIVE = {"train": 0.5, "answer": 1.0}
"""How far errors of time count in per cent: a whole model trains like the largest steps of the deepest short one, which
no longer fit the caches."""
LARGE = 30e6  # parameters of a layer from which fewer layers say enough


class Calibration(Record):
    """What was measured, and the coefficients that follow."""

    order: Order
    machine: dict[str, str]
    day: str  # ISO 8601, in UTC
    busy: float  # processes that wanted to compute, over the last minute, for each core
    samples: tuple[Sample, ...]
    program: int  # bytes of the process with all libraries, before a model is there
    seconds: tuple[float, ...]  # coefficients of ``work.step_work`` or ``work.writing_work``
    memory: tuple[float, ...]  # bytes, coefficients of ``work.batch_memory`` or ``work.writing_memory``
    once: tuple[float, ...] = (0.0, 0.0)  # seconds that a training's first step takes more, and more for each byte


def machine() -> dict[str, str]:
    """Return what a calibration depends on besides the model."""
    packages = {name: version(name) for name in ("torch", "transformers", "peft")}
    return {"device": device_name(), "tunesmith": f"{__version__} {_code()}", **packages}


@cache
def _code() -> str:
    """Return a hash of the code whose speed and memory are measured."""
    digest = hashlib.sha256()
    for part in ("inference", "methods", "models", "planning", "training"):
        for path in sorted((Path(__file__).parents[1] / part).rglob("*")):
            if path.suffix in (".py", ".cpp", ".h"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def calibration(order: Order, shape: Shape) -> Calibration:
    """Return the calibration for one order, as ``calibrations`` does."""
    return calibrations([order], shape)[0]


def calibrations(orders: Sequence[Order], shape: Shape) -> list[Calibration]:
    """Return the calibration for each order: as it was kept, or measured now, those that are missing in one program.

    Args:
        orders: What is asked for.
        shape: Of the whole model.

    Raises:
        ResourceError: One could not be measured; those before are kept.
    """
    places = [_place(order, shape) for order in orders]
    missing = {path: order for path, order in zip(places, orders, strict=True) if not path.exists()}
    if missing:
        began, busy = time.monotonic(), os.getloadavg()[0] / usable_cores()
        what = ", ".join(map(_named, missing.values()))
        say(f"plan: calibrating {what} with a few steps of a shortened model; this is done once")
        for (path, order), samples in zip(missing.items(), probe.samples_of([*missing.values()]), strict=True):
            write_record(path, fitted(order, shape, samples, busy=busy))
        say(f"plan: calibrated in {time.monotonic() - began:.0f} s; kept in {next(iter(missing)).parent}")
    return [_here(read_record(path, Calibration)) for path in places]


def _named(order: Order) -> str:
    """Return what an order measures, in words."""
    optimizer = f" with {order.optimizer}" if order.optimizer != Order.model_fields["optimizer"].default else ""
    return f"training by {order.method}{optimizer}" if order.what == "train" else "answering"


def _here(found: Calibration) -> Calibration:
    """Return a calibration for this process, which holds data and more libraries than the one that was measured."""
    return found.model_copy(update={"program": max(found.program, _resident())})


@cache
def _resident() -> int:
    """Return the bytes that this process had in memory at its first plan, so that all its plans agree."""
    return probe.resident()


def fitted(order: Order, shape: Shape, samples: Sequence[Sample], *, busy: float = 0.0) -> Calibration:
    """Return what measurements say, as coefficients of counted work."""
    rows, kept, extra = [], [], []
    for one in samples:
        short = shortened(shape, one.depth)
        if order.what == "train":
            loads = [batch_load(batch, shape) for batch in STEPS[one.number]]
            rows.append(step_work(short, loads, one.trainable))
            if len(loads) == 1:
                continue  # activations and gradients take turns, and its memory says nothing of both
            kept.append(batch_memory(short, loads[-1]))
        else:
            writing = tried(shape, *WRITINGS[one.number])
            rows.append(writing_work(short, writing))
            kept.append(writing_memory(short, writing))
        extra.append(float(one.peak - one.start - one.weights - one.moved - one.moments))
    known = {CACHE: 2.0 if order.half else 4.0} if order.what == "answer" and shape.own else {}
    return Calibration(
        order=order,
        machine=machine(),
        busy=round(busy, 2),
        day=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        samples=tuple(samples),
        program=min(one.start for one in samples),
        seconds=tuple(fit(rows, [one.seconds for one in samples], relative=RELATIVE[order.what])),
        once=first_step(samples) if order.what == "train" else (0.0, 0.0),
        memory=tuple(fit_others(kept, extra, known)),
    )


def first_step(samples: Sequence[Sample]) -> tuple[float, ...]:
    """Return what the first step takes more, in seconds, and in seconds for each byte that it is the first to touch.

    These are gradients and all that it computes with: the system fills them with zeros, page by page.
    """
    largest = [one for one in samples if one.number == len(STEPS) - 1]
    touched = [(1, one.peak - one.start - one.weights - one.moments) for one in largest]
    return tuple(fit(touched, [one.once for one in largest], relative=0))


def depths_of(shape: Shape) -> tuple[int, ...]:
    """Return the layers of the shortened models: two numbers, so that what a layer takes can be told from the rest."""
    deepest = max(stack.layers for stack in shape.stacks)
    each = sum(stack.parameters for stack in shape.stacks) / sum(stack.layers for stack in shape.stacks)
    return tuple(sorted({min(depth, deepest) for depth in ((1, 3) if each > LARGE else (2, 6))}))


def shortened(shape: Shape, depth: int) -> Shape:
    """Return the shape of the model with at most ``depth`` layers in each stack."""
    stacks = tuple(
        Stack(min(depth, stack.layers), stack.parameters * min(depth, stack.layers) // stack.layers)
        for stack in shape.stacks
    )
    return replace(shape, stacks=stacks)


def tried(shape: Shape, rows: int, tokens: int, new: int) -> Writing:
    """Return the work of one entry of WRITINGS."""
    if shape.own:
        return decoding([tokens] * rows, [new] * rows, slots=rows, kind=shape.kind)
    return padded_writing([tokens] * rows, [new] * rows, shape.kind)


class Kept(NamedTuple):
    """What is kept as long as a model is there, in bytes."""

    weights: int
    moved: int  # of those that learn
    moments: int  # of the optimizer
    paged: int  # of the optimizer, in pages that may leave a card


def extrapolated(found: Calibration, shape: Shape) -> Kept:
    """Return what the whole model keeps, from what the short ones keep."""
    first, last = found.samples[0], found.samples[-1]
    layers = max(stack.layers for stack in shape.stacks)
    more = (layers - last.depth) / max(1, last.depth - first.depth)
    pairs = ((getattr(first, name), getattr(last, name)) for name in Kept._fields)
    return Kept(*(round(b + more * (b - a)) for a, b in pairs))


def _place(order: Order, shape: Shape) -> Path:
    """Return the file of an order's calibration, whose name is a hash of all that it depends on."""
    plain = {**order.model_dump(), "folder": "", "machine": machine(), "shape": repr(shape)}
    key = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:24]
    return home() / "calibration" / f"{key}.json"
