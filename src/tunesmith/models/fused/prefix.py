"""A learned prefix: keys and values of attention in the places of virtual tokens (Li and Liang 2021, arXiv 2101.00190).

``methods.prefix`` puts them there with a hook after the key and the value layer. Fused layers do the same between the
product and the rotation, and on the way back take the gradients that arrive at these places.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NAME = "prefix"  # of the parameter of a key or value layer


@dataclass(frozen=True, slots=True)
class Prefix:
    """What one layer has learned for v virtual tokens; K heads of size D."""

    keys: nn.Parameter  # (v, K * D), before the rotation
    values: nn.Parameter  # (v, K * D)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns of it."""
        return [rows for rows in (self.keys, self.values) if rows.requires_grad]

    def put(self, qkv: Tensor, numbers: Tensor | None) -> None:
        """Write the prefix over keys and values.

        Args:
            qkv: (T, (H + 2 K) * D) queries, keys and values side by side; is changed.
            numbers: (T,) of the virtual token at each position, -1 = a real one; None: all are real.
        """
        if numbers is None:
            return
        here, which = (numbers >= 0)[:, None], numbers.clamp_min(0)
        for part, rows in zip(self._parts(qkv), (self.keys, self.values), strict=True):
            part.copy_(torch.where(here, rows.detach().to(part.dtype)[which], part))

    def gradients(self, d_qkv: Tensor, numbers: Tensor | None) -> list[Tensor]:
        """Return the gradients of ``parameters``, and take them out of ``d_qkv``: nothing came from the products there.

        Args:
            d_qkv: The gradient of what ``put`` was given, before the rotation; is changed.
            numbers: As in ``put``.
        """
        found = [torch.zeros_like(rows) for rows in (self.keys, self.values)]
        if numbers is not None:
            here, which = (numbers >= 0)[:, None], numbers.clamp_min(0)
            for part, rows in zip(self._parts(d_qkv), found, strict=True):
                rows.index_add_(0, which, part.to(rows.dtype).masked_fill(~here, 0))
                part.masked_fill_(here, 0)
        return [one for one, rows in zip(found, (self.keys, self.values), strict=True) if rows.requires_grad]

    def _parts(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        width = self.keys.shape[1]
        return qkv[:, -2 * width : -width], qkv[:, -width:]


def read_prefix(keys: Any, values: Any) -> Prefix | None:
    """Return the prefix of a key and a value layer, if they have one."""
    if all(NAME in layer._parameters for layer in (keys, values)):
        return Prefix(keys.prefix, values.prefix)
    return None


def puts_prefix(layer: Any, hook: Any) -> bool:
    """Tell whether a hook of a layer does nothing but put the layer's own prefix in place."""
    rows = getattr(hook, "rows", None)
    return rows is not None and rows is layer._parameters.get(NAME) and hook.first == 0
