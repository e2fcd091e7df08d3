"""Sparse: the single entries of the base's weights that matter most for the examples learn, all others stay.

Which they are is decided once, before training, by a score for each entry i that a few training examples give:

``fisher``
    F_i = mean of (d log p(y | x) / d w_i)^2 over the examples, the diagonal of the empirical Fisher information (Sung,
    Nair and Raffel 2021, "Training Neural Networks with Fixed Sparse Masks", arXiv 2111.09839).
``sam``
    |g_i^2 / h_i| with the gradient g of the loss over all of these examples and the diagonal h of its Hessian: up to a
    half, how much the loss falls when this entry alone goes to the lowest point of its parabola. This is the
    second-order approximation method of Fu and others 2022, "On the Effectiveness of Parameter-Efficient Fine-Tuning",
    arXiv 2211.15583, whose theorem says that the entries with the largest such values are the best to choose if the
    Hessian is diagonal.

h is estimated as z * (H z), with a vector z of random signs for each example (Bekas, Kokiopoulou and Saad 2007;
Hutchinson 1990). H z is the difference of the gradients on both sides of the base, a short step along z away from it: a
second derivative of the whole model would hold everything that the first one computed. An estimate that happens to be
close to zero would win by its noise, so the mean of all |h| is added to each.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import Any, Literal

from pydantic import Field

from tunesmith.errors import RecipeError
from tunesmith.methods import delta
from tunesmith.methods.delta import RATES as RATES
from tunesmith.methods.delta import base_values as base_values
from tunesmith.methods.delta import load as load
from tunesmith.methods.delta import merge as merge
from tunesmith.methods.delta import save as save
from tunesmith.settings import Settings as Base

ABOUT = "the single entries of all weights that a few examples show to matter (arXiv 2211.15583)"
ON_DISK = "adapter"
IN_PEFT = False

STEP = 1e-3
"""How far entries are moved to see how the gradient changes, of the typical size of an entry.

