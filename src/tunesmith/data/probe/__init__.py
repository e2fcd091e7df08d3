"""The shipped probe: what a model should still know and be able to do after it was tuned on something else."""

from importlib.resources import files

ITEMS = files(__name__) / "items.jsonl"
PROSE = files(__name__) / "prose.jsonl"
