"""Benchmark suites on a base model and what was tuned from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from tunesmith.bench_records import BenchResult, BenchRun, LeftOut
from tunesmith.cards import of_another_base, read_card
from tunesmith.errors import DataError, RecipeError, UsageError
from tunesmith.machine import device_name
from tunesmith.models.catalog import fingerprint, public_name
from tunesmith.models.load import check_adapter, materialize, quiet
from tunesmith.opening import package_versions
from tunesmith.progress import say
from tunesmith.records import AdapterCard
from tunesmith.registry import METHODS, resolve
from tunesmith.reporting.report import write_report
from tunesmith.rundir import RunDir, write_record
from tunesmith.suites.catalog import Chosen, Suite, choose, harness_version, task_files
from tunesmith.suites.deltas import deltas
from tunesmith.suites.kept import Kept
from tunesmith.suites.local import missing, read_rows, source_of
from tunesmith.suites.request import Request, check_request, found_before, named, run_of
from tunesmith.suites.scores import FEWSHOT_SEED, ask, finishing, shares
from tunesmith.suites.tasks import Asking, Ready, asked_split, definition, from_hub, prepare, shots_split
from tunesmith.wording import many

BASE = "base"
SHOWN = 5  # tasks without a file that are named
MEND = "Put the files there (docs/benchmarks.md has the layout), or leave --data out to ask the hub."


@dataclass(frozen=True, slots=True)
class Candidate:
    """What answers."""

    name: str
    card: AdapterCard | None = None  # None: the base
    adapter: Path | None = None

    @property
    def method(self) -> str:
        """How it was tuned."""
        return self.card.method if self.card else "none"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A suite with the rows of its tasks."""

    suite: Suite
    tasks: list[Ready]
    left_out: tuple[LeftOut, ...]

    @property
    def name(self) -> str:
        """Of the suite, and of its files."""
        return self.suite.name


def bench(request: Request, *, out: Path) -> tuple[BenchResult, ...]:
    """Run suites on the base and on every adapter, and write ``bench/SUITE.json`` below ``out`` after each.

    Answers are kept meanwhile: the same call goes on where it was stopped.
    Where ``out`` is the folder of a run that has a report, the report is written anew.

    Raises:
        UsageError: A suite, a number of items or of worked examples cannot be.
        DataError: No file feeds a task that was named, or a whole suite; or a file is not what it should be.
        RecipeError: Model or adapter are not to be had, or do not belong together.
        ResourceError: The harness is not installed.
    """
    results = ask_suites(request, out=out)
    if RunDir(out).report_json.exists():
        write_report(RunDir(out))
    return results


def ask_suites(request: Request, *, out: Path, go_on: bool = False) -> tuple[BenchResult, ...]:
    """Do the same without the report.

    Args:
        request: What is asked, and of which models.
        out: Folder that ``bench`` goes to.
        go_on: Whether candidates that have answered the same items before, with the same weights, are left in peace.
    """
    prepared = prepare_suites(request)
    model, candidates = _candidates(request)
    quiet()
    folder = materialize(model, base=request.start or Path.cwd())
    own = _check_base(candidates, folder)
    asking = _asking(request)
    results = {one.name: _begun(request, model, one) for one in prepared}
    before = {one.name: _before(request, results[one.name], out) if go_on else None for one in prepared}
    for candidate in candidates:
        model_hash = fingerprint(candidate.adapter) if candidate.adapter else own
        runs = {one.name: run_of(before[one.name], candidate.name, model_hash) for one in prepared}
        answering: Any = None
        if not all(runs.values()):
            answering = _load(candidate, folder, chat_template=request.chat_template)
            _check_room(answering, {one.name: one.tasks for one in prepared})
        for one in prepared:
            run = runs[one.name]
            if run is None:
                answering.kept = Kept(RunDir(out).bench_kept(one.name), f"{own} {model_hash}")
                run = _run(answering, candidate, one.suite, one.tasks, asking)
                run = run.model_copy(update={"model_hash": model_hash})
            results[one.name] = _with_run(results[one.name], run, one.suite, one.tasks)
            if answering:
                write_record(RunDir(out).bench(one.name), results[one.name])
    for name in results:
        RunDir(out).bench_kept(name).unlink(missing_ok=True)
    return tuple(results.values())


