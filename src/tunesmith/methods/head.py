"""Head: only the matrix that turns vectors into odds of tokens learns.

Where it is tied to the input embedding, as in most small models, the embedding is the same matrix and learns with it:
then this method and ``embeddings`` are one.
"""

from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.methods import delta, parts
from tunesmith.methods.delta import RATES as RATES
from tunesmith.methods.delta import base_values as base_values
from tunesmith.methods.delta import load as load
from tunesmith.methods.delta import merge as merge
from tunesmith.methods.delta import save as save
from tunesmith.settings import Settings as Base

ABOUT = "the output head, and an input embedding that is tied to it"
ON_DISK = "adapter"
IN_PEFT = False


class Settings(Base):
    """The head has no settings of its own."""


def chosen(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> weight, or bias, of the output head.

    Raises:
        RecipeError: The model has none.
    """
    found = model.get_output_embeddings()
    if found is None:
        raise RecipeError(f"head: this model ({type(model).__name__}) has no output head. Take last-layers or lora.")
    return parts.weights_of({parts.name_of(model, found): found})


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: tokens of the vocabulary times width, tied or not."""
    return delta.size(chosen(settings, model))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Freeze the model but for its output head, which learns in float32.

    Args:
        settings: None of its own.
        model: transformers model.
        kind: "causal" or "seq2seq".
    """
    if parts.tied(model):
        parts.say_tied("head")
    return delta.attach(model, dict.fromkeys(chosen(settings, model)))
