"""Attention over a ragged batch: several examples in one row of tokens, none of them padded.

A causal model gets one row of T tokens that holds its examples end to end, and positions that begin again at each
of them. Everything but attention treats tokens alike; attention runs for each example apart, so that no mask is
built and no token is spent on padding.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from tunesmith.models.fused.flash import attend_apart, takes_flash

NAME = "tunesmith_ragged"


def ragged_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Causal attention within each example.

    Args:
        module: The attention layer (unused; part of the interface of transformers).
        query: (1, H, T, D).
        key: (1, K, T, D) with K dividing H (grouped queries).
        value: (1, K, T, D).
        attention_mask: None; the lengths say all.
        options: ``segment_lengths`` (tokens of each example, summing to T), ``segment_ends`` (the same as
            ``fused.flash`` wants it, on the device), ``scaling``, ``sliding_window``, ``dropout``.

    Returns:
        (1, T, H, D), and no attention weights.
    """
    lengths: list[int] = options["segment_lengths"]
    window: int | None = options.get("sliding_window")
    plain = not window and not options.get("dropout")
    if plain and takes_flash(query.device, query.dtype, query.shape[-1]):
        q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
        return attend_apart(q, k, v, options["segment_ends"], scale=options.get("scaling"))[None], None
    common: dict[str, Any] = {
        "scale": options.get("scaling"),
        "dropout_p": options.get("dropout", 0.0),
        "enable_gqa": query.shape[1] != key.shape[1],
    }
    answers = []
    # One split per tensor: its backward joins the parts once, where slices would each fill a whole gradient.
    for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        mask = _window_mask(q.shape[2], window, q.device) if window and q.shape[2] > window else None
        answers.append(scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, **common))
    return torch.cat(answers, 2).transpose(1, 2).contiguous(), None


def _window_mask(length: int, window: int, device: torch.device) -> Tensor:
    ones = torch.ones(length, length, dtype=torch.bool, device=device)
    return ones.tril() & ones.triu(1 - window)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(NAME, ragged_attention)
AttentionMaskInterface.register(NAME, _no_mask)


def takes_ragged(model: Any) -> bool:
    """Tell whether a causal model's attention may be replaced: plain softmax(QK)V through the common interface."""
    config = model.config.get_text_config()
    odd = getattr(config, "attn_logit_softcapping", None) or (
        hasattr(config, "layer_types")
        and any(kind not in ("full_attention", "sliding_attention") for kind in config.layer_types or ())
    )
    return bool(getattr(model, "_supports_attention_backend", False)) and not odd and "gpt_oss" not in config.model_type


@contextmanager
def attending(model: Any, implementation: str) -> Iterator[None]:
    """Let ``model`` attend in another way inside the block: ``NAME`` for ragged rows, or one of transformers' own."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
