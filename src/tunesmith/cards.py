"""What an adapter folder says of itself, and the base that it belongs to."""

from pathlib import Path

from tunesmith.errors import RecipeError, UserError
from tunesmith.models.catalog import CATALOG, fingerprint, local_path
from tunesmith.models.load import materialize
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


def base_under(folder: Path, card: AdapterCard, named: str | None, *, option: str) -> Path:
    """Return the folder of the base that an adapter was trained on.

    A relative path in the card starts from the recipe's folder, which the card does not know: it is looked for from
    the working directory and from each folder that the adapter lies in. The weights tell whether it is the right one.

    Args:
        folder: Of the adapter.
        card: Of the adapter.
        named: What the caller names the base; None = as the card has it.
        option: With which it is named, for messages: "--base" or "base=".

    Raises:
        UserError: It is not to be had, or its weights are others; the message names the option.
    """
    if named is not None:
        found = named_base(named, option)
    else:
        try:
            found = materialize(card.model, base=_start(folder, card.model))
        except UserError as error:
            raise type(error)(
                f"{folder}: its base: {problem.removeprefix('model: ')} Name its base with {option}."
                for problem in error.problems
            ) from None
    if problem := of_another_base(folder, card, found):
        raise RecipeError(f"{problem} Name its base with {option}.")
    return found


def named_base(name: str, option: str) -> Path:
    """Return the folder of a base that the caller names; a relative path starts from the working directory.

    Raises:
        UserError: It is not to be had; the message names the option.
    """
    try:
        return materialize(name, base=Path.cwd())
    except UserError as error:
        place = option.removesuffix("=")
        raise type(error)(f"{place}: {problem.removeprefix('model: ')}" for problem in error.problems) from None


def _start(folder: Path, model: str) -> Path:
    """Return the folder from which a path leads to a model; the working directory where none does."""
    starts = (Path.cwd(), *folder.resolve().parents)
    there = (start for start in starts if (path := local_path(model, start)) and path.exists())
    return starts[0] if model in CATALOG else next(there, starts[0])


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
