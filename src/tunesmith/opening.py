"""Opening a run folder: checked, locked, and with a record of what was run."""

import json
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.errors import DataError, RecipeError, RefusedError, UsageError
from tunesmith.holding import held
from tunesmith.machine import device_name, need_space
from tunesmith.models.catalog import fingerprint
from tunesmith.models.fetch import sha256
from tunesmith.models.load import explained, materialize, quiet
from tunesmith.models.sizes import parameters_on_disk
from tunesmith.naming import check_names
from tunesmith.recipe import changes, kept_text, read_recipe, resolved
from tunesmith.records import DataHealth, Record, RunRecord
from tunesmith.rundir import RunDir, read_record, write_record, write_text
from tunesmith.settings import Candidate, Recipe, TaskSettings
from tunesmith.yamlfile import Document

PACKAGES = ("torch", "transformers", "peft", "safetensors", "sacrebleu")
MADE = "candidate.json"  # beside a candidate's files: what it was made from
SPEED = ("tokens_per_batch", "checkpoint_minutes", "keep_checkpoints")  # settings that leave the results as they are


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe, the folder its paths start from, and the folder where everything goes."""

    recipe: Recipe
    base: Path
    dir: RunDir


class Made(Record):
    """What a candidate was made from, and what its training wrote."""

    candidate: Candidate
    adapter: str = ""  # fingerprint of the folder; empty until training is finished


@contextmanager
def open_run(
    recipe_file: Path | str, *, overrides: Sequence[str] = (), out: Path | str | None = None, begun: bool = False
) -> Iterator[Run]:
    """Check the recipe, and take hold of its run folder.

    Args:
        recipe_file: The YAML file.
        overrides: Of its fields, as ``--set`` takes them.
        out: The run folder; None: ``runs/NAME``.
        begun: The folder must be that of a run already.

    Raises:
        RecipeError: The recipe is wrong, or the folder was made by another one.
        UsageError: The folder has files in it that are no run's, or is none and must be.
        UserError: Another process works in this folder.
    """
    recipe, document = read_recipe(recipe_file, overrides)
    base = Path(recipe_file).resolve().parent
    recipe = check_names(recipe, document, base)
    folder = RunDir(Path(out) if out else Path("runs") / recipe.name)
    if begun and not folder.record.exists():
        raise UsageError(
            f"{folder.root}: there is no run in this folder. Give --out the folder of one, or run it first."
        )
    with held(folder, [Path(recipe_file), *recipe.tables(recipe.tasks, base)]):
        need_space(folder.root, 50_000_000, "a run folder")
        _same_recipe(folder, recipe)
        write_text(folder.recipe, kept_text(document.text, overrides))
        write_text(folder.resolved, json.dumps(resolved(recipe), indent=1) + "\n")
        job = Run(recipe, base, folder)
        _keep_record(job)
        with _placed(document):
            yield job


@contextmanager
def _placed(document: Document) -> Iterator[None]:
    """Put file and line before what is refused of a key of the recipe."""
    try:
        yield
    except (RecipeError, DataError) as error:
        raise type(error)(document.in_order(map(document.placed, error.problems))) from None


def _keep_record(job: Run) -> None:
    """Write run.json where there is none, and the hash of the recipe where that has changed since."""
    if not job.dir.record.exists():
        write_record(job.dir.record, _with_model(job, _new_record(job)) if _begun(job.dir) else _new_record(job))
    record, found = read_record(job.dir.record, RunRecord), sha256(job.dir.resolved)
    if record.recipe_hash != found:
        write_record(job.dir.record, record.model_copy(update={"recipe_hash": found}))


def same_sources(job: Run) -> bool:
    """Tell whether the examples were made from the files as they are now.

    Raises:
        DataError: They were not, and something was trained or answered with them; naming every file that has changed.
    """
    known = set(read_record(job.dir.health, DataHealth).files.values())
    changed = changed_files(job, job.recipe.tasks, known)
    if changed and _begun(job.dir):
        raise DataError(
            f"{path}: the file has changed since {job.dir.root} was made from it. Give --out another folder, or "
            f"delete {job.dir.root} to start afresh."
            for path in changed
        )
    return not changed


def changed_files(job: Run, tasks: Sequence[TaskSettings], known: Set[str]) -> list[Path]:
    """Return the files of some tasks whose sha256 is none of the known ones."""
    return [path for path in job.recipe.tables(tasks, job.base) if path.is_file() and sha256(path) not in known]


def base_model(job: Run) -> Path:
    """Return the folder of the base model, fetched and converted if it has to be."""
    quiet()
    return materialize(job.recipe.model, base=job.base)


def _same_recipe(folder: RunDir, recipe: Recipe) -> None:
    """Refuse a folder that was made by another recipe.

    What only changes speed may change, as may all of it before anything was trained or answered. Candidates may come
    and go; one that comes back must be what it was.
    """
    if not folder.resolved.exists():
        return
    found = changes(_decisive(read_record(folder.resolved, Recipe)), _decisive(recipe))
    if found and not _begun(folder):
        folder.health.unlink(missing_ok=True)
        folder.record.unlink(missing_ok=True)
        return
    problems = [f"{folder.root}: this run folder was made by another recipe: {change}." for change in found]
    if problems:
        problems.append(f"Give --out another folder, undo the change, or delete {folder.root} to start afresh.")
    for name, candidate in recipe.candidates.items():
        made = folder.candidate(name).root / MADE
        if made.exists() and _has_work(made.parent):
            old = read_record(made, Made).candidate
            problems += [
                f"{made.parent}: this candidate was made by another recipe: {change}. Give it another name, undo the "
                "change, or delete this folder to make it again."
                for change in changes(_plain(old), _plain(candidate), f"candidates.{name}.")
            ]
    if problems:
        raise RecipeError(problems)


def _begun(folder: RunDir) -> bool:
    """Tell whether anything was trained or answered."""
    return any(map(_has_work, (folder.root / "candidates").glob("*")))


def _has_work(candidate: Path) -> bool:
    return any(path.name != MADE for path in candidate.iterdir())


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """Return what decides the answers of every candidate alike, as plain values."""
    plain = resolved(recipe.model_copy(update={"candidates": {}}))
    tasks = {task["name"]: {**task, "metrics": None} for task in plain["tasks"]}  # a new metric needs no new answers
    # what is asked beside the tasks changes nothing about them, and is asked anew
    light = {"tasks": tasks, "measures": None, "forgetting": None}
    return {**plain, **light, "train": _slower(plain["train"]), "generate": _slower(plain["generate"])}


def _plain(candidate: Candidate) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(candidate.model_dump_json(serialize_as_any=True))
    own = plain.pop("settings") or {}
    return {**plain, **own, "train": _slower(plain["train"])}


def _slower(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in SPEED}


def begin(job: Run, name: str) -> None:
    """Note what a candidate is made from, before the first of its files is written."""
    where = job.dir.candidate(name).root
    if not (where / MADE).exists() or not _has_work(where):
        write_record(where / MADE, Made(candidate=job.recipe.candidates[name]))


def seal(job: Run, name: str) -> None:
    """Note what a candidate's training wrote."""
    where = job.dir.candidate(name)
    write_record(where.root / MADE, Made(candidate=job.recipe.candidates[name], adapter=fingerprint(where.adapter)))


