"""Weights of the base that learn, in 32 bits, inside a model that is kept in whatever it was loaded in."""

from typing import Any

from torch import Tensor, float32
from torch.nn import Module, Parameter
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations


class Learned(Module):
    """What stands in for one weight while it is trained: all of it, or the entries that an index names.

    The weight itself stays frozen beneath. So the gradient of an entry that is not named goes nowhere, the optimizer
    does not know of it, and neither a moment nor weight decay can move it.
    """

    def __init__(self, weight: Tensor, index: Tensor | None) -> None:
        super().__init__()
        start = weight if index is None else weight.flatten()[index]
        self.values = Parameter(start.detach().to(float32, copy=True))
        self.index: Tensor | None
        self.register_buffer("index", index, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight as the layer is to see it, in the type of the frozen one."""
        values = self.values.to(weight.dtype)
        if self.index is None:
            return values
        return weight.flatten().index_put((self.index,), values).view_as(weight)


def learn(model: Any, name: str, index: Tensor | None) -> None:
    """Let a weight learn wherever the model uses it: an embedding that is also the output head learns once."""
    weight = model.get_parameter(name)
    places = [(module, own) for module in model.modules() for own, one in module._parameters.items() if one is weight]
    stand_in = Learned(weight, index)
    for module, own in places:
        register_parametrization(module, own, stand_in)


def learned(model: Any) -> dict[str, Learned]:
    """Return what learns, by the name of its weight in the base; tied ones once, under their first name."""
    found: dict[str, Learned] = {}
    for name, _, _, stand_in in _places(model):
        if all(stand_in is not known for known in found.values()):
            found[name] = stand_in
    return found


def settle(model: Any) -> None:
    """Put what was learned into the weights beneath, and leave a plain model."""
    for _, module, own, _ in _places(model):
        remove_parametrizations(module, own, leave_parametrized=True)


def _places(model: Any) -> list[tuple[str, Module, str, Any]]:
    """Return for each weight that is stood in for: its name in the base, its module, its name there, and by what."""
    return [
        (f"{path}.{own}", module, own, chain[0])
        for path, module in model.named_modules()
        if is_parametrized(module)
        for own, chain in module.parametrizations.items()
    ]
