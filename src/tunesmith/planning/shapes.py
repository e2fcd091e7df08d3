"""What a model is made of, as far as memory and time depend on it."""

from dataclasses import dataclass
from typing import Any

STACKS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers", "n_layer")
"""Fields of a config that hold a number of layers."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers on top of each other: a causal model, an encoder or a decoder."""

    layers: int
    parameters: int  # of all of them


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a model."""

    kind: str  # "causal" or "seq2seq"
    stacks: tuple[Stack, ...]  # one, or encoder and decoder
    width: int
    vocabulary: int
    attention: int  # heads x size of a head
    keys: int  # heads of keys and values x size of a head
    total: int  # parameters, tied ones once
    context: int  # tokens; 0 = no limit
    ragged: bool  # whether examples lie end to end in one row
    own: bool = False  # whether ``inference.decode`` writes the greedy answers; of an encoder-decoder: on fused layers


def shape_of(model: Any) -> Shape:
    """Measure a transformers model; one without weights will do."""
    from torch.nn import ModuleList

    from tunesmith.models.attention import takes_ragged
    from tunesmith.models.fused.packing import takes_fused

    config = model.config.get_text_config()
    two = bool(model.config.is_encoder_decoder)
    stacks = []
    for part in (model.get_encoder(), model.get_decoder()) if two else (model,):
        lists = [module for module in part.modules() if isinstance(module, ModuleList)]
        found = max(lists, key=lambda module: sum(parameter.numel() for parameter in module.parameters()))
        stacks.append(Stack(len(found), sum(parameter.numel() for parameter in found.parameters())))
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    return Shape(
        kind="seq2seq" if two else "causal",
        stacks=tuple(stacks),
        width=config.hidden_size,
        vocabulary=config.vocab_size,
        attention=heads * head,
        keys=(getattr(config, "num_key_value_heads", None) or heads) * head,
        total=sum(parameter.numel() for parameter in model.parameters()),
        context=int(getattr(model.config, "max_position_embeddings", 0) or 0),
        ragged=not two and takes_ragged(model),
        own=takes_fused(model) if two else takes_ragged(model),
    )


def shorten(config: Any, layers: int) -> None:
    """Leave at most so many layers in a config, of the encoder and of the decoder alike."""
    inner = config.get_text_config()
    for name in STACKS:
        if isinstance(getattr(inner, name, None), int):
            setattr(inner, name, min(layers, getattr(inner, name)))
    if getattr(inner, "layer_types", None):
        inner.layer_types = inner.layer_types[:layers]
