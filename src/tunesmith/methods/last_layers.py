"""The last layers: those nearest to the answer learn, all before them stay as they are.

Lee and others 2019, "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", arXiv 1911.03090.
"""

from typing import Any

from pydantic import Field

from tunesmith.errors import RecipeError
from tunesmith.methods import delta
from tunesmith.methods.delta import RATES as RATES
from tunesmith.methods.delta import base_values as base_values
from tunesmith.methods.delta import load as load
from tunesmith.methods.delta import merge as merge
from tunesmith.methods.delta import save as save
from tunesmith.methods.parts import layers, name_of, norms, say_tied, tied, weights_of
from tunesmith.settings import Settings as Base

ABOUT = "the last layers of the base (arXiv 1911.03090)"
ON_DISK = "adapter"
IN_PEFT = False


class Settings(Base):
    """What the last layers can be told."""

    layers: int = Field(2, ge=1, description="How many learn, counted from the output; T5's decoder comes last.")
    norm: bool = Field(True, description="Also the norm after the last layer.")
    head: bool = Field(False, description="Also the output head, and with it an embedding that is tied to it.")


def chosen(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> weight of all that learns.

    Raises:
        RecipeError: More layers than there are; no head where one is asked for.
    """
    there, head = layers(model), model.get_output_embeddings()
    names = list(there)
    problems = []
    if settings.layers > len(names):
        problems.append(
            f"last-layers: layers is {settings.layers}, and this model has {len(names)}, {names[0]} to {names[-1]}. "
            f"Take at most {len(names)}."
        )
    if settings.head and head is None:
        problems.append("last-layers: head is asked for, and this model has no output head. Leave it out.")
    if problems:
        raise RecipeError(problems)
    parts = {name: there[name] for name in names[-settings.layers :]}
    after = [name for name in norms(model) if not any(name.startswith(f"{layer}.") for layer in names)]
    if settings.norm and after:
        parts[after[-1]] = model.get_submodule(after[-1])
    if settings.head:
        parts[name_of(model, head)] = head
    return weights_of(parts)


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: all of the chosen layers, norm and head."""
    return delta.size(chosen(settings, model))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Freeze the model but for its last layers, which learn in float32.

    Args:
        settings: How many layers, norm, head.
        model: transformers model.
        kind: "causal" or "seq2seq".
    """
    if settings.head and tied(model):
        say_tied("last-layers")
    return delta.attach(model, dict.fromkeys(chosen(settings, model)))
