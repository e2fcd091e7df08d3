"""Norms: only the weights of LayerNorm and RMSNorm learn.

Zhao and others 2023, "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM Finetuning", arXiv 2312.11420.
"""

from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.methods import delta, parts
from tunesmith.methods.bitfit import RATES as RATES  # as few weights, each as far from the answer
from tunesmith.methods.delta import base_values as base_values
from tunesmith.methods.delta import load as load
from tunesmith.methods.delta import merge as merge
from tunesmith.methods.delta import save as save
from tunesmith.settings import Settings as Base

ABOUT = "the weights of LayerNorm or RMSNorm (arXiv 2312.11420)"
ON_DISK = "adapter"
IN_PEFT = False


class Settings(Base):
    """Norms have no settings of their own."""


def chosen(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> weight, or bias, of every norm.

    Raises:
        RecipeError: The model has none.
    """
    found = parts.weights_of(parts.norms(model))
    if not found:
        raise RecipeError(f"norms: this model ({type(model).__name__}) has no norms with weights. Take lora.")
    return found


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: those of all norms."""
    return delta.size(chosen(settings, model))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Freeze the model but for its norms, which learn in float32.

    Args:
        settings: None of its own.
        model: transformers model.
        kind: "causal" or "seq2seq".
    """
    return delta.attach(model, dict.fromkeys(chosen(settings, model)))
