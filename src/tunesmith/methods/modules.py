"""Modules by name: whatever weights of the base the recipe names learn, all others stay as they are."""

import re
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from tunesmith.errors import RecipeError, did_you_mean
from tunesmith.methods import delta
from tunesmith.methods.delta import RATES as RATES
from tunesmith.methods.delta import base_values as base_values
from tunesmith.methods.delta import load as load
from tunesmith.methods.delta import merge as merge
from tunesmith.methods.delta import save as save
from tunesmith.settings import Settings as Base

ABOUT = "the weights of the base that patterns name"
ON_DISK = "adapter"
IN_PEFT = False


class Settings(Base):
    """What the modules can be told."""

    patterns: tuple[str, ...] = Field(
        min_length=1,
        description="Full names of weights or of modules, where * stands for any text: [*.v_proj, model.norm].",
    )


def chosen(settings: Settings, model: Any) -> dict[str, Any]:
    """Return name -> weight of all that a pattern matches, by its own name or that of a module around it.

    Raises:
        RecipeError: For each pattern that matches nothing, with the names that there are.
    """
    weights = delta.weights_by_name(model)
    around = {name: [name, *_modules(name)] for name in weights}
    problems = []
    there = dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".N", name) for name in weights)
    for pattern in settings.patterns:
        if not any(fnmatchcase(place, pattern) for places in around.values() for place in places):
            every = dict.fromkeys(place for places in around.values() for place in places)
            problems.append(
                f'modules: no weight or module is called "{pattern}".{did_you_mean(pattern, list(every))} This model '
                f"has {', '.join(there)}, where N counts from 0."
            )
    if problems:
        raise RecipeError(problems)
    return {
        name: weights[name]
        for name, places in around.items()
        if any(fnmatchcase(place, pattern) for pattern in settings.patterns for place in places)
    }


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: all of the weights that a pattern matches, tied ones once."""
    return delta.size(chosen(settings, model))


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Freeze the model but for what the patterns match, which learns in float32.

    Args:
        settings: The patterns.
        model: transformers model.
        kind: "causal" or "seq2seq".
    """
    return delta.attach(model, dict.fromkeys(chosen(settings, model)))


def _modules(name: str) -> list[str]:
    """Return the names of the modules around a weight, the nearest first.

    >>> _modules("model.layers.0.norm.weight")
    ['model.layers.0.norm', 'model.layers.0', 'model.layers', 'model']
    """
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
