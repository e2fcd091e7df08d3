"""Which steps of a run are done, by the files that they left."""

from pathlib import Path

from pydantic import BaseModel

from tunesmith.errors import DataError, UserError
from tunesmith.opening import Run
from tunesmith.records import Example, PredictResult, Split, TrainResult
from tunesmith.rundir import CandidateDir, read_record, read_records

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def examples(job: Run, split: Split) -> list[Example]:
    """Read the examples of one split."""
    path = job.dir.examples(split)
    if not path.exists():
        raise DataError(f"{path} is not there yet. `tunesmith check` or `tunesmith run` prepares the data.")
    return list(read_records(path, Example))


def is_over(job: Run, name: str) -> bool:
    """Tell whether a candidate is trained and has answered."""
    where = job.dir.candidate(name)
    trained = job.recipe.candidates[name].method == "none" or is_tuned(where)
    return trained and is_done(where.predict_result, PredictResult)


def is_tuned(where: CandidateDir) -> bool:
    """Tell whether training has come to its end."""
    return where.adapter.is_dir() and is_done(where.train_result, TrainResult)


def is_done(path: Path, kind: type[BaseModel]) -> bool:
    """Tell whether a step has left its record; a damaged one is refused rather than taken for the end of the step."""
    return path.exists() and bool(read_record(path, kind))


def check_tuned(job: Run, name: str) -> None:
    """Make sure that a candidate which needs training has had it.

    Raises:
        UserError: It has not.
    """
    if job.recipe.candidates[name].method != "none" and not is_tuned(job.dir.candidate(name)):
        raise UserError(f'candidate "{name}" is not tuned yet. `tunesmith train` does that, or `tunesmith run` all.')
