"""Short general instructions with answers: what a model is reminded of while it is tuned on something else."""

from importlib.resources import files

ITEMS = files(__name__) / "items.jsonl"
