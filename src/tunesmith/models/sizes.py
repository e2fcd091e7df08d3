"""How large a model is, read from the headers of its files, without loading it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how much a model computes for a token."""

    encoder: int  # parameters that read the prompt alone; 0 in a causal model
    decoder: int  # all others
    width: int  # heads x head size, of one attention layer
    layers: int  # of the decoder


def shape_of(folder: Path, config: Any) -> Shape:
    """Return the shape of a model from the headers of its files and its config."""
    whole, encoder = parameters_on_disk(folder), parameters_on_disk(folder, part="encoder")
    heads = int(getattr(config, "num_attention_heads", 0) or 0)
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None)
    width = heads * int(size) if size else int(getattr(config, "hidden_size", 0) or 0)
    layers = getattr(config, "num_decoder_layers", None) or getattr(config, "num_hidden_layers", 0)
    return Shape(encoder, whole - encoder, width, int(layers or 0))


def depth_and_width(config: Any) -> tuple[int, int]:
    """Return the layers of a model, of encoder and decoder together, and the width of its hidden states."""
    inner = config.get_text_config()
    layers = int(inner.num_hidden_layers)
    if config.is_encoder_decoder:
        names = ("num_decoder_layers", "decoder_layers")
        layers += next((int(found) for name in names if (found := getattr(inner, name, None))), layers)
    return layers, int(inner.hidden_size)


def forward_flops(shape: Shape, lengths: Sequence[tuple[int, int]]) -> float:
    """Return the floating point operations of answering, by formula: two for each parameter and token, and attention.

    A token at place s of a text costs 2 N + 4 s w L: N parameters, attention of width w in L layers. Nothing is taken
    off for what prompts share or for an output head that is left out while a prompt is read, and nothing added for
    padding, for choices that are ranked, and for an adapter that was not merged. Source: J. Kaplan et al., "Scaling
    laws for neural language models", arXiv 2001.08361.

    Args:
        shape: From ``shape_of``.
        lengths: Tokens of prompt and of answer, for each answer.
    """
    total = 0.0
    for prompt, answer in lengths:
        read = prompt if shape.encoder else 0  # by the encoder
        own = answer if shape.encoder else prompt + answer
        attended = 2 * own * (own + 1) + (2 * read * (read + 1) + 4 * own * read if read else 0)
        total += 2.0 * (shape.encoder * read + shape.decoder * own) + attended * shape.width * shape.layers
    return total


def parameters_on_disk(folder: Path, *, part: str = "") -> int:
    """Return the number of values in the safetensors files of a folder; tied weights are stored once.

    Args:
        folder: Of a model.
        part: Count only weights with this word among the parts of their names.
    """
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            names = [name for name in file.keys() if not part or part in name.split(".")]  # noqa: SIM118
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
    return total
