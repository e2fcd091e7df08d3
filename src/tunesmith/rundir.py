"""The names of the files in a run folder, and how files are read and written.

A file either has its old content or its new one: text goes to a neighbour first, is flushed to the disk, and
takes the name in one step.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith.errors import UserError

R = TypeVar("R", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class CandidateDir:
    """Where the files of one candidate are."""

    root: Path

    @property
    def adapter(self) -> Path:
        return self.root / "adapter"

    @property
    def nearest(self) -> Path:
        return self.adapter / "nearest.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def train_log(self) -> Path:
        return self.root / "train.jsonl"

    @property
    def train_result(self) -> Path:
        return self.root / "train.json"

    @property
    def predict_result(self) -> Path:
        return self.root / "predict.json"

    @property
    def probe_result(self) -> Path:
        return self.root / "probe.json"

    @property
    def learned(self) -> Path:
        return self.root / "learned"

    def stage(self, number: int, task: str) -> "CandidateDir":
        return CandidateDir(self.root / "sequence" / f"{number}-{task}")

    def predictions(self, task: str) -> Path:
        return self.root / "predictions" / f"{task}.jsonl"

    def scores(self, task: str) -> Path:
        return self.root / "scores" / f"{task}.json"

    def perturbed(self, task: str) -> Path:
        return self.root / "perturbed" / f"{task}.jsonl"

    def measures(self, task: str) -> Path:
        return self.root / "measures" / f"{task}.json"


@dataclass(frozen=True, slots=True)
class RunDir:
    """Where the files of a run are."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def resolved(self) -> Path:
        return self.root / "recipe.json"

    @property
    def record(self) -> Path:
        return self.root / "run.json"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def health(self) -> Path:
        return self.root / "data" / "health.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def report_html(self) -> Path:
        return self.root / "report.html"

    @property
    def report_json(self) -> Path:
        return self.root / "report.json"

    @property
    def tasks(self) -> Path:
        return self.root / "data" / "tasks.jsonl"

    @property
    def perturbed(self) -> Path:
        return self.root / "data" / "perturbed.jsonl"

    @property
    def probe(self) -> Path:
        return self.root / "data" / "probe.json"

    def bench(self, suite: str) -> Path:
        return self.root / "bench" / f"{suite}.json"

    def bench_kept(self, suite: str) -> Path:
        return self.root / "bench" / f"{suite}.part.jsonl"

    def examples(self, split: str) -> Path:
        return self.root / "data" / f"{split}.jsonl"

    def candidate(self, name: str) -> CandidateDir:
        return CandidateDir(self.root / "candidates" / name)


def flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settle(folder: Path) -> None:
    """Bring a folder's files to the disk, and let them be read by whoever may read the folder.

    safetensors writes files that nobody but their owner can read.
    """
    readable = 0o666 & stat.S_IMODE(folder.stat().st_mode)
    for path in sorted(folder.iterdir()):
        path.chmod(readable)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    flush_folder(folder)


def publish(staged: Path, final: Path) -> None:
    """Give a finished folder its name, in place of what had it before; on the disk, not only on its way there."""
    settle(staged)
    if final.exists():
        shutil.rmtree(final)
    staged.rename(final)
    flush_folder(final.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` is never seen half written."""
    write_lines(path, (text,))


def write_lines(path: Path, texts: Iterable[str]) -> None:
    """Write texts one after the other so that ``path`` is never seen half written; they are not held together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with staged.open("w", encoding="utf-8") as file:
        file.writelines(texts)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    flush_folder(path.parent)


def write_record(path: Path, record: BaseModel) -> None:
    """Write one record as indented JSON."""
    write_text(path, record.model_dump_json(indent=1) + "\n")


def write_records(path: Path, records: Iterable[BaseModel]) -> None:
    """Write records as JSON lines."""
    write_lines(path, (record.model_dump_json() + "\n" for record in records))


def read_record(path: Path, kind: type[R]) -> R:
    """Read one record; a file of another shape is a UserError that names it."""
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, json.JSONDecodeError) as error:
        raise UserError(_unreadable(path, kind, error)) from None


def read_records(path: Path, kind: type[R]) -> Iterator[R]:
    """Read JSON lines one by one."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield kind.model_validate_json(line)
            except ValidationError as error:
                raise UserError(_unreadable(f"{path}:{number}", kind, error)) from None


def _unreadable(place: Path | str, kind: type[BaseModel], error: Exception) -> str:
    first = str(error).splitlines()[0]
    return f"{place}: not a {kind.__name__} as this version writes it ({first}). Delete the file and run again."
