"""IA3: keys, values and the inner activations of the feed-forward layers are scaled, element by element.

Liu and others 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning", arXiv
2205.05638. The layers and the files are those of peft.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunesmith.environment import quiet_peft
from tunesmith.errors import RecipeError
from tunesmith.settings import Settings as Base

ABOUT = "scales of keys, values and inner activations (arXiv 2205.05638)"
ON_DISK = "adapter"  # a folder in peft's format
RATES = {
    "causal": ((float("inf"), 1e-2),),
    "seq2seq": ((float("inf"), 1e-2),),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture."""
TRAIN = {"epochs": 6.0}
"""So few parameters learn slowly."""

OUTPUTS = ("k_proj", "v_proj", "k", "v", "key", "value", "query_key_value", "qkv_proj", "Wqkv")
"""Layers whose outputs are scaled; where one makes queries, keys and values, those of all three."""
INPUTS = ("down_proj", "wo", "fc2", "fc_out", "dense_4h_to_h", "w2")  # layers whose inputs are scaled


class Settings(Base):
    """What IA3 can be told."""

    outputs: tuple[str, ...] | Literal["auto"] = Field(
        "auto", description="Names of linear layers whose outputs are scaled; auto: those of keys and values."
    )
    inputs: tuple[str, ...] | Literal["auto"] = Field(
        "auto", description="Names of linear layers whose inputs are scaled; auto: the last of each feed-forward block."
    )


def scaled_layers(settings: Settings, model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return name -> layer for the layers whose outputs are scaled, and for those whose inputs are.

    Raises:
        RecipeError: A name that no layer has, or one in both lists; all at once.
    """
    from torch.nn import Linear

    head = model.get_output_embeddings()
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear) and layer is not head}
    if not linear:  # GPT-2 has Conv1D, under one name in attention and in feed-forward blocks
        raise RecipeError(f"ia3: this model ({type(model).__name__}) has no linear layers to scale. Take lora.")
    ends = sorted({name.split(".")[-1] for name in linear})
    problems: list[str] = []
    found: list[dict[str, Any]] = []
    for part, wanted, usual in (("outputs", settings.outputs, OUTPUTS), ("inputs", settings.inputs, INPUTS)):
        names = usual if wanted == "auto" else wanted
        chosen = {name: layer for name, layer in linear.items() if name.split(".")[-1] in names}
        found.append(chosen)
        unknown = () if wanted == "auto" else [name for name in wanted if name not in ends]
        problems += [
            f'ia3: {part}: no linear layer is called "{name}"; this model has {", ".join(ends)}.' for name in unknown
        ]
        if wanted == "auto" and not chosen:
            problems.append(f"ia3: {part}: auto finds no layer; name some of {', '.join(ends)}.")
    outputs, inputs = found
    if twice := sorted({name.split(".")[-1] for name in outputs.keys() & inputs.keys()}):
        problems.append(f"ia3: {', '.join(twice)} cannot be in outputs and in inputs. Delete one of the two.")
    if not outputs and not inputs and not problems:
        problems.append("ia3: outputs and inputs are empty, nothing would learn. Name a layer, or delete them.")
    if problems:
        raise RecipeError(problems)
    return outputs, inputs


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: one for each output, or input, of the chosen layers."""
    outputs, inputs = scaled_layers(settings, model)
    sizes = [layer.weight.shape[0] for layer in outputs.values()] + [layer.weight.shape[1] for layer in inputs.values()]
    return int(sum(sizes))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Wrap the chosen layers with peft's IA3; all scales start at one, so that nothing changes before training.

    Args:
        settings: Names of layers.
        model: transformers model; its own weights are frozen.
        kind: "causal" or "seq2seq".
    """
    from peft import IA3Config, TaskType, get_peft_model

    outputs, inputs = ({name.split(".")[-1] for name in part} for part in scaled_layers(settings, model))
    config = IA3Config(
        target_modules=sorted(outputs | inputs),
        feedforward_modules=sorted(inputs),
        task_type=TaskType.SEQ_2_SEQ_LM if kind == "seq2seq" else TaskType.CAUSAL_LM,
    )
    with quiet_peft():
        return get_peft_model(model, config)


def base_values(model: Any, base: Callable[[], Any]) -> dict[str, Any]:
    """Return ones for every scale."""
    return {name: weight.new_ones(weight.shape) for name, weight in model.named_parameters() if "ia3_l" in name}


def save(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, which plain peft loads."""
    model.save_pretrained(folder)


def load(model: Any, folder: Path) -> Any:
    """Put a saved adapter onto its base, as plain peft would."""
    from peft import PeftModel

    with quiet_peft():
        return PeftModel.from_pretrained(model, folder)


def join(sharing: Any, number: int, folder: Path) -> None:
    """Put a saved adapter onto a base that others share.

    Raises:
        ValueError: A scale is not of the size of its layer.
    """
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    for name, scale in load_file(folder / "adapter_model.safetensors").items():
        layer = name.removeprefix("base_model.model.").removesuffix(".ia3_l")
        own = scale.flatten().to(sharing.tokens.rows.device)
        of_input = layer.rpartition(".")[2] in config["feedforward_modules"]
        size = sharing.layer(layer).in_features if of_input else sharing.layer(layer).out_features
        if len(own) != size:
            raise ValueError(f"{layer} has {size} features, and its scale {len(own)}.")
        if of_input:
            sharing.before(layer, number, own.__mul__)
        else:
            sharing.after(layer, number, lambda read, written, own=own: written * own)


def merge(model: Any) -> Any:
    """Multiply every scale into its layer and return the plain model."""
    return model.merge_and_unload()
