"""LoRA: each chosen linear layer W gets a low-rank correction, W + (alpha / r) B A, and W stays frozen.

Hu and others 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685. Three switches: rsLoRA
scales by alpha / sqrt(r) (Kalajdzievski 2023, arXiv 2312.03732); DoRA learns the length of every row of the corrected
matrix apart from its direction (Liu and others 2024, arXiv 2402.09353); PiSSA starts A and B at the largest singular
values of W, and W at what is left (Meng and others 2024, arXiv 2404.02948). The layers and the files are those of peft.
"""

import json
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunesmith.environment import quiet_peft
from tunesmith.errors import RecipeError
from tunesmith.settings import Settings as Base

ABOUT = "low-rank corrections beside frozen linear layers (arXiv 2106.09685)"
ON_DISK = "adapter"  # a folder in peft's format
RATES = {
    "causal": ((3e8, 5e-4), (2e9, 3e-4), (1e10, 2e-4), (float("inf"), 1e-4)),
    "seq2seq": ((1e9, 1e-3), (float("inf"), 5e-4)),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture."""


class LowRank(Base):
    """What low-rank corrections can be told, whatever the base is stored in."""

    rank: int = Field(16, ge=1, le=1024, description="r, the inner width of the correction.")
    alpha: float | None = Field(
        None, gt=0, description="Scale is alpha / rank; None: twice the rank, and 8 with rslora."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the input of A, while training.")
    targets: tuple[str, ...] | Literal["all-linear", "attention"] = Field(
        "all-linear", description="Names of the linear layers; all-linear leaves out the output head."
    )
    rslora: bool = Field(False, description="Scale by alpha / sqrt(rank), which suits high ranks.")
    dora: bool = Field(False, description="Also learn the length of each row of the corrected matrix.")


class Settings(LowRank):
    """What LoRA can be told."""

    init: Literal["default", "pissa"] = Field(
        "default", description="default: B is zero. pissa: A and B begin as the largest singular values of W."
    )


def rate_share(settings: Settings) -> float:
    """Return what part of the rate above is right with these settings.

    PiSSA moves the largest singular values of W from the first step on, where others move zeros: with the whole rate
    SmolLM2-135M learned its examples by heart (benchmarks/rates.py).
    """
    return 0.2 if settings.init == "pissa" else 1.0


ATTENTION = (
    "q_proj", "k_proj", "v_proj", "o_proj", "out_proj", "q", "k", "v", "o", "qkv_proj", "Wqkv", "c_attn",
    "query_key_value", "dense",
)  # fmt: skip
"""What models call the projections of attention. GPT-2's c_proj is none: its feed-forward blocks have one too."""


def size(rows: int, columns: int, rank: int, *, dora: bool = False) -> int:
    """Return the parameters of one correction: A is (rank, columns), B is (rows, rank); DoRA has a length for each row.

    The lecture's example, a 512 x 64 layer at rank 8:

    >>> 512 * 64, size(512, 64, 8), round(100 * size(512, 64, 8) / (512 * 64) - 100)
    (32768, 4608, -86)
    """
    return rank * (rows + columns) + (rows if dora else 0)


def sides(layer: Any) -> tuple[int, int]:
    """Return rows and columns of W in a linear layer: features of the output and of the input.

    The weight does not tell: that of a quantised layer is packed, and Conv1D keeps the transpose.
    """
    if transposed(layer):
        return layer.nf, layer.nx
    return layer.out_features, layer.in_features


def transposed(layer: Any) -> bool:
    """Tell whether a layer is a Conv1D, by which GPT-2 and its kin call a linear layer."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def target_layers(settings: LowRank, model: Any) -> dict[str, Any]:
    """Return name -> linear layer for every layer that gets a correction.

    Raises:
        RecipeError: A target that no layer matches, or a rank above the smaller side of a layer; all at once.
    """
    from torch.nn import Linear

    head = model.get_output_embeddings()
    linear = {
        name: layer for name, layer in model.named_modules()
        if (isinstance(layer, Linear) or transposed(layer)) and layer is not head
    }  # fmt: skip
    if not linear:
        raise RecipeError(f"lora: this model ({type(model).__name__}) has no linear layers. Take modules.")
    wanted: tuple[str, ...] | None = None
    if settings.targets == "attention":
        wanted = ATTENTION
    elif settings.targets != "all-linear":
        wanted = settings.targets
    chosen = linear if wanted is None else {n: layer for n, layer in linear.items() if n.split(".")[-1] in wanted}
    problems = []
    ends = sorted({name.split(".")[-1] for name in linear})
    for target in wanted or ():
        if wanted is not ATTENTION and target not in ends:
            problems.append(f'lora: no linear layer is called "{target}"; this model has {", ".join(ends)}.')
    if not chosen and not problems:
        problems.append(f"lora: no layer fits targets: {settings.targets}; this model has {', '.join(ends)}.")
    small = {name: sides(layer) for name, layer in chosen.items() if min(sides(layer)) < settings.rank}
    if small:
        name, (rows, columns) = next(iter(small.items()))
        problems.append(
            f"lora: rank {settings.rank} is larger than the layer {name} ({rows} x {columns}), and {len(small) - 1} "
            f"more. Take a rank of at most {min(map(min, small.values()))}."
        )
    if problems:
        raise RecipeError(problems)
    return chosen


def count(settings: LowRank, model: Any) -> int:
    """Return how many parameters learn, by the closed formula."""
    layers = target_layers(settings, model).values()
    return sum(size(*sides(one), settings.rank, dora=settings.dora) for one in layers)


def saved(settings: LowRank, model: Any) -> int:
    """Return how many numbers are written: with PiSSA twice A and B, as ``save`` says."""
    found = count(settings, model)
    if getattr(settings, "init", "default") == "default":
        return found
    rows = sum(one.out_features for one in target_layers(settings, model).values()) if settings.dora else 0
    return 2 * found - rows


def attach(settings: LowRank, model: Any, kind: str) -> Any:
    """Wrap the chosen layers with peft's LoRA; nothing changes before training, up to rounding.

    With the default start B is zero, and the output is that of the base to the last bit unless ``dora`` divides and
    multiplies by the length of each row. With PiSSA the layers keep what A and B do not hold.

    Args:
        settings: Rank, alpha, dropout, targets, and the switches.
        model: transformers model; its own weights are frozen.
        kind: "causal" or "seq2seq".
    """
    from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict

    chosen = target_layers(settings, model)
    pissa = isinstance(settings, Settings) and settings.init == "pissa"
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or (8 if settings.rslora else 2 * settings.rank),
        lora_dropout=settings.dropout,
        target_modules=sorted({name.split(".")[-1] for name in chosen}),
        fan_in_fan_out=any(map(transposed, chosen.values())),  # peft's word for it
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        init_lora_weights="pissa" if pissa else True,
        task_type=TaskType.SEQ_2_SEQ_LM if kind == "seq2seq" else TaskType.CAUSAL_LM,
    )
    with quiet_peft():
        attached = get_peft_model(model, config)
    if pissa:
        attached.start = {name: weight.clone() for name, weight in get_peft_model_state_dict(attached).items()}
    return attached


def averages(settings: LowRank) -> bool:
    """Tell whether a smaller correction is the average of base and tuned, and can be written as one of this rank.

    DoRA divides by the length of the rows, which is not linear; what PiSSA learned is the difference of two products.
    """
    return not settings.dora and getattr(settings, "init", "default") == "default"


def base_values(model: Any, base: Callable[[], Any]) -> dict[str, Any]:
    """Return zeros for every B: the correction is linear in B, and A may stay."""
    return {name: weight.new_zeros(weight.shape) for name, weight in model.named_parameters() if "lora_B" in name}


def save(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, which plain peft loads onto the base as it is.

    PiSSA has changed the base: W = W' + s B0 A0, where s is the scale. What was learned is then written as a plain
    LoRA of twice the rank, s (B A - B0 A0) = s [B, -B0] [A; A0], so that it fits the base that everybody has.
    """
    start = getattr(model, "start", None)
    if start is None:
        model.save_pretrained(folder)
        return
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file
    from torch import cat

    learned = get_peft_model_state_dict(model)
    for name in learned:
        if "lora_A" in name:
            learned[name] = cat([learned[name], start[name]], 0)
        elif "lora_B" in name:
            learned[name] = cat([learned[name], -start[name]], 1)
    config = copy(model.peft_config["default"])
    config.r, config.init_lora_weights, config.inference_mode = 2 * config.r, True, True
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2  # the scale stays what it was
    save_file({name: weight.contiguous() for name, weight in learned.items()}, folder / "adapter_model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    config.save_pretrained(folder)


def load(model: Any, folder: Path) -> Any:
    """Put a saved adapter onto its base, as plain peft would."""
    from peft import PeftModel

    with quiet_peft():
        return PeftModel.from_pretrained(model, folder)


def join(sharing: Any, number: int, folder: Path) -> None:
    """Put a saved adapter onto a base that others share.

    Raises:
        ValueError: It holds more than the corrections of linear layers.
    """
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if odd := [name for name in ("rank_pattern", "alpha_pattern", "modules_to_save") if config.get(name)]:
        raise ValueError(f"it has {', '.join(odd)}, which adapters that share a base cannot have.")
    layers: dict[str, dict[str, Any]] = {}
    for name, weight in load_file(folder / "adapter_model.safetensors").items():
        layer, _, part = name.removeprefix("base_model.model.").partition(".lora_")
        layers.setdefault(layer, {})[part.removesuffix(".weight")] = weight.to(sharing.tokens.rows.device)
    for layer, parts in layers.items():
        if {"A", "B"} != parts.keys() - {"magnitude_vector"}:
            raise ValueError(f"{layer} has {', '.join(sorted(parts))} in place of A and B.")
        rank = len(parts["A"])
        scale = config["lora_alpha"] / (rank**0.5 if config.get("use_rslora") else rank)
        sharing.after(layer, number, _change(sharing.layer(layer), parts, scale))


def _change(layer: Any, parts: dict[str, Any], scale: float) -> Any:
    """Return what the correction of one layer does to its output.

    Raises:
        ValueError: It is not of the size of the layer.
    """
    from torch.nn.functional import linear

    a, b = parts["A"], parts["B"] * scale
    rows, columns = sides(layer)
    if (len(b), a.shape[1]) != (rows, columns):
        raise ValueError(f"a correction is {len(b)} x {a.shape[1]}, its layer {rows} x {columns}.")
    if "magnitude_vector" not in parts:
        return lambda read, written: written + linear(linear(read.to(a.dtype), a), b)
    from peft.utils.integrations import dequantize_module_weight

    weight = dequantize_module_weight(layer).float()
    lengths = ((weight.T if transposed(layer) else weight) + b @ a).norm(dim=1)
    factor, bias = parts["magnitude_vector"] / lengths, 0 if layer.bias is None else layer.bias
    return lambda read, written: (written - bias + linear(linear(read.to(a.dtype), a), b)) * factor + bias


def merge(model: Any) -> Any:
    """Add every correction into its layer and return the plain model."""
    return model.merge_and_unload()