def prepare_suites(request: Request) -> tuple[Prepared, ...]:
    """Read everything that is asked, and no model; raises what ``bench`` does of it."""
    check_request(request)
    harness_version()
    asking = _asking(request)
    return tuple(Prepared(one.suite, *_prepared(one, request.data, asking)) for one in choose(request.suites))


def _asking(request: Request) -> Asking:
    return Asking(request.limit, request.shots, request.seed, request.chat_template)


def _before(request: Request, begun: BenchResult, out: Path) -> BenchResult | None:
    """Return an earlier result of the same items, asked by the same harness."""
    known = found_before(request, begun.suite, out=out)
    same = known is not None and (known.tasks, known.left_out, known.model) == (
        begun.tasks,
        begun.left_out,
        begun.model,
    )
    return known if same else None


def _candidates(request: Request) -> tuple[str, list[Candidate]]:
    """Return the base, and all that answer: it first."""
    found = [Candidate(BASE)]
    problems: list[str] = []
    model = request.model
    for folder in request.adapters:
        try:
            card = read_card(folder)
            if resolve("method", card.method, METHODS).ON_DISK == "adapter":
                check_adapter(folder)
        except RecipeError as error:
            problems += error.problems
            continue
        model = model or card.model
        resolved = folder.resolve()
        name = resolved.parent.name if resolved.name == "adapter" else resolved.name
        if name in {one.name for one in found}:
            problems.append(f'{folder}: two candidates would be called "{name}". Rename a folder.')
        found.append(Candidate(name, card, folder))
    if problems:
        raise RecipeError(problems)
    assert model is not None
    return model, found


def _check_base(candidates: Sequence[Candidate], folder: Path) -> str:
    """Make sure that all that was tuned began as the base in a folder; return its fingerprint.

    Raises:
        RecipeError: Some did not; all of them are named.
    """
    own = fingerprint(folder)
    problems: list[str] = []
    for one in candidates:
        if one.card and one.adapter and (problem := of_another_base(one.adapter, one.card, folder, own)):
            problems.append(f"{problem} Name its base with --model.")
    if problems:
        raise RecipeError(problems)
    return own


def _prepared(chosen: Chosen, data: Path | None, asking: Asking) -> tuple[list[Ready], tuple[LeftOut, ...]]:
    """Return the tasks of a suite with their rows, and those that no file feeds.

    Raises:
        DataError: A task that was named has no file, or none of a suite has one.
    """
    paths = task_files(chosen.suite)
    ready: list[Ready] = []
    left_out: list[LeftOut] = []
    for task in chosen.tasks:
        name = f"{chosen.suite.name}/{task}"
        wanted = _wanted(chosen.suite, task, definition(paths[task], whole=False), data, asking)
        if wanted:
            left_out.append(LeftOut(task=name, why=f"there is no {' and no '.join(wanted)} in {data}", wanted=wanted))
            continue
        try:
            defined = definition(paths[task])
        except ImportError as error:
            left_out.append(LeftOut(task=name, why=f"the harness cannot load it here: {error}"))
            continue
        source = source_of(chosen.suite.data, task)
        first = source.files[asked_split(defined)][0]
        rows = from_hub(name, defined, first) if data is None else read_rows(source, data)
        ready.append(prepare(name, defined, rows, asking))
    if left_out and (not chosen.whole or not ready):
        lines = [f"{one.task}: {one.why}." for one in left_out]
        more = (
            [f"{len(lines) - SHOWN} more tasks of {chosen.suite.name} cannot be asked either."]
            if len(lines) > SHOWN
            else []
        )
        raise DataError([*lines[:SHOWN], *more, *([MEND] if any(one.wanted for one in left_out) else [])])
    for one in left_out:
        say(f"{one.task} is left out: {one.why}")
    return ready, tuple(left_out)


