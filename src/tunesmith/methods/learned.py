"""Weights of the base that learn, in 32 bits, inside a model that is kept in whatever it was loaded in.

A weight that learns as a whole and has 32 bits already learns itself, so that fused layers can take the model. Another
stays frozen, and something else stands in for it: all of it, or the entries that an index names. So the gradient of an
entry that is not named goes nowhere, the optimizer does not know of it, and neither a moment nor weight decay can move
it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

ITSELF = "_tunesmith_learned"  # where a model keeps the names of the weights that learn themselves


@dataclass(frozen=True, slots=True)
class Whole:
    """A weight that learns itself; looks like what stands in for one."""

    values: Any
    index: None = None


@cache
def _stand_in() -> Any:
    """Return the class of what stands in for a weight; made when it is first used, since it needs torch."""
    from torch import Tensor, float32
    from torch.nn import Module, Parameter

    class Learned(Module):
        """``values``: the whole weight, or (k,) entries of it; ``index``: None, or (k,) where they stand."""

        index: Tensor | None

        def __init__(self, weight: Tensor, index: Tensor | None) -> None:
            super().__init__()
            index = None if index is None else index.to(weight.device)
            start = weight if index is None else weight.flatten()[index]
            self.values = Parameter(start.detach().to(float32, copy=True))
            self.register_buffer("index", index, persistent=False)

        def forward(self, weight: Tensor) -> Tensor:
            """Return the weight as the layer is to see it, in the type of the frozen one."""
            values = self.values.to(weight.dtype)
            if self.index is None:
                return values
            return weight.flatten().index_put((self.index,), values).view_as(weight)

    return Learned


def learn(model: Any, name: str, index: Any) -> None:
    """Let a weight learn wherever the model uses it: an embedding that is also the output head learns once.

    Args:
        model: transformers model.
        name: Of the weight.
        index: None, or (k,) int64: the entries of the flattened weight that learn.
    """
    from torch import float32
    from torch.nn.utils.parametrize import register_parametrization

    weight = model.get_parameter(name)
    if index is None and weight.dtype == float32:
        weight.requires_grad_(True)
        first = next(own for own, one in model.named_parameters() if one is weight)
        setattr(model, ITSELF, (*getattr(model, ITSELF, ()), first))
        return
    places = [(module, own) for module in model.modules() for own, one in module._parameters.items() if one is weight]
    part = _stand_in()(weight, index)
    for module, own in places:
        register_parametrization(module, own, part)


def learned(model: Any) -> dict[str, Any]:
    """Return what learns, by the name of its weight in the base; tied ones once, under their first name."""
    own_names = getattr(model, ITSELF, ())
    found: dict[str, Any] = {name: Whole(one) for name, one in model.named_parameters() if name in own_names}
    for name, _, _, part in _places(model):
        if all(part is not known for known in found.values()):
            found[name] = part
    return found


def beneath(model: Any, base: Callable[[], Any]) -> dict[str, Any]:
    """Return for each parameter that learns, by its own name, what the base has in its place.

    Args:
        model: With weights that learn.
        base: Loads the base, for those that learn themselves.
    """
    own_names = getattr(model, ITSELF, ())
    start = base() if own_names else None
    known = {name: start.get_parameter(name).detach() for name in own_names} if start is not None else {}
    places = {id(part.values): (module, own, part) for _, module, own, part in _places(model)}
    found = {}
    for name, parameter in model.named_parameters():
        if name in known:
            found[name] = known[name].to(parameter.dtype)
        if id(parameter) in places:
            module, own, part = places[id(parameter)]
            weight = module.parametrizations[own].original.detach()
            found[name] = (weight if part.index is None else weight.flatten()[part.index]).to(parameter.dtype)
    return found


def settle(model: Any) -> None:
    """Put what was learned into the weights beneath, and leave a plain model."""
    from torch.nn.utils.parametrize import remove_parametrizations

    for _, module, own, _ in _places(model):
        remove_parametrizations(module, own, leave_parametrized=True)


def _places(model: Any) -> list[tuple[str, Any, str, Any]]:
    """Return for each weight that is stood in for: its name in the base, its module, its name there, and by what."""
    from torch.nn.utils.parametrize import is_parametrized

    return [
        (f"{path}.{own}", module, own, chain[0])
        for path, module in model.named_modules()
        if is_parametrized(module)
        for own, chain in module.parametrizations.items()
    ]
