"""The shipped data set: support chats with summary, intent, sentiment, stars and named entities."""

from importlib.resources import files

SUPPORT = files(__name__) / "chats.jsonl"
