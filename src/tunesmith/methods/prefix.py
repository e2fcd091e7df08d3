"""Prefix tuning: at every layer v keys and values learn that all tokens of the text may attend to.

Li and Liang 2021, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", arXiv 2101.00190. A prefix takes the
places of v virtual tokens: there the outputs of the key and value layers are replaced by what is learned, and nothing
else of these places is ever read.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunesmith.errors import RecipeError
from tunesmith.settings import Settings as Base

ABOUT = "learned keys and values at every layer (arXiv 2101.00190)"
ON_DISK = "adapter"  # in peft's format for causal models, in one of its own for encoder-decoders
NO_MERGE = "its keys and values stand beside those of the text, and no weight of the base stands for them."
RATES = {
    "causal": ((float("inf"), 1e-2),),
    "seq2seq": ((float("inf"), 1e-2),),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture."""
TRAIN = {"epochs": 6.0, "warmup": 0.1}
"""As for a soft prompt: more epochs and a longer warm-up than the other methods."""

PAIRS = (("k_proj", "v_proj"), ("k", "v"))  # names of the layers of keys and values


class Settings(Base):
    """What a prefix can be told."""

    tokens: int = Field(20, ge=1, description="v, how many keys and values each layer gets.")
    init: Literal["text", "random"] = Field(
        "text", description="Begin with the keys and values of the words of the task's template, or with noise."
    )


def key_value_layers(model: Any) -> list[tuple[Any, Any]]:
    """Return the key and the value layer of every self-attention of the decoder, the lowest first."""
    decoder = model.get_decoder() if model.config.is_encoder_decoder else model
    found = []
    for name, module in decoder.named_modules():
        if name.rpartition(".")[2] not in ("self_attn", "SelfAttention", "attention", "attn"):
            continue
        found += [(getattr(module, k), getattr(module, v)) for k, v in PAIRS if hasattr(module, k)]
    return found


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: tokens times the width of keys and of values, at every layer.

    Raises:
        RecipeError: More tokens than the context, or a model that makes its keys otherwise; all at once.
    """
    from tunesmith.methods.virtual import room_for

    problems = room_for("prefix", settings.tokens, model)
    layers = key_value_layers(model)
    if not layers:
        problems.append(
            "prefix: this model has no layers k_proj and v_proj (or k and v) in its self-attention. Take soft-prompt."
        )
    if problems:
        raise RecipeError(problems)
    return settings.tokens * int(sum(k.weight.shape[0] + v.weight.shape[0] for k, v in layers))


def saved(settings: Settings, model: Any) -> int:
    """Return how many numbers are written: for causal models the keys twice, as ``save`` says."""
    keys = settings.tokens * int(sum(k.weight.shape[0] for k, _ in key_value_layers(model)))
    return count(settings, model) + (0 if model.config.is_encoder_decoder else keys)


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Give every self-attention of the decoder a prefix that begins as small noise; ``begin`` gives it words.

    Args:
        settings: How many tokens.
        model: transformers model; its own weights are frozen.
        kind: "causal" or "seq2seq".
    """
    import torch

    from tunesmith.methods.virtual import Blank, Replacing, Spot, VirtualTokens, lead

    count(settings, model)
    model.requires_grad_(False)
    base = model.get_input_embeddings()
    rows = Blank(settings.tokens, base.weight.shape[1])
    if model.config.is_encoder_decoder:
        spot = Spot()
        lead(model.get_decoder(), rows, spot=spot)
    else:
        embedding = VirtualTokens(base, rows, tokens=settings.tokens)
        model.set_input_embeddings(embedding)
        spot = embedding.spot
    for layer in (layer for pair in key_value_layers(model) for layer in pair):
        start = torch.randn(settings.tokens, layer.weight.shape[0]) * 0.02
        layer.register_parameter("prefix", torch.nn.Parameter(start.to(layer.weight.device)))
        layer.register_forward_hook(Replacing(spot, layer.prefix))
    return model


def begin(settings: Settings, model: Any, *, tokenizer: Any, instructions: Any) -> None:
    """Let the prefix begin as the keys and values that the model has for the task's words.

    Args:
        settings: init.
        model: What ``attach`` returned.
        tokenizer: Of the model.
        instructions: Task -> the words of its template.
    """
    import torch

    from tunesmith.methods.virtual import words_to_begin_with

    text = "\n".join(dict.fromkeys(instructions.values()))
    ids = words_to_begin_with(tokenizer, text, tokens=settings.tokens)
    if settings.init == "random" or not ids:
        return
    made: dict[Any, Any] = {}
    layers = [layer for pair in key_value_layers(model) for layer in pair]
    hooks = [layer.register_forward_hook(lambda one, _, out: made.update({one: out})) for layer in layers]
    given = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        model(input_ids=given, **({"decoder_input_ids": given} if model.config.is_encoder_decoder else {}))
        for layer in layers:
            layer.prefix.copy_(made[layer][0, -settings.tokens :])
    for hook in hooks:
        hook.remove()