def check_seal(job: Run, name: str) -> None:
    """Refuse an adapter that is not what training wrote.

    Raises:
        RefusedError: A file of it was changed, added or taken away.
    """
    where = job.dir.candidate(name)
    sealed = read_record(where.root / MADE, Made).adapter if (where.root / MADE).exists() else ""
    if sealed and fingerprint(where.adapter) != sealed:
        raise RefusedError(
            f"{where.adapter}: its files are not those that training wrote. Delete the folder to train {name} again."
        )


@contextmanager
def timed(job: Run, step: str) -> Iterator[None]:
    """Note in run.json when a step finished and how long it took.

    Raises:
        RecipeError: The weights of the base model are not those that the other steps were done with.
    """
    record = read_record(job.dir.record, RunRecord)
    if step != "data":
        record = _with_model(job, record)
    start = time.monotonic()
    yield
    finished = {**record.finished, step: datetime.now(UTC).isoformat(timespec="seconds")}
    seconds = {**record.seconds, step: round(time.monotonic() - start, 1)}
    write_record(job.dir.record, record.model_copy(update={"finished": finished, "seconds": seconds}))


def _with_model(job: Run, record: RunRecord) -> RunRecord:
    folder = base_model(job)
    found = fingerprint(folder)
    if record.model_hash not in ("", found):
        raise RecipeError(
            f"model: {folder} has changed since {job.dir.root} was begun with it. Give --out another folder, or delete "
            f"{job.dir.root} to start afresh."
        )
    with explained(folder):
        size = parameters_on_disk(folder)
    now = {"device": device_name(), "threads": _threads()}  # a check may have been made with others
    return record.model_copy(update={"model_hash": found, "parameters": size, **now})


def _new_record(job: Run) -> RunRecord:
    return RunRecord(
        name=job.recipe.name, recipe_hash=sha256(job.dir.resolved), model=job.recipe.model, model_hash="", parameters=0,
        versions=package_versions(), device=device_name(), threads=_threads(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def _threads() -> int:
    """Return with how many threads a processor multiplies: what OMP_NUM_THREADS or a script says, else all cores."""
    import torch

    return torch.get_num_threads()


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that a result depends on."""
    return {"tunesmith": __version__, **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
