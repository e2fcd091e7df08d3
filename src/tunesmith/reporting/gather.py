"""Read a run folder into a ``Report``; a pure function of the files."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from tunesmith.errors import RecipeError, UserError
from tunesmith.forgetting.asked import leaks_in_words
from tunesmith.metrics.measures import Measures
from tunesmith.mixtures import mixtures
from tunesmith.plan_records import CandidatePlan, Plan
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.records import (
    DataHealth,
    Example,
    NearestTokens,
    Prediction,
    PredictResult,
    RunRecord,
    ScoreSheet,
    Split,
    TrainPoint,
    TrainResult,
    VirtualToken,
)
from tunesmith.reporting.benched import benchmarks_of
from tunesmith.reporting.beyond import beyond_average
from tunesmith.reporting.by_tasks import by_tasks
from tunesmith.reporting.compare import compare_sheets, headline
from tunesmith.reporting.contents import (
    ZERO_SHOT,
    Beyond,
    CandidateReport,
    ForgettingReport,
    Report,
    TaskReport,
)
from tunesmith.reporting.cures import cure_effects, cures_of, effect_sentence
from tunesmith.reporting.forgotten import forgetting_report, headline_sentence
from tunesmith.reporting.in_turn import answered_in_all, trained_in_all, turns
from tunesmith.reporting.pairs import compare_pairs, tuned_pairs
from tunesmith.reporting.task import Answers, cut_off_sentence, split_summary, task_report
from tunesmith.rundir import CandidateDir, R, RunDir, read_record, read_records
from tunesmith.settings import Recipe

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CURVE_POINTS = 200
NOT_PROBED = "the probe of what was forgotten is not taken"


def gather(run: RunDir) -> Report:
    """Read everything that a report shows.

    A candidate that is not finished, or whose files cannot be read, is in the report with what is missing.

    Raises:
        UserError: there is no run in this folder, or its recipe, its record or its examples cannot be read.
    """
    record, recipe = _run_record(run)
    examples = {split: _examples(run, split) for split in SPLITS}
    tasks = tuple(dict.fromkeys(example.task for example in examples["test"]))
    plans, unread = _plans(run)
    found = [_candidate(run, recipe, name, tasks=tasks, plan=plans.get(name)) for name in recipe.candidates]
    sheets = [sheet for one in found for sheet in one.sheets]
    comparisons = compare_sheets(sheets, seed=recipe.seed)
    reports = tuple(
        task_report(
            task,
            [example for example in examples["test"] if example.task == task],
            answers=[given for one in found for given in one.answers if given.task == task],
            sheets=[sheet for sheet in sheets if sheet.task == task],
            comparisons=[comparison for comparison in comparisons if comparison.task == task],
        ).model_copy(update={"beyond": _beyond(task, examples["test"], found, seed=recipe.seed)})
        for task in tasks
    )
    forgetting = _forgetting(run, recipe, found, reports)
    benchmarks, unreadable = benchmarks_of(run)
    return Report(
        run=record,
        recipe=run.recipe.read_text(encoding="utf-8"),
        headline=(
            *headline(sheets, comparisons),
            *headline_sentence(forgetting, reports),
            *effect_sentence(forgetting.effects if forgetting else ()),
            *cut_off_sentence(reports),
        ),
        candidates=tuple(one.report for one in found),
        tasks=reports,
        forgetting=forgetting,
        benchmarks=benchmarks,
        by_tasks=by_tasks(recipe, sheets),
        in_turn=turns(run, recipe),
        health=read_record(run.health, DataHealth) if run.health.exists() else None,
        mixtures=mixtures(recipe, Counter(example.task for example in examples["train"])),
        splits=tuple(
            split_summary(recipe, task.name, split, [one for one in examples[split] if one.task == task.name])
            for task in recipe.tasks
            for split in SPLITS
        ),
        notes=(
            *_notes(run, recipe),
            *unread,
            *unreadable,
            *dict.fromkeys(note for sheet in sheets for note in sheet.notes),
        ),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What one candidate's folder holds."""

    report: CandidateReport
    answers: tuple[Answers, ...]  # one per task, empty where there are none yet
    sheets: tuple[ScoreSheet, ...]  # of the tasks that are scored
    measures: tuple[Measures, ...]  # of the tasks that are measured beside the average
    probe: ProbeResult | None  # None where it is not taken yet, or never will be