Less, and the difference of two gradients drowns in the rounding of float32; more, and they no longer differ by H alone.
"""

BYTES = {"fisher": 16, "sam": 30}
"""Bytes for each entry of the base while it is scored, measured: sums, gradients, moved weights, a sorted copy."""

Loss = Callable[[], Any]
"""Computes the loss of an example with the weights as they are at the moment."""


class Settings(Base):
    """What the sparse mask can be told."""

    share: float = Field(0.005, gt=0, le=1, description="Of all entries of the base, so many learn.")
    score: Literal["fisher", "sam"] = Field(
        "fisher", description="fisher: squared gradients. sam: squared gradient over curvature, twice the time."
    )
    examples: int = Field(64, ge=1, description="Training examples that decide; fewer if there are fewer.")


def count(settings: Settings, model: Any) -> int:
    """Return how many entries learn: the share of all, rounded down.

    Raises:
        RecipeError: Not a single one.
    """
    total: int = sum(weight.numel() for weight in model.parameters())
    found = math.floor(settings.share * total)
    if not found:
        digit = 10.0 ** math.floor(math.log10(1 / total))
        raise RecipeError(
            f"sparse: share is {settings.share:g}, which is less than one of the {total:,} entries of this model. "
            f"Take at least {digit * math.ceil(1 / total / digit):g}."
        )
    return found


def saved(settings: Settings, model: Any) -> int:
    """Return how many numbers are written: for each entry its place, in four bytes, and its value."""
    return 2 * count(settings, model)


def preparing_bytes(settings: Settings, model: Any, *, tokens: int) -> int:
    """Return how many bytes ``prepare`` takes at its highest moment, beside the weights.

    Args:
        settings: Which score.
        model: transformers model.
        tokens: Of the longest example.
    """
    total: int = sum(weight.numel() for weight in model.parameters())
    config = model.config.get_text_config()
    layers = config.num_hidden_layers * (2 if model.config.is_encoder_decoder else 1)
    activations: int = tokens * (100 * layers * config.hidden_size + 12 * config.vocab_size)
    return BYTES[settings.score] * total + activations


def prepare(settings: Settings, model: Any, losses: Callable[[int], Iterator[Loss]]) -> dict[str, Any]:
    """Score every entry of the base and choose the best.

    Args:
        settings: Share, score, examples.
        model: transformers model, not changed.
        losses: Gives for a number of training examples that many functions, each of which computes the loss of one
            example, summed over its tokens.

    Returns:
        Name of a weight -> (k,) int64, ascending, the entries of the flattened weight that learn. Weights of which
        none does are left out.
    """
    weights = dict(model.named_parameters())
    for weight in weights.values():
        weight.requires_grad_(True)
    score = {"fisher": fisher, "sam": second_order}[settings.score](weights, losses(settings.examples))
    return largest(score, count(settings, model))


def fisher(weights: Mapping[str, Any], losses: Iterator[Loss]) -> dict[str, Any]:
    """Return for each entry the mean of its squared gradients, in float32.

    Args:
        weights: Name -> weight that requires a gradient.
        losses: One for each example.
    """
    import torch

    total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    number = 0
    for loss in losses:
        number += 1
        for name, gradient in _gradients(loss(), weights).items():
            total[name] += gradient.float().square()
    return {name: one / number for name, one in total.items()}


def second_order(weights: Mapping[str, Any], losses: Iterator[Loss]) -> dict[str, Any]:
    """Return g^2 / (|h| + mean |h|) for each entry, in float32.

    Args:
        weights: Name -> weight that requires a gradient; as it was when this returns.
        losses: One for each example.
    """
    import torch

    slope = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    curvature = {name: torch.zeros_like(one) for name, one in slope.items()}
    dice = torch.Generator().manual_seed(0)
    step = STEP * _typical(weights)
    for loss in losses:
        signs = {
            name: (torch.randint(2, one.shape, generator=dice, dtype=torch.int8) * 2 - 1).to(one.device)
            for name, one in slope.items()
        }
        ahead, behind = (_gradients_at(loss, weights, signs, by=by) for by in (step, -step))
        for name, one in ahead.items():
            slope[name].add_(one, alpha=0.5).add_(behind[name], alpha=0.5)
            curvature[name].add_(one.sub_(behind.pop(name)).mul_(signs[name]), alpha=0.5 / step)
        del ahead
    entries = sum(one.numel() for one in curvature.values())
    mean = sum(float(one.abs_().sum(dtype=torch.float64)) for one in curvature.values()) / entries
    floor = max(mean, torch.finfo(torch.float32).tiny)
    return {name: one.square_().div_(curvature.pop(name).add_(floor)) for name, one in slope.items()}


def _typical(weights: Mapping[str, Any]) -> float:
    """Return the median over the weights of the root mean square of their entries; 1 if it is 0."""
    return median(float(one.detach().float().norm()) / math.sqrt(one.numel()) for one in weights.values()) or 1.0


def _gradients_at(loss: Loss, weights: Mapping[str, Any], signs: Mapping[str, Any], *, by: float) -> dict[str, Any]:
    """Return the gradients by name in float32, with every entry of the weights moved by so much along its sign.

    The weights are put back as they were, not moved back, which would round them.
    """
    base = {name: weight.data for name, weight in weights.items()}
    try:
        for name, weight in weights.items():
            weight.data = base[name].float().add(signs[name], alpha=by)
        return _gradients(loss(), weights)
    finally:
        for name, weight in weights.items():
            weight.data = base[name]


def largest(score: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Return the places of the ``number`` largest values over all tensors together.

    Args:
        score: Name -> any shape.
        number: Of entries, over all names.

    >>> import torch
    >>> largest({"a": torch.tensor([[1.0, 9.0], [5.0, 0.0]]), "b": torch.tensor([2.0]), "c": torch.tensor([7.0])}, 3)
    {'a': tensor([1, 2]), 'c': tensor([0])}
    """
    import torch

    # Not topk, which keeps 16 bytes for each entry while it sorts.
    flat = torch.cat([one.flatten().cpu() for one in score.values()]).numpy()
    flat.partition(len(flat) - number)
    least = float(flat[-number])
    ties = number - int((flat > least).sum())
    found = {}
    for name, one in score.items():
        chosen = one.flatten() > least
        equal = (one.flatten() == least).nonzero().squeeze(1)[:ties]
        ties -= len(equal)
        chosen[equal] = True
        if chosen.any():
            found[name] = chosen.nonzero().squeeze(1)
    return found


def attach(settings: Settings, model: Any, kind: str, *, prepared: Mapping[str, Any]) -> Any:
    """Freeze the model but for the chosen entries, which learn in float32.

    Args:
        settings: Those that ``prepare`` was given.
        model: transformers model.
        kind: "causal" or "seq2seq".
        prepared: What ``prepare`` returned.
    """
    return delta.attach(model, prepared)


def _gradients(value: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the gradients by name; weights that the value does not depend on are left out."""
    from torch.autograd import grad

    found = grad(value, list(weights.values()), allow_unused=True)
    return {name: one for name, one in zip(weights, found, strict=True) if one is not None}
