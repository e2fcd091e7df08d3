"""AdamW over the trainable weights, and the learning rate of every step."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tunesmith.environment import without_bitsandbytes
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import Settings, TrainSettings


def auto_rate(method: str, settings: Settings, *, parameters: int, kind: str) -> float:
    """Return the learning rate that ``learning_rate: auto`` stands for, from the method's own table.

    Args:
        method: Name of the method.
        settings: Of the method.
        parameters: Of the base model.
        kind: "causal" or "seq2seq".
    """
    module = resolve("method", method, METHODS)
    rates: dict[str, Sequence[tuple[float, float]]] = module.RATES
    rate = next(rate for largest, rate in rates[kind] if parameters <= largest)
    return rate * float(module.rate_share(settings)) if hasattr(module, "rate_share") else rate


def rate_at(step: int, *, steps: int, highest: float, settings: TrainSettings) -> float:
    """Return the learning rate of an optimizer step.

    Args:
        step: Counting from 0.
        steps: Of the whole training.
        highest: Reached at the end of the warm-up.
        settings: warmup, schedule, final_rate.

    >>> [round(rate_at(s, steps=10, highest=1.0, settings=TrainSettings(warmup=0.2)), 2) for s in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.1]
    """
    warm = max(1, round(settings.warmup * steps)) if settings.warmup else 0
    if step < warm:
        return highest * (step + 1) / warm
    if settings.schedule == "constant":
        return highest
    done = (step - warm) / max(1, steps - warm - 1)
    shape = 1 - done if settings.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return highest * (settings.final_rate + (1 - settings.final_rate) * shape)


def make_optimizer(model: Any, settings: TrainSettings) -> Any:
    """Return AdamW over what is trainable; vectors (norms, biases) are not decayed.

    In 8 bits its moments are quantised in blocks of 256 (Dettmers and others 2021, "8-bit Optimizers via Block-wise
    Quantization", arXiv 2110.02861), those of weights with fewer than 4,096 numbers excepted.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    given: dict[str, Any] = {"lr": 0.0, "betas": (settings.beta1, settings.beta2)}
    there = [group for group in groups if group["params"]]
    if settings.optimizer == "adamw":
        return with_moments(torch.optim.AdamW(there, **given, fused=True))
    from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit

    return {"adamw-8bit": AdamW8bit, "paged-adamw-8bit": PagedAdamW8bit}[settings.optimizer](there, **given)


def with_moments(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Give AdamW its moments, which it would make in its first step; return it.

    They would come to lie among what that step gives back, and leave holes that the next one's wants do not fit into.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }
    return optimizer


def moment_bytes(optimizer: Any) -> tuple[int, int]:
    """Return the bytes that an optimizer keeps where the weights are, and those in pages, which may leave the card."""
    kept = [one for values in optimizer.state.values() for one in values.values() if isinstance(one, Tensor)]
    sizes: dict[bool, dict[int, int]] = {False: {}, True: {}}
    for one in kept:  # each piece of memory once: all weights share the table of what 8 bits stand for
        sizes[getattr(one, "is_paged", False)][one.data_ptr()] = one.nbytes
    return sum(sizes[False].values()), sum(sizes[True].values())


def as_kept(optimizer: Any, parameter: Tensor, value: Tensor) -> Any:
    """Return what a checkpoint holds of an optimizer's state as the optimizer keeps it: in pages what it has in pages.

    bitsandbytes counts its steps in a plain number; torch in a tensor of floats.
    """
    if value.dtype == torch.int64:
        return value.item()
    if getattr(optimizer, "is_paged", False) and value.shape == parameter.shape:
        return optimizer.get_state_buffer(parameter, dtype=value.dtype).copy_(value)
    return value.to(parameter.device)


def optimizer_problems(settings: TrainSettings) -> list[str]:
    """Return what keeps this machine from making the optimizer that is asked for."""
    asked = f"train.optimizer: {settings.optimizer}"
    if settings.optimizer != "adamw" and (problems := without_bitsandbytes(asked)):
        return problems
    if settings.optimizer == "paged-adamw-8bit" and not torch.cuda.is_available():
        return [f"{asked} pages between a graphics card and memory, and there is no card. Take adamw-8bit."]
    return []
