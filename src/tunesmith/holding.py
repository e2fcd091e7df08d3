"""Taking hold of a run folder: nothing of the user's is in it, and one process at a time works there."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tunesmith.errors import ResourceError, UsageError, UserError
from tunesmith.rundir import RunDir

MEND = "Give --out another folder."


@contextmanager
def held(folder: RunDir, inputs: Sequence[Path]) -> Iterator[None]:
    """Let one process at a time work in a run folder; the lock goes with the process, however that ends.

    Args:
        folder: Made where it is not there.
        inputs: Files that the run reads: its recipe and its tables.

    Raises:
        UsageError: The folder has files of the user in it, or there is a file in its place.
        UserError: Another process works in it.
        ResourceError: Nothing can be written there.
    """
    with _lock_file(folder, inputs) as lock:
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


def _lock_file(folder: RunDir, inputs: Sequence[Path]) -> TextIO:
    try:
        _check_folder(folder, inputs)
        folder.root.mkdir(parents=True, exist_ok=True)
        return folder.lock.open("a+", encoding="utf-8")
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{folder.root}: there is a file in the way. Give --out the name of a folder.") from None
    except OSError as error:
        why = error.strerror or error
        raise ResourceError(f"{folder.root}: nothing can be written there: {why}. {MEND}") from None


def _check_folder(folder: RunDir, inputs: Sequence[Path]) -> None:
    """Refuse a folder where the run would write over something that is not its own."""
    if not folder.root.exists():
        return
    problems = [
        f"{path}: this file lies where the run writes its own, in {folder.root}. {MEND}"
        for path in dict.fromkeys(path.resolve() for path in inputs)
        if path.is_relative_to(folder.root.resolve()) and _is_written(path.relative_to(folder.root.resolve()))
    ]
    if not (folder.record.exists() or folder.resolved.exists() or folder.lock.exists()):
        other = sorted(entry.name for entry in folder.root.iterdir() if not _harmless(entry))
        if other:
            problems.append(
                f"{folder.root}: this folder holds {other[0]} and no run.json, so it is not the folder of a run, and "
                f"its files would be written over. {MEND}"
            )
    if problems:
        raise UsageError(problems)


def _is_written(place: Path) -> bool:
    """Tell whether a run writes to a place, seen from its folder."""
    run = RunDir(Path())
    files = (run.recipe, run.resolved, run.record, run.lock, run.plan, run.report_html, run.report_json)
    folders = (run.health.parent, run.candidate("").root, run.bench("").parent)
    return place in files or any(place.is_relative_to(one) for one in folders)


def _harmless(entry: Path) -> bool:
    """Tell whether an entry may be there before a run is: nothing, benchmarks, or answers taken over from a run."""
    folder = entry.is_dir()
    empty = folder and not any(entry.iterdir())
    staged = entry.name.startswith(".") and entry.name.endswith(".tmp")
    return empty or staged or (folder and entry.name in ("bench", "candidates"))
