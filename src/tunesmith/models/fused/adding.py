"""Gradients of several batches, which add up layer by layer while the backward pass goes down."""

from collections.abc import Sequence

from torch import Tensor

Gradients = list[Tensor | None]
"""Of weights, in order; None is what nothing learns from, or was added to what earlier batches have left."""


def added(learned: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Gradients:
    """Add gradients to those that earlier batches have left; return what autograd is to take, None where nothing is.

    Autograd would add them up when the last layer is done, and all of a batch would stand beside all of those before:
    with full tuning as much memory as the weights take. A gradient that a hook wants to see is left to autograd.

    Args:
        learned: What was given to autograd, in order.
        gradients: Of each, perhaps in the format of the products: it is converted while it is added.
    """
    left: Gradients = []
    for weight, gradient in zip(learned, gradients, strict=True):
        if gradient is None or (there := left_by_earlier(weight)) is None:
            left.append(gradient if gradient is None else gradient.to(weight.dtype))
        else:
            there.add_(gradient)
            left.append(None)
    return left


def left_by_earlier(weight: Tensor) -> Tensor | None:
    """Return the gradient of earlier batches, to add to; None if there is none, or a hook wants to see what comes."""
    return None if weight._backward_hooks or weight._post_accumulate_grad_hooks else weight.grad
