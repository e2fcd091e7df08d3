"""Embeddings: only the matrix that turns tokens into vectors learns.

Where the output head is tied to it, as in most small models, the head is the same matrix and learns with it.
"""

from typing import Any

from tunesmith.methods import delta, parts
from tunesmith.methods.delta import RATES as RATES
from tunesmith.methods.delta import base_values as base_values
from tunesmith.methods.delta import load as load
from tunesmith.methods.delta import merge as merge
from tunesmith.methods.delta import save as save
from tunesmith.settings import Settings as Base

ABOUT = "the input embedding, and an output head that is tied to it"
ON_DISK = "adapter"
IN_PEFT = False


class Settings(Base):
    """Embeddings have no settings of their own."""


def chosen(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> weight of the input embedding; T5's encoder and decoder share one."""
    embedding = model.get_input_embeddings()
    return parts.weights_of({parts.name_of(model, embedding): embedding})


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: tokens of the vocabulary times width, tied or not."""
    return delta.size(chosen(settings, model))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Freeze the model but for its input embedding, which learns in float32.

    Args:
        settings: None of its own.
        model: transformers model.
        kind: "causal" or "seq2seq".
    """
    if parts.tied(model):
        parts.say_tied("embeddings")
    return delta.attach(model, dict.fromkeys(chosen(settings, model)))
