"""What is to be trained, and how far it is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunesmith.data.encode import Encoded
from tunesmith.data.mixture import Draw
from tunesmith.models.attention import takes_ragged
from tunesmith.models.fused.stack import Packed
from tunesmith.models.load import plain
from tunesmith.models.sizes import depth_and_width
from tunesmith.settings import TrainSettings
from tunesmith.training.batches import Below, tokens_at_once
from tunesmith.training.recorder import Recorder
from tunesmith.training.teacher import Teacher


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
    identity: str  # of all that decides the weights; a checkpoint with another one is refused
    score: Callable[[], float] | None = None  # a generated metric on the validation rows, for keep_best
    draw: Draw | None = None  # which examples stand in which epoch; None = each has all of them
    teacher: Teacher | None = None  # the base, to be held near to
    stack: Packed | None = None  # the model as fused layers, while the loop runs and the model allows it
    recorder: Recorder | None = None  # of steps on a graphics card, where the model is there as fused layers
    below: Below | None = None  # what enters the lowest layer that learns, of the training examples
    below_validation: Below | None = None  # of the validation examples


@dataclass(slots=True)
class Progress:
    """How far training is; all of it goes into a checkpoint."""

    step: int = 0
    epoch: float = 0.0  # passes over the training examples
    seconds: float = 0.0
    tokens: int = 0
    target_tokens: int = 0
    best: float = math.inf  # validation loss, or minus the score that keep_best names
    best_step: int = 0  # 0 = nothing was validated yet
    worse: int = 0  # validations since the best one
    losses: list[float] = field(default_factory=list)  # of every step
    stopped: str = "finished"
    limit: int = 0  # tokens in memory at once, where memory has run out before; 0 = as the settings say


def tokens_per_batch(job: Job) -> int:
    """Return the tokens in memory at once; one example at a time where attention cannot be kept apart in a row."""
    model = plain(job.model)
    if job.kind == "causal" and not takes_ragged(model):
        return 1
    layers, width = depth_and_width(model.config)
    return tokens_at_once(job.settings, layers=layers, width=width)


def trainable(model: Any) -> dict[str, Tensor]:
    """Return the weights that learn, by name; tied ones once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def load_trainable(model: Any, weights: dict[str, Tensor]) -> None:
    """Copy weights back into the parameters of the same names."""
    with torch.no_grad():
        for name, parameter in trainable(model).items():
            parameter.copy_(weights[name])


def own_memory(model: Any) -> None:
    """Move the weights that learn out of the pages of their file, each of them at once.

    Weights in the file's format are pages of it as long as nothing is written there. The optimizer's first write would
    copy them page by page, each with a call to all cores: 1.3 s for 135 million weights, where this takes 0.2 s.
    """
    for parameter in trainable(model).values():
        if parameter.device.type == "cpu":
            parameter.data = parameter.data.clone()
