"""Which T5 models can be computed by fused sub-layers, and their weights taken apart for that."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tunesmith.models.fused.encoder_decoder import Block, EncoderDecoder, Tower
from tunesmith.models.fused.layer import Norm
from tunesmith.models.fused.projection import Part, Projection, is_linear, read_part
from tunesmith.models.fused.sublayers import CrossAttention, FeedForward, SelfAttention


def read_encoder_decoder(model: Any, dtype: torch.dtype) -> EncoderDecoder | None:
    """Return a T5 as fused sub-layers, or None if it computes anything that they do not.

    Args:
        model: A transformers model, its linear layers possibly replaced by peft's LoRA.
        dtype: Number format of the computation.
    """
    config = model.config
    if (config.is_gated_act, config.dense_act_fn) not in ((False, "relu"), (True, "gelu_new")):
        return None
    rates = {module.p for module in model.modules() if isinstance(module, nn.Dropout)}
    head = model.get_output_embeddings()
    if rates - {config.dropout_rate} or not is_linear(head) or head.bias is not None:
        return None
    encoder, decoder = _read_tower(model.encoder, dtype, causal=False), _read_tower(model.decoder, dtype, causal=True)
    if encoder is None or decoder is None:
        return None
    scale = float(model.model_dim**-0.5) if getattr(config, "scale_decoder_outputs", False) else 1.0
    return EncoderDecoder(model, encoder, decoder, head.weight, scale, dtype)


def _read_tower(module: Any, dtype: torch.dtype, *, causal: bool) -> Tower | None:
    blocks = [_read_block(block, dtype) for block in module.block]
    norm = _read_norm(module.final_layer_norm)
    found = [block for block in blocks if block is not None]
    if norm is None or len(found) < len(blocks):
        return None
    return Tower(causal, tuple(found), norm, module.block[0].layer[0].SelfAttention)


def _read_norm(module: Any) -> Norm | None:
    if type(module).__name__ != "T5LayerNorm" or [n for n, _ in module.named_parameters()] != ["weight"]:
        return None
    return Norm(module.weight, float(module.variance_epsilon), own=True)


def _children(module: Any) -> set[str]:
    return {name for name, _ in module.named_children()} - {"dropout", "act", "relative_attention_bias"}


def _read_block(block: Any, dtype: torch.dtype) -> Block | None:
    """Return a layer, or None if any of its parts is not what it is in the plain family."""
    attention = _read_attention(block.layer[0], "SelfAttention")
    mlp = _read_mlp(block.layer[-1], dtype)
    if _children(block) != {"layer"} or len(block.layer) > 3 or attention is None or mlp is None:
        return None
    size, norm, (q, k, v, o) = attention
    own = SelfAttention(size, norm, Projection((q, k, v), dtype), Projection((o,), dtype))
    if len(block.layer) == 2:
        return Block(own, None, mlp)
    cross = _read_attention(block.layer[1], "EncDecAttention")
    if cross is None:
        return None
    size, norm, (q, k, v, o) = cross
    groups = (Projection(group, dtype) for group in ((q,), (k, v), (o,)))
    return Block(own, CrossAttention(size, norm, *groups), mlp)


def _read_attention(module: Any, name: str) -> tuple[int, Norm, list[Part]] | None:
    """Return the size of a head, the norm, and the four linear layers."""
    if _children(module) != {name, "layer_norm"} or _children(getattr(module, name)) != set("qkvo"):
        return None
    inner, norm = getattr(module, name), _read_norm(module.layer_norm)
    parts = _read_parts(inner, "qkvo")
    return None if norm is None or parts is None else (int(inner.key_value_proj_dim), norm, parts)


def _read_mlp(module: Any, dtype: torch.dtype) -> FeedForward | None:
    if _children(module) != {"DenseReluDense", "layer_norm"}:
        return None
    inner, norm = module.DenseReluDense, _read_norm(module.layer_norm)
    gated = "wi_0" in _children(inner)
    names = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
    parts = _read_parts(inner, names) if _children(inner) == set(names) else None
    if norm is None or parts is None:
        return None
    wide, narrow = Projection(parts[:-1], dtype), Projection(parts[-1:], dtype)
    return FeedForward("geglu" if gated else "relu", norm, wide, narrow)


def _read_parts(module: Any, names: Sequence[str]) -> list[Part] | None:
    """Return linear layers, or None if one of them computes something else."""
    found = [read_part(getattr(module, name)) for name in names]
    parts = [part for part in found if part is not None]
    return parts if len(parts) == len(found) else None
