"""What answers are written with: attention of one new token to what was remembered, and the choice of the next one.

As in ``kernels.py``, attention has two forms with equal results up to rounding: compiled C++ (``answering.cpp``), and
torch.
"""

from ctypes import c_float, c_long
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.models.fused.calling import compiled, rows_at, start


@dataclass(frozen=True, slots=True)
class Remembered:
    """What one layer remembers: first what all slots share, then the positions of each."""

    keys: Tensor  # (K, positions, D), contiguous
    values: Tensor  # the same
    starts: Tensor  # (slots,) int64, where the own positions of a slot begin
    lengths: Tensor  # (slots,) int64, at least 1: how many of them it has written
    prefix: int = 0  # positions that stand before those of every slot


def keep(made: Tensor, places: Tensor, keys: Tensor, values: Tensor) -> None:
    """Write new keys and values to their positions.

    Args:
        made: (tokens, 2 * K * D): the keys of all heads, then the values.
        places: (tokens,) int64, a position for each.
        keys: (K, positions, D), contiguous; is changed.
        values: The same.
    """
    if run := compiled("keep", made, keys, values):
        sizes = map(c_long, (len(made), *keys.shape))
        run(*rows_at(made), start(places), start(keys), start(values), *sizes)
    else:
        new = made.unflatten(1, (2, len(keys), -1)).permute(1, 2, 0, 3)
        keys[:, places], values[:, places] = new[0], new[1]


def remember(query: Tensor, kept: Remembered, *, scale: float, out: Tensor) -> None:
    """Write the attention of one new token per slot over what its slot remembers into ``out``.

    Args:
        query: (slots, H * D); K divides H.
        kept: Keys and values.
        scale: Of the products.
        out: (slots, H * D).
    """
    shared, positions, size = kept.keys.shape
    if run := compiled("remember", query, kept.keys, kept.values, out):
        sizes = map(c_long, (len(query), query.shape[1] // size, shared, positions, size))
        places = map(start, (kept.keys, kept.values, kept.starts, kept.lengths))
        run(*rows_at(query), *places, c_long(kept.prefix), *rows_at(out), c_float(scale), *sizes)
    else:
        _remember(query.unflatten(1, (shared, -1, size)), kept, scale=scale, out=out)


def _remember(query: Tensor, kept: Remembered, *, scale: float, out: Tensor) -> None:
    """Do what ``remember`` does; query: (slots, K, H / K, D)."""
    within = torch.arange(kept.prefix + int(kept.lengths.max()), device=query.device)
    own = (kept.starts[:, None] + within - kept.prefix).clamp(max=kept.keys.shape[1] - 1)
    at = torch.where(within < kept.prefix, within, own)
    unseen = within >= kept.prefix + kept.lengths[:, None]
    wide = torch.promote_types(query.dtype, torch.float32)
    keys, values = (part[:, at].transpose(0, 1).to(wide) for part in (kept.keys, kept.values))
    scores = (query.to(wide) @ keys.transpose(2, 3)).mul_(scale)
    scores.masked_fill_(unseen[:, None, None], -torch.inf)
    out.copy_((scores.softmax(-1) @ values).flatten(1))


def likeliest(logits: Tensor) -> Tensor:
    """Return the place of the highest number of each row, (rows,) int64; the first of several.

    Args:
        logits: (rows, n) with n at least 1. Of a row in which something is no number, any place is told.
    """
    if run := compiled("highest", logits):
        found = torch.empty(len(logits), dtype=torch.int64)
        run(*rows_at(logits), start(found), *map(c_long, logits.shape))
        return found
    return logits.argmax(-1)
