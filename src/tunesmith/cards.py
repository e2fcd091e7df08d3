"""What an adapter folder says of itself, and whether it belongs to a base."""

from pathlib import Path

from tunesmith.errors import RecipeError
from tunesmith.models.catalog import fingerprint
from tunesmith.records import AdapterCard
from tunesmith.rundir import read_record

CARD = "tunesmith.json"  # beside the weights


def read_card(folder: Path) -> AdapterCard:
    """Read the card in an adapter folder.

    Raises:
        RecipeError: It is no adapter of tunesmith.
    """
    if not (folder / CARD).is_file():
        raise RecipeError(f"{folder} has no {CARD}. Give the adapter folder of a candidate of a run.")
    return read_record(folder / CARD, AdapterCard)


def of_another_base(folder: Path, card: AdapterCard, model: Path, found: str = "") -> str | None:
    """Return what is wrong with an adapter that learned on other weights than those of a base, or None.

    Args:
        folder: Of the adapter.
        card: Of the adapter.
        model: Folder of the base.
        found: Its fingerprint, where that is known already: it reads all of the weights.
    """
    if (found or fingerprint(model)) == card.model_hash:
        return None
    return f"{folder} was trained on {card.model}, whose weights are not those in {model}."