def _wanted(suite: Suite, task: str, defined: dict[str, Any], data: Path | None, asking: Asking) -> tuple[str, ...]:
    """Return the files that a task needs and that are not in the folder of data."""
    if data is None:
        return ()
    source = source_of(suite.data, task)
    splits = filter(None, (asked_split(defined), shots_split(defined, asking.shots)))
    return tuple(file for split in splits for file in missing(source, split, data))


def _load(candidate: Candidate, folder: Path, *, chat_template: bool) -> Any:
    """Return a candidate as the harness takes it, in float32.

    Raises:
        UsageError: A chat template is asked for, and the model has none.
    """
    import torch

    from tunesmith.inference.answer import load_tuned
    from tunesmith.models.load import load
    from tunesmith.suites.answering import language_model

    if candidate.adapter is None:
        loaded = load(folder, dtype=torch.float32)
    else:
        loaded = load_tuned(candidate.method, folder, candidate.adapter, dtype=torch.float32)
    if chat_template and not loaded.tokenizer.chat_template:
        raise UsageError(f"--chat-template: the tokenizer in {folder} has none. Leave it out.")
    return language_model(loaded)


def _check_room(answering: Any, suites: Mapping[str, Sequence[Ready]]) -> None:
    """Make sure that a candidate can write the answers of all suites, before it is asked for any.

    Raises:
        RecipeError: Of some it cannot; each suite is named once.
    """
    problems: list[str] = []
    for name, tasks in suites.items():
        written = [one.task.config.generation_kwargs for one in tasks if one.task.OUTPUT_TYPE == "generate_until"]
        for settings in written:
            try:
                answering.room(settings)
            except RecipeError as error:
                problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        raise RecipeError(dict.fromkeys(problems))


def _run(answering: Any, candidate: Candidate, suite: Suite, tasks: Sequence[Ready], asking: Asking) -> BenchRun:
    start = monotonic()
    items = sum(len(one.record.items) for one in tasks)
    say(f"{candidate.name}: {suite.name}, {many(items, 'item')} of {many(len(tasks), 'task')}")
    if answering.kept.answers:
        say(f"{len(answering.kept.answers)} answers are there from before")
    answering.title = f"{candidate.name} answers {suite.name}"
    scores = ask(answering, suite, tasks, asking)
    return BenchRun(
        candidate=candidate.name, method=candidate.method, seconds=round(monotonic() - start, 2), scores=scores
    )  # fmt: skip


def _begun(request: Request, model: str, prepared: Prepared) -> BenchResult:
    return BenchResult(
        schema=1, suite=prepared.name, asked=named(request, prepared.name), model=public_name(model),
        chat_template=request.chat_template, shots=request.shots, limit=request.limit, seed=request.seed,
        fewshot_seed=FEWSHOT_SEED, precision="float32",
        versions={**package_versions(), "lm_eval": harness_version()}, device=device_name(),
        started=datetime.now(UTC).isoformat(timespec="seconds"), tasks=tuple(one.record for one in prepared.tasks),
        left_out=prepared.left_out, runs=(), deltas=(),
    )  # fmt: skip


def _with_run(result: BenchResult, run: BenchRun, suite: Suite, tasks: Sequence[Ready]) -> BenchResult:
    runs = (*result.runs, run)
    found = result.deltas
    if len(runs) > 1:
        own = deltas(runs[0], run, finish=finishing(tasks), weights=shares(suite, tasks), seed=result.seed)
        found = (*found, *own)
    return result.model_copy(update={"runs": runs, "deltas": found})
