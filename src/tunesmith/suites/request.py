"""What is to be benchmarked, and what was found for the same request before."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith.bench_records import BenchResult, BenchRun
from tunesmith.errors import UsageError
from tunesmith.models.fetch import sha256
from tunesmith.rundir import RunDir, read_record


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be benchmarked, and how."""

    suites: tuple[str, ...]  # names of suites, or of single tasks as superglue/boolq
    model: str | None = None  # None: the base that the adapters were trained on
    adapters: tuple[Path, ...] = ()
    data: Path | None = None  # None: the hub
    limit: int | None = None
    shots: int | None = None
    chat_template: bool = False
    seed: int = 0
    start: Path | None = None  # folder that a relative path to the model starts from; None: the working directory


def check_request(request: Request) -> None:
    """Refuse what cannot be asked, all of it at once.

    Raises:
        UsageError: No suite or no model is named, a number is too small, or there is no such folder of data.
    """
    problems = []
    if not request.suites:
        problems.append("name a suite, such as mmlu; tunesmith ls suites has them all.")
    if request.limit is not None and request.limit < 1:
        problems.append(f"--limit {request.limit}: ask for at least one item.")
    if request.shots is not None and request.shots < 0:
        problems.append(f"--shots {request.shots}: give 0 or more.")
    if request.data is not None and not request.data.is_dir():
        problems.append(f"--data {request.data}: there is no such folder.")
    if request.model is None and not request.adapters:
        problems.append("give --model, --adapter, or both.")
    if problems:
        raise UsageError(problems)


def named(request: Request, suite: str) -> tuple[str, ...]:
    """Return what a request names of one suite."""
    return tuple(name for name in request.suites if name.partition("/")[0] == suite)


def found_before(request: Request, suite: str, *, out: Path) -> BenchResult | None:
    """Return what the same request found, of whichever models; None where it was another one, or files have changed."""
    path = RunDir(out).bench(suite)
    if not path.exists():
        return None
    known = read_record(path, BenchResult)
    own = (known.limit, known.shots, known.chat_template, known.seed)
    if own != (request.limit, request.shots, request.chat_template, request.seed) or known.asked != named(
        request, suite
    ):
        return None
    if any((task.source == "local") != (request.data is not None) for task in known.tasks):
        return None
    files = {request.data / name: digest for task in known.tasks for name, digest in task.files.items() if request.data}
    same = all(file.is_file() and sha256(file) == digest for file, digest in files.items())
    return known if same else None


def run_of(known: BenchResult | None, candidate: str, model_hash: str) -> BenchRun | None:
    """Return what a candidate with these weights made of a suite before."""
    runs = known.runs if known else ()
    return next((one for one in runs if (one.candidate, one.model_hash) == (candidate, model_hash)), None)
