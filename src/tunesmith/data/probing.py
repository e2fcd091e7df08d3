"""The items and the prose of the shipped probe, read from ``data/probe``."""

from importlib.resources.abc import Traversable

from tunesmith.data.probe import ITEMS, PROSE
from tunesmith.probe_records import Paragraph
from tunesmith.records import Record


class Item(Record):
    """One line of ``items.jsonl``."""

    id: str
    skill: str
    prompt: str
    target: str
    choices: tuple[str, ...] = ()  # ranked by likelihood; none: the answer is written, and levelled before comparing
    accepted: tuple[str, ...] = ()  # other answers that are right


def shipped_items() -> tuple[Item, ...]:
    """Return the items of the shipped probe, skill by skill."""
    return tuple(Item.model_validate_json(line) for line in _lines(ITEMS))


def shipped_prose() -> tuple[Paragraph, ...]:
    """Return the paragraphs of the shipped probe."""
    return tuple(Paragraph.model_validate_json(line) for line in _lines(PROSE))


def _lines(file: Traversable) -> list[str]:
    return file.read_text("utf-8").splitlines()
