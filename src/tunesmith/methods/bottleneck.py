"""Bottleneck adapters: after, or beside, attention and feed-forward stands a narrow network that learns.

Serial: Houlsby and others 2019, "Parameter-Efficient Transfer Learning for NLP", arXiv 1902.00751. Parallel: He and
others 2021, "Towards a Unified View of Parameter-Efficient Transfer Learning", arXiv 2110.04366. peft has no such
layers, so layers and file are our own.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunesmith.errors import RecipeError
from tunesmith.settings import Settings as Base

ABOUT = "narrow networks after or beside the layers (arXiv 1902.00751, 2110.04366)"
ON_DISK = "adapter"
NO_MERGE = "between its two matrices is an activation, and no matrix of the base does the same."
IN_PEFT = False  # in a format of its own
RATES = {
    "causal": ((3e8, 1e-3), (2e9, 5e-4), (float("inf"), 2e-4)),
    "seq2seq": ((1e9, 1e-3), (float("inf"), 5e-4)),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture."""

BLOCKS = {"attention": ("self_attn", "SelfAttention"), "feed-forward": ("mlp", "DenseReluDense")}
"""Part of a layer -> what models call it."""


class Settings(Base):
    """What bottleneck adapters can be told."""

    width: int = Field(64, ge=1, description="m, of the narrow place.")
    place: Literal["serial", "parallel"] = Field(
        "serial", description="serial: it reads what its block writes. parallel: it reads what its block reads."
    )
    blocks: Literal["both", "attention", "feed-forward"] = Field("both", description="Which blocks get one.")
    activation: Literal["relu", "gelu", "silu", "tanh"] = Field("relu", description="In the narrow place.")


def size(width: int, outer: int) -> int:
    """Return the parameters of one adapter: a matrix and a bias down, a matrix and a bias up.

    >>> size(64, 576)
    74368
    """
    return outer * width + width + width * outer + outer


def blocks(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> block for every block that gets an adapter.

    Raises:
        RecipeError: The model has no block of that kind, or none that we know, or a narrow place that is not narrow.
    """
    wanted = ("attention", "feed-forward") if settings.blocks == "both" else (settings.blocks,)
    problems: list[str] = []
    found: dict[str, Any] = {}
    for part in wanted:
        own = {name: block for name, block in model.named_modules() if name.split(".")[-1] in BLOCKS[part]}
        found.update(own)
        if not own:
            problems.append(
                f"bottleneck: this model has no {part} block that is called {' or '.join(BLOCKS[part])}. Take lora."
            )
    outer = _outer(model)
    if settings.width >= outer:
        problems.append(
            f"bottleneck: width {settings.width} is not narrower than the model, which is {outer} wide. Lower it."
        )
    if problems:
        raise RecipeError(problems)
    return found


def _outer(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[1])


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn, by the closed formula."""
    return len(blocks(settings, model)) * size(settings.width, _outer(model))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Put an adapter to every chosen block; the matrix up starts at zero, so that nothing changes before training.

    Args:
        settings: Width, place, blocks and activation.
        model: transformers model; its own weights are frozen.
        kind: "causal" or "seq2seq".
    """
    from torch.nn.init import zeros_

    chosen, outer = blocks(settings, model), _outer(model)
    model.requires_grad_(False)
    for block in chosen.values():
        adapter = _narrow(settings, outer)
        zeros_(adapter.up.weight)
        zeros_(adapter.up.bias)
        block.add_module("bottleneck", adapter.to(next(block.parameters()).device))
        block.register_forward_hook(_serial if settings.place == "serial" else _parallel, with_kwargs=True)
    model.bottleneck = settings.model_dump()
    return model


def _narrow(settings: Settings, outer: int) -> Any:
    """Return the network of one block."""
    from collections import OrderedDict

    from torch.nn import Linear, Sequential
    from transformers.activations import ACT2FN

    down, up = Linear(outer, settings.width), Linear(settings.width, outer)
    return Sequential(OrderedDict(down=down, activation=ACT2FN[settings.activation], up=up))


def _serial(block: Any, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> Any:
    return _added(block, output[0] if isinstance(output, tuple) else output, output)


def _parallel(block: Any, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> Any:
    return _added(block, args[0] if args else given["hidden_states"], output)


def _added(block: Any, read: Any, output: Any) -> Any:
    """Add what the adapter makes of ``read`` to what a block wrote: a tensor, or a tuple that begins with it."""
    change = block.bottleneck(read.to(block.bottleneck.up.weight.dtype))
    if isinstance(output, tuple):
        return (output[0] + change.to(output[0].dtype), *output[1:])
    return output + change.to(output.dtype)


def save(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors in our own format; peft has none for it."""
    from safetensors.torch import save_file

    config = {"tunesmith_type": "bottleneck", **model.bottleneck}
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    weights = {name: weight for name, weight in model.state_dict().items() if ".bottleneck." in name}
    save_file(
        {name: weight.float().contiguous().clone() for name, weight in weights.items()},
        folder / "adapter_model.safetensors",
    )


def load(model: Any, folder: Path) -> Any:
    """Put saved adapters onto their base."""
    import torch

    settings, weights = _saved(folder)
    model = attach(settings, model, "")
    own = {name: weight for name, weight in model.named_parameters() if ".bottleneck." in name}
    if own.keys() != weights.keys():
        raise KeyError(f"{sorted(own.keys() ^ weights.keys())[0]} is only on one side")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(weights[name])
    return model


def join(sharing: Any, number: int, folder: Path) -> None:
    """Put saved adapters onto a base that others share."""
    settings, weights = _saved(folder)
    serial, outer = settings.place == "serial", _outer(sharing.model)
    for name in blocks(settings, sharing.model):
        own = {key: weights.pop(key) for key in list(weights) if key.startswith(f"{name}.bottleneck.")}
        network = _narrow(settings, outer).to(sharing.tokens.rows.device)
        network.load_state_dict({key.rpartition(".bottleneck.")[2]: weight for key, weight in own.items()})
        sharing.after(name, number, _change(network.requires_grad_(False), serial=serial))
    if weights:
        raise ValueError(f"{next(iter(weights))} belongs to no block of the base.")


def _change(network: Any, *, serial: bool) -> Any:
    def change(read: Any, written: Any) -> Any:
        given = written if serial else read
        return written + network(given.to(network.up.weight.dtype)).to(written.dtype)

    return change


def _saved(folder: Path) -> tuple[Settings, dict[str, Any]]:
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    settings = Settings(**{name: config[name] for name in Settings.model_fields})
    return settings, load_file(folder / "adapter_model.safetensors")
