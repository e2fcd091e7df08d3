"""The adapters that the words on a command line stand for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith.cards import CARD, read_card
from tunesmith.errors import RecipeError
from tunesmith.models.catalog import read_json_object
from tunesmith.records import AdapterCard
from tunesmith.rundir import RunDir

CONFIGS = ("adapter_config.json", "config.json")


@dataclass(frozen=True, slots=True)
class Source:
    """One adapter folder, or the whole model that full tuning leaves."""

    folder: Path
    name: str  # of the candidate, or of the folder
    card: AdapterCard | None  # None = it is not one of tunesmith's
    run: RunDir | None  # the run folder that it lies in

    @property
    def config(self) -> dict[str, object]:
        """Its adapter_config.json; empty for a whole model."""
        path = self.folder / CONFIGS[0]
        return read_json_object(path) if path.is_file() else {}


def find_adapters(places: Sequence[Path]) -> list[Source]:
    """Find adapters: a run folder stands for all of its candidates, a candidate's folder for its adapter.

    Raises:
        RecipeError: Somewhere there is none; all such places are named.
    """
    found: dict[Path, Source] = {}
    problems = []
    for place in places:
        own = _adapters_in(place)
        if not own:
            problems.append(
                f"{place}: there is no adapter. Give a run folder, or the folder candidates/NAME/adapter of one."
            )
        found.update((folder.resolve(), _source(folder)) for folder in own)
    if problems:
        raise RecipeError(problems)
    return list(found.values())


def _adapters_in(place: Path) -> list[Path]:
    if any((place / config).is_file() for config in CONFIGS):
        return [place]
    folders = [place / "adapter", *sorted(place.glob("candidates/*/adapter"))]
    return [folder for folder in folders if any((folder / config).is_file() for config in CONFIGS)]


def _source(folder: Path) -> Source:
    card = read_card(folder) if (folder / CARD).is_file() else None
    whole = folder.resolve()
    inside = whole.name == "adapter" and len(whole.parents) > 2
    run = RunDir(whole.parents[2]) if inside and RunDir(whole.parents[2]).resolved.is_file() else None
    return Source(folder, whole.parent.name if whole.name == "adapter" else whole.name, card, run)
