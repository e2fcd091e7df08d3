"""BitFit: only the biases of the base learn.

Ben Zaken, Ravfogel and Goldberg 2021, "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
Language-models", arXiv 2106.10199. Llama, SmolLM2 and T5 were built without biases, and have nothing for it to train.
"""

from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.methods import delta
from tunesmith.methods.delta import base_values as base_values
from tunesmith.methods.delta import load as load
from tunesmith.methods.delta import merge as merge
from tunesmith.methods.delta import save as save
from tunesmith.settings import Settings as Base

ABOUT = "the biases of the base (arXiv 2106.10199)"
ON_DISK = "adapter"
IN_PEFT = False
RATES = {
    "causal": ((2e9, 1e-3), (float("inf"), 5e-4)),
    "seq2seq": ((1e9, 1e-3), (float("inf"), 5e-4)),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture.

Above those of full tuning, since few numbers have to bring all of the change. A choice, not the best of a search.
"""


class Settings(Base):
    """BitFit has no settings of its own."""


def chosen(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> bias.

    Raises:
        RecipeError: The model has no biases.
    """
    found = {name: weight for name, weight in delta.weights_by_name(model).items() if name.split(".")[-1] == "bias"}
    if not found:
        raise RecipeError(
            f"bitfit: this model ({type(model).__name__}) has no biases that could learn. Take norms, which trains "
            "about as few weights, or lora."
        )
    return found


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: all biases."""
    return delta.size(chosen(settings, model))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Freeze the model but for its biases, which learn in float32.

    Args:
        settings: None of its own.
        model: transformers model.
        kind: "causal" or "seq2seq".
    """
    return delta.attach(model, dict.fromkeys(chosen(settings, model)))