def _forgetting(
    run: RunDir, recipe: Recipe, found: Sequence[_Found], tasks: Sequence[TaskReport]
) -> ForgettingReport | None:
    """Return what was forgotten; None where the recipe wants nothing measured."""
    if recipe.forgetting == "off":
        return None
    probe = read_record(run.probe, Probe) if run.probe.exists() else None
    results = {one.report.name: one.probe for one in found if one.probe}
    report = forgetting_report(probe, results, tasks, seed=recipe.seed)
    if probe is None or not report.changes:
        return report
    same = {name: result for name, result in results.items() if name not in report.stale}
    cures = {one.report.name: one.report.cures for one in found}
    effects = cure_effects(recipe, probe, same, tasks, cures=cures)
    pairs = tuned_pairs(
        recipe, [one.candidate for one in report.changes], tasks, cured=[name for name in cures if cures[name]],
        known=[{one.candidate, one.than} for one in effects],
    )  # fmt: skip
    beside = compare_pairs(probe, same, tasks, pairs, seed=recipe.seed)
    return report.model_copy(update={"effects": effects, "pairs": beside})


def _candidate(run: RunDir, recipe: Recipe, name: str, *, tasks: Sequence[str], plan: CandidatePlan | None) -> _Found:
    files, planned = run.candidate(name), recipe.candidates[name]
    missing: list[str] = []
    points: list[TrainPoint] = []
    result = None
    if planned.method != "none":
        result = _read_one(files.train_result, TrainResult, absent="training is not finished", missing=missing)
        points = _read_lines(files.train_log, TrainPoint, absent="there is no training log", missing=missing)
    predict = _read_one(files.predict_result, PredictResult, absent="answering is not finished", missing=missing)
    predict = answered_in_all(run, recipe, name, predict)
    answers, sheets, measures = [], [], []
    for task in tasks:
        absent = f'there are no answers for task "{task}"'
        predictions = _read_lines(files.predictions(task), Prediction, absent=absent, missing=missing)
        answers.append(Answers(name, task, {prediction.example_id: prediction for prediction in predictions}))
        absent = f'there are no scores for task "{task}"'
        sheet = _read_one(files.scores(task), ScoreSheet, absent=absent, missing=missing)
        sheets.extend([sheet] if sheet else [])
        if files.measures(task).exists():  # older versions wrote none
            measured = _read_one(files.measures(task), Measures, absent="", missing=missing)
            measures.extend([measured] if measured else [])
    virtual = _virtual(files, missing)
    probe = None
    if recipe.forgetting != "off" and (planned.method != "none" or name == ZERO_SHOT):
        probe = _read_one(files.probe_result, ProbeResult, absent=NOT_PROBED, missing=missing)
    report = CandidateReport(
        name=name,
        method=planned.method,
        shots=planned.shots,
        missing=tuple(missing),
        train=trained_in_all(run, recipe, name, result),
        cures=cures_of(recipe, name, result),
        predict=predict,
        seconds_per_answer=predict.seconds / predict.prompts if predict and predict.prompts else None,
        flops_per_answer=predict.flops / predict.answers if predict and predict.answers else None,
        plan=plan,
        steps=_thinned([point for point in points if point.loss is not None]),
        validations=tuple(p for p in points if p.validation_loss is not None or p.validation_score is not None),
        virtual=virtual,
        events=tuple(f"step {point.step}: {point.note}" for point in points if point.note),
    )
    return _Found(report, tuple(answers), tuple(sheets), tuple(measures), probe)


def _beyond(task: str, examples: Sequence[Example], found: Sequence[_Found], *, seed: int) -> Beyond:
    own = [example for example in examples if example.task == task]
    answers = [given for one in found for given in one.answers if given.task == task]
    measures = [measured for one in found for measured in one.measures if measured.task == task]
    return beyond_average(own, answers, measures, seed=seed)


