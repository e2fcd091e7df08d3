"""LoRA: each chosen linear layer W gets a low-rank correction, W + (alpha / r) B A, and W stays frozen.

Hu and others 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685. The layers and the
files are those of peft.
"""

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


class Settings(Base):
    """What LoRA can be told."""

    rank: int = Field(16, ge=1, le=1024, description="r, the inner width of the correction.")
    alpha: float | None = Field(None, gt=0, description="Scale is alpha / rank; None: twice the rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the input of A, while training.")
    targets: tuple[str, ...] | Literal["all-linear", "attention"] = Field(
        "all-linear", description="Names of the linear layers; all-linear leaves out the output head."
    )


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "q", "k", "v", "o", "c_attn", "query_key_value", "dense")


def size(rows: int, columns: int, rank: int) -> int:
    """Return the parameters of one correction: A is (rank, columns), B is (rows, rank).

    The lecture's example, a 512 x 64 layer at rank 8:

    >>> 512 * 64, size(512, 64, 8), round(100 * size(512, 64, 8) / (512 * 64) - 100)
    (32768, 4608, -86)
    """
    return rank * (rows + columns)


def target_layers(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> linear layer for every layer that gets a correction.

    Raises:
        RecipeError: A target that no layer matches, or a rank above the smaller side of a layer; all at once.
    """
    from torch.nn import Linear

    head = model.get_output_embeddings()
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear) and layer is not head}
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
    small = [(n, layer) for n, layer in chosen.items() if min(layer.weight.shape) < settings.rank]
    if small:
        name, layer = small[0]
        problems.append(
            f"lora: rank {settings.rank} is larger than the layer {name} ({layer.weight.shape[0]} x "
            f"{layer.weight.shape[1]}), and {len(small) - 1} more. Take a rank of at most "
            f"{min(min(layer.weight.shape) for _, layer in small)}."
        )
    if problems:
        raise RecipeError(problems)
    return chosen


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn, by the closed formula."""
    shapes = (layer.weight.shape for layer in target_layers(settings, model).values())
    return sum(size(rows, columns, settings.rank) for rows, columns in shapes)


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Wrap the chosen layers with peft's LoRA; B starts at zero, so that nothing changes before training.

    Args:
        settings: Rank, alpha, dropout, targets.
        model: transformers model; its own weights are frozen.
        kind: "causal" or "seq2seq".
    """
    from peft import LoraConfig, TaskType, get_peft_model

    names = sorted({name.split(".")[-1] for name in target_layers(settings, model)})
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha or 2 * settings.rank,
        lora_dropout=settings.dropout,
        target_modules=names,
        task_type=TaskType.SEQ_2_SEQ_LM if kind == "seq2seq" else TaskType.CAUSAL_LM,
    )
    with quiet_peft():
        return get_peft_model(model, config)


def save(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, which plain peft loads."""
    model.save_pretrained(folder)


def load(model: Any, folder: Path) -> Any:
    """Put a saved adapter onto its base, as plain peft would."""
    from peft import PeftModel

    with quiet_peft():
        return PeftModel.from_pretrained(model, folder)


def merge(model: Any) -> Any:
    """Add every correction into its layer and return the plain model."""
    return model.merge_and_unload()
