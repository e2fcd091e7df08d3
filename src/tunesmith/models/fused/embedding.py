"""Embeddings of tokens, with a gradient that is added to the rows of these tokens alone.

Autograd would fill a table of all words with zeros for each batch, and add all of it to what is there: of 49,152 words
and a batch of a thousand tokens nearly all is nothing.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.fused.adding import left_by_earlier


def embedded(embedding: Any, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the embeddings of tokens, (T, width).

    Args:
        embedding: A module that does this; if it is more than a table, it does it by itself.
        ids: (T,).
        dtype: Of the result.
    """
    plain = type(embedding) is nn.Embedding and not (
        embedding.sparse or embedding.scale_grad_by_freq or embedding.max_norm is not None
    )
    learns = plain and embedding.weight.requires_grad and torch.is_grad_enabled()
    if learns and ids.device.type == "cpu":  # a card would add in any order, and be different each time
        run: Any = _Rows.apply
        found: Tensor = run(embedding.weight, ids, embedding.padding_idx)
    else:
        found = embedding(ids[None])[0]
    return found.to(dtype)


class _Rows(torch.autograd.Function):
    """Rows of a table; that of padding learns nothing."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, padding: int | None) -> Tensor:
        ctx.given = weight, ids, padding
        return weight.detach()[ids]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, None]:
        (dy,), (weight, ids, padding) = gradients, ctx.given
        if padding is not None:
            real = (ids != padding).nonzero().squeeze(1)
            ids, dy = ids[real], dy[real]
        there = left_by_earlier(weight)
        found = (torch.zeros_like(weight) if there is None else there).index_add_(0, ids, dy)
        return (found if there is None else None), None, None