def save(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors.

    ``prompt_embeddings`` are keys and values as peft's prefix tuning keeps them: those that attention reads, the keys
    turned by the rotary embedding. ``keys`` are the same keys before that, from which the prefix is loaded again. For
    an encoder-decoder peft gives several layers the same prefix, so that its format cannot hold this one.
    """
    import torch
    from safetensors.torch import save_file

    keys = torch.stack([k.prefix.detach().float().cpu() for k, _ in key_value_layers(model)])
    values = torch.stack([v.prefix.detach().float().cpu() for _, v in key_value_layers(model)])
    if model.config.is_encoder_decoder:
        config = {"tunesmith_type": "prefix", "num_virtual_tokens": keys.shape[1]}
        (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        save_file({"keys": keys, "values": values}, folder / "adapter_model.safetensors")
        return
    read = _as_attention_reads_it(model)
    _peft_config(model, read).save_pretrained(folder)
    flat = torch.stack([part for pair in read for part in pair])  # (2 layers, K, v, D)
    table = flat.permute(2, 0, 1, 3).flatten(1).contiguous()
    save_file({"prompt_embeddings": table, "keys": keys}, folder / "adapter_model.safetensors")


def _as_attention_reads_it(model: Any) -> list[tuple[Any, Any]]:
    """Return keys and values of every layer, (K, v, D), as they are remembered after the virtual tokens were read."""
    import torch

    was_training = model.training
    model.eval()
    with torch.no_grad():
        ids = torch.tensor([model.get_input_embeddings().virtual[""]], device=model.device)
        memory = model(input_ids=ids, use_cache=True).past_key_values
    model.train(was_training)
    return [(layer.keys[0].float().cpu(), layer.values[0].float().cpu()) for layer in memory.layers]


def _peft_config(model: Any, read: list[tuple[Any, Any]]) -> Any:
    from peft import PrefixTuningConfig, TaskType

    heads, tokens, width = read[0][0].shape
    return PrefixTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=tokens,
        token_dim=heads * width,  # peft means that of the keys, which grouped queries share
        num_transformer_submodules=1,
        num_attention_heads=heads,
        num_layers=len(read),
        inference_mode=True,
    )


def load(model: Any, folder: Path) -> Any:
    """Put a saved prefix onto its base."""
    import torch

    keys, values = _saved(folder)
    model = attach(Settings(tokens=keys.shape[1]), model, "")
    with torch.no_grad():
        for (k, v), key, value in zip(key_value_layers(model), keys, values, strict=True):
            k.prefix.copy_(key)
            v.prefix.copy_(value)
    return model


def join(sharing: Any, number: int, folder: Path) -> None:
    """Put a saved prefix onto a base that other adapters share."""
    import torch

    from tunesmith.methods.virtual import Replacing

    keys, values = _saved(folder)
    layers = key_value_layers(sharing.model)
    blank = torch.zeros(keys.shape[1], sharing.tokens.weight.shape[1])
    if sharing.model.config.is_encoder_decoder:
        first = sharing.lead(number, blank)
        spot = sharing.leading.spot
    else:
        first = sharing.add_tokens(number, blank)
        spot = sharing.tokens.spot
    for pair, saved in zip(layers, zip(keys, values, strict=True), strict=True):
        for layer, rows in zip(pair, saved, strict=True):
            if layer.weight.shape[0] != rows.shape[1]:
                raise ValueError(f"its keys are {rows.shape[1]} wide, and those of the base {layer.weight.shape[0]}.")
            layer.register_forward_hook(Replacing(spot, rows.to(layer.weight.device), first))


def _saved(folder: Path) -> tuple[Any, Any]:
    """Return keys and values of a saved prefix, (layers, v, K * D) each."""
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    saved = load_file(folder / "adapter_model.safetensors")
    tokens, keys, values = config["num_virtual_tokens"], saved["keys"], saved.get("values")
    if values is None:
        values = saved["prompt_embeddings"].view(tokens, len(keys), 2, keys.shape[2])[:, :, 1].transpose(0, 1)
    return keys, values