def _virtual(files: CandidateDir, missing: list[str]) -> tuple[VirtualToken, ...]:
    if not files.nearest.exists():
        return ()
    found = _read_one(files.nearest, NearestTokens, absent="", missing=missing)
    return found.tokens if found else ()


def _read_one(path: Path, kind: type[R], *, absent: str, missing: list[str]) -> R | None:
    """Read a record, or add to ``missing`` why there is none."""
    if not path.exists():
        missing.append(absent)
        return None
    try:
        return read_record(path, kind)
    except UserError as error:
        missing.extend(error.problems)
        return None


def _read_lines(path: Path, kind: type[R], *, absent: str, missing: list[str]) -> list[R]:
    """Read the lines up to the first one that is not a record, and add to ``missing`` why there are no more."""
    lines: list[R] = []
    if not path.exists():
        missing.append(absent)
        return lines
    try:
        # extend() keeps what came before the error: a log that is being written can end in half a line
        lines.extend(read_records(path, kind))
    except UserError as error:
        missing.extend(error.problems)
    return lines


def _run_record(run: RunDir) -> tuple[RunRecord, Recipe]:
    absent = [path.name for path in (run.recipe, run.resolved, run.record) if not path.exists()]
    if absent:
        raise UserError(f"{run.root}: not a run folder, {', '.join(absent)} missing. Name the folder of a run.")
    recipe = read_record(run.resolved, Recipe)
    for name in recipe.candidates:
        # the name is a folder here: "../x" would read the files of another run
        if Path(name).name != name:
            raise RecipeError(f'{run.resolved}: candidate "{name}" cannot be the name of a folder. Rename it.')
    return read_record(run.record, RunRecord), recipe


def _examples(run: RunDir, split: Split) -> list[Example]:
    path = run.examples(split)
    return list(read_records(path, Example)) if path.exists() else []


def _notes(run: RunDir, recipe: Recipe) -> tuple[str, ...]:
    notes = []
    if not run.examples("test").exists():
        notes.append("There are no test examples yet, so nothing is compared.")
    if not run.health.exists():
        notes.append("There is no record of the data's health yet.")
    there = {path.name for path in (run.root / "candidates").glob("*")}
    others = sorted(there - recipe.candidates.keys())
    notes.extend(f"The folder candidates/{name} is not in the recipe and is left out." for name in others)
    if recipe.forgetting != "off" and run.probe.exists() and (probe := read_record(run.probe, Probe)).leaks:
        notes.append(f"What it forgot: {leaks_in_words(probe)}")
    suites = dict.fromkeys(one.suite.partition("/")[0] for one in recipe.suites().values())
    notes.extend(f"The benchmark suite {name} is not asked yet." for name in suites if not run.bench(name).exists())
    return tuple(notes)


def _plans(run: RunDir) -> tuple[dict[str, CandidatePlan], tuple[str, ...]]:
    """Return what was planned for each candidate, or why that cannot be read; older runs have no plan."""
    if not run.plan.exists():
        return {}, ()
    try:
        return {one.name: one for one in read_record(run.plan, Plan).candidates}, ()
    except UserError as error:
        return {}, error.problems


def _thinned(points: list[TrainPoint]) -> tuple[TrainPoint, ...]:
    """Average neighbouring optimizer steps until at most ``CURVE_POINTS`` are left."""
    per_bin = -(-len(points) // CURVE_POINTS)
    if per_bin <= 1:
        return tuple(points)
    bins = [points[start : start + per_bin] for start in range(0, len(points), per_bin)]
    return tuple(
        group[-1].model_copy(
            update={
                "loss": _mean([point.loss for point in group]),
                "learning_rate": _mean([point.learning_rate for point in group]),
                "gradient_norm": _mean([point.gradient_norm for point in group]),
                "note": "",
            }
        )
        for group in bins
    )


def _mean(values: list[float | None]) -> float | None:
    finite = [value for value in values if value is not None and isfinite(value)]
    return sum(finite) / len(finite) if finite else None
