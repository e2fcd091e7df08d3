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
Hutchinson 1990). An estimate that happens to be close to zero would win by its noise, so the mean of all |h| is added
to each.
"""

import math
from collections.abc import Callable, Iterator, Mapping
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


def prepare(settings: Settings, model: Any, losses: Callable[[int], Iterator[Any]]) -> dict[str, Any]:
    """Score every entry of the base and choose the best.

    Args:
        settings: Share, score, examples.
        model: transformers model, not changed.
        losses: Gives for a number of training examples that many losses, each summed over the tokens of one example.

    Returns:
        Name of a weight -> (k,) int64, ascending, the entries of the flattened weight that learn. Weights of which
        none does are left out.
    """
    weights = dict(model.named_parameters())
    for weight in weights.values():
        weight.requires_grad_(True)
    score = {"fisher": fisher, "sam": second_order}[settings.score](weights, losses(settings.examples))
    return largest(score, count(settings, model))


def fisher(weights: Mapping[str, Any], losses: Iterator[Any]) -> dict[str, Any]:
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
        for name, gradient in _gradients(loss, weights).items():
            total[name] += gradient.float().square()
    return {name: one / number for name, one in total.items()}


def second_order(weights: Mapping[str, Any], losses: Iterator[Any]) -> dict[str, Any]:
    """Return g^2 / (|h| + mean |h|) for each entry, in float32.

    Args:
        weights: Name -> weight that requires a gradient.
        losses: One for each example; made while attention can be differentiated twice.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    slope = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    curvature = {name: torch.zeros_like(one) for name, one in slope.items()}
    dice = torch.Generator().manual_seed(0)
    with sdpa_kernel(SDPBackend.MATH):
        for loss in losses:
            first = _gradients(loss, weights, twice=True)
            signs = {name: (torch.randint(2, one.shape, generator=dice) * 2 - 1).to(one) for name, one in first.items()}
            along = sum((one * signs[name]).sum() for name, one in first.items())
            for name, one in first.items():
                slope[name] += one.detach().float()
            for name, one in _gradients(along, weights).items():
                curvature[name] += (signs[name] * one).float() if name in signs else 0
    curvature = {name: one.abs() for name, one in curvature.items()}
    entries = sum(one.numel() for one in curvature.values())
    mean = sum(float(one.sum(dtype=torch.float64)) for one in curvature.values()) / entries
    floor = max(mean, torch.finfo(torch.float32).tiny)
    return {name: one.square() / (curvature[name] + floor) for name, one in slope.items()}


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

    flat = torch.cat([one.flatten() for one in score.values()])
    best = flat.topk(number).indices.sort().values
    found, start = {}, 0
    for name, one in score.items():
        inside = best[(best >= start) & (best < start + one.numel())] - start
        if inside.numel():
            found[name] = inside
        start += one.numel()
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


def _gradients(value: Any, weights: Mapping[str, Any], *, twice: bool = False) -> dict[str, Any]:
    """Return the gradients by name; weights that the value does not depend on are left out."""
    from torch.autograd import grad

    found = grad(value, list(weights.values()), create_graph=twice, allow_unused=True)
    return {name: one for name, one in zip(weights, found, strict=True) if one is not None}
