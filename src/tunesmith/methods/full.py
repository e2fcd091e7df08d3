"""Full tuning: every weight of the model learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.settings import Settings as Base

ABOUT = "every weight learns"
ON_DISK = "model"  # a whole model folder
RATES = {
    "causal": ((3e8, 5e-5), (2e9, 2e-5), (float("inf"), 1e-5)),
    "seq2seq": ((1e8, 5e-4), (1e9, 1e-4), (float("inf"), 5e-5)),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture."""


class Settings(Base):
    """Full tuning has no settings of its own."""


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: all of them, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Make every weight trainable, in fp32, and return the model itself.

    Args:
        settings: None of its own.
        model: transformers model.
        kind: "causal" or "seq2seq".
    """
    model.float()
    model.requires_grad_(True)
    return model


def base_values(model: Any, base: Callable[[], Any]) -> dict[str, Any]:
    """Return every weight as the base has it."""
    return dict(base().named_parameters())


def save(model: Any, folder: Path) -> None:
    """Write the whole model as safetensors."""
    model.save_pretrained(folder)


def merge(model: Any) -> Any:
    """Return the tuned model as a plain transformers model: it is one already."""
    return model
