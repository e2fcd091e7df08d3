"""Opening a run folder: checked, locked, and with a record of what was run."""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tunesmith.errors import DataError, RecipeError, UserError
from tunesmith.machine import device_name, need_space, usable_cores
from tunesmith.metrics.scoring import expand_metrics
from tunesmith.models.catalog import check_name, fingerprint
from tunesmith.models.fetch import sha256
from tunesmith.models.load import materialize, quiet
from tunesmith.models.sizes import parameters_on_disk
from tunesmith.recipe import changes, load_recipe, resolved
from tunesmith.records import DataHealth, RunRecord
from tunesmith.rundir import RunDir, read_record, write_record, write_text
from tunesmith.settings import Recipe

PACKAGES = ("tunesmith", "torch", "transformers", "peft", "safetensors", "sacrebleu")


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe, the folder its paths start from, and the folder where everything goes."""

    recipe: Recipe
    base: Path
    dir: RunDir


@contextmanager
def open_run(recipe_file: Path, *, overrides: Sequence[str] = (), out: Path | None = None) -> Iterator[Run]:
    """Check the recipe, and take hold of its run folder.

    Raises:
        RecipeError: The recipe is wrong, or the folder was made by another one.
        UserError: Another process works in this folder.
    """
    recipe, text = load_recipe(recipe_file, overrides)
    base = recipe_file.resolve().parent
    check_name(recipe.model, base=base)
    for task in recipe.tasks:
        expand_metrics(task.metrics, has_choices=bool(task.choices))
    folder = RunDir(out or Path("runs") / recipe.name)
    folder.root.mkdir(parents=True, exist_ok=True)
    need_space(folder.root, 50_000_000, "a run folder")
    with _locked(folder):
        _same_recipe(folder, recipe)
        write_text(folder.recipe, text)
        write_text(folder.resolved, json.dumps(resolved(recipe), indent=1) + "\n")
        yield Run(recipe, base, folder)


def same_sources(job: Run) -> None:
    """Refuse to go on with examples made from files that have changed since.

    Raises:
        DataError: Naming every file that has changed.
    """
    known = set(read_record(job.dir.health, DataHealth).files.values())
    sources = [source for task in job.recipe.tasks for source in task.paths()]
    files = [job.base / Path(source).expanduser() for source in sources]
    changed = [path for path in files if path.is_file() and sha256(path) not in known]
    if changed:
        raise DataError(
            f"{path}: the file has changed since {job.dir.root} was made from it. Give --out another folder, or "
            f"delete {job.dir.root} to start afresh."
            for path in changed
        )


def base_model(job: Run) -> Path:
    """Return the folder of the base model, fetched and converted if it has to be."""
    quiet()
    return materialize(job.recipe.model, base=job.base)


@contextmanager
def _locked(folder: RunDir) -> Iterator[None]:
    """Let one process at a time work in a run folder; the lock goes with the process, however that ends."""
    with folder.lock.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"{folder.root}: process {lock.read().strip() or 'unknown'} is working in this run folder. "
                "Wait for it, or give --out another folder."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _same_recipe(folder: RunDir, recipe: Recipe) -> None:
    """Refuse a folder made by another recipe; new candidates, and candidates left out, are welcome."""
    if not folder.resolved.exists():
        return
    old, new = json.loads(folder.resolved.read_text(encoding="utf-8")), resolved(recipe)
    shared = set(old["candidates"]) & set(new["candidates"])
    for side in (old, new):
        side["candidates"] = {name: side["candidates"][name] for name in shared}
    found = changes(old, new)
    if found:
        raise RecipeError(
            [f"{folder.root}: this run folder was made by another recipe: {change}." for change in found]
            + [f"Give --out another folder, undo the change, or delete {folder.root} to start afresh."]
        )


@contextmanager
def timed(job: Run, step: str) -> Iterator[None]:
    """Note in run.json when a step finished and how long it took."""
    start = time.monotonic()
    yield
    path = job.dir.record
    record = read_record(path, RunRecord) if path.exists() else _new_record(job)
    if not record.model_hash and step != "data":
        folder = base_model(job)
        record = record.model_copy(update={"model_hash": fingerprint(folder), "parameters": parameters_on_disk(folder)})
    finished = {**record.finished, step: datetime.now(UTC).isoformat(timespec="seconds")}
    seconds = {**record.seconds, step: round(time.monotonic() - start, 1)}
    update = {"finished": finished, "seconds": seconds, "recipe_hash": sha256(job.dir.resolved)}
    write_record(path, record.model_copy(update=update))


def _new_record(job: Run) -> RunRecord:
    return RunRecord(
        name=job.recipe.name, recipe_hash=sha256(job.dir.resolved), model=job.recipe.model, model_hash="", parameters=0,
        versions=package_versions(), device=device_name(), threads=usable_cores(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that a result depends on."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
