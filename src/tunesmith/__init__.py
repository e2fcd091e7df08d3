"""Adapt language models to your own work, and know what it brought.

The public names are those of ``__all__``. They are imported when they are first used, so that ``import tunesmith``
costs nothing and does not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["Recipe", "Tuned", "UserError", "__version__", "load_recipe", "run", "score_file"]

if TYPE_CHECKING:
    from tunesmith.errors import UserError
    from tunesmith.inference.tuned import Tuned
    from tunesmith.metrics.files import score_file
    from tunesmith.pipeline import run
    from tunesmith.recipe import load_recipe
    from tunesmith.settings import Recipe

_PLACES = {
    "Recipe": "tunesmith.settings",
    "Tuned": "tunesmith.inference.tuned",
    "UserError": "tunesmith.errors",
    "load_recipe": "tunesmith.recipe",
    "run": "tunesmith.pipeline",
    "score_file": "tunesmith.metrics.files",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
