"""One candidate tuned: on all tasks together, or on one after the other and asked about all of them after each."""

import shutil
from collections.abc import Callable, Sequence

from tunesmith.errors import UserError
from tunesmith.foresight import planned
from tunesmith.metrics.scoring import expand_metrics, score_predictions
from tunesmith.mixtures import tuned_tasks
from tunesmith.models.load import Loaded
from tunesmith.opening import Run, base_model, begin, seal, timed
from tunesmith.recipe import train_settings
from tunesmith.records import Example, Prediction, PredictResult, ScoreSheet
from tunesmith.rundir import CandidateDir, read_records, write_record, write_records
from tunesmith.settings import TaskSettings
from tunesmith.steps import examples, is_done, is_tuned


def train_candidate(job: Run, name: str) -> None:
    """Tune one candidate, unless it is the base or is tuned already."""
    where = job.dir.candidate(name)
    if job.recipe.candidates[name].method == "none" or is_tuned(where):
        return
    from tunesmith.planning.room import check_room

    plan = planned(job)
    for one in plan.candidates if plan else ():
        if one.name == name:
            check_room(one, where.root)
    begin(job, name)
    if job.recipe.sequence:
        _tune_in_turn(job, name)
    else:
        with timed(job, f"train {name}"):
            _tune(job, name, where, tasks=tuned_tasks(job.recipe, name))
    seal(job, name)


def stages(job: Run, name: str) -> list[tuple[str, CandidateDir]]:
    """Return the tasks of a sequence, each with the folder of the stage; the last one's is the candidate's own."""
    where, sequence = job.dir.candidate(name), job.recipe.sequence
    early = [(task, where.stage(number, task)) for number, task in enumerate(sequence[:-1], 1)]
    return [*early, (sequence[-1], where)]


def score_task(job: Run, name: str, where: CandidateDir, task: TaskSettings) -> ScoreSheet:
    """Score the answers to one task that lie in a folder, and write the sheet beside them."""
    if not where.predictions(task.name).exists():
        raise UserError(f'candidate "{name}" has no predictions for task {task.name} yet. Run `tunesmith predict`.')
    own = [example for example in examples(job, "test") if example.task == task.name]
    metrics = expand_metrics(task.metrics, has_choices=bool(task.choices))
    predictions = list(read_records(where.predictions(task.name), Prediction))
    sheet = score_predictions(own, predictions, candidate=name, task=task.name, metrics=metrics, seed=job.recipe.seed)
    write_record(where.scores(task.name), sheet)
    return sheet


def score_stages(job: Run, name: str) -> None:
    """Score what a candidate answered between the tasks of a sequence; its last answers are scored as any other's."""
    if not job.recipe.sequence or job.recipe.candidates[name].method == "none":
        return
    for _, where in stages(job, name)[:-1]:
        for task in _in_sequence(job):
            score_task(job, name, where, task)


def _tune_in_turn(job: Run, name: str) -> None:
    """Tune on every task from where the one before has ended."""
    before: CandidateDir | None = None
    for number, (task, where) in enumerate(stages(job, name), 1):
        last = number == len(job.recipe.sequence)
        if not is_tuned(where):
            with timed(job, f"train {name} on {task}"):
                _tune(job, name, where, tasks=[task], before=before, keep=not last)
        if before:
            shutil.rmtree(before.learned, ignore_errors=True)  # the next stage has it
        if not last:
            _answer_stage(job, name, where, task)
        before = where


def _tune(
    job: Run, name: str, where: CandidateDir, *, tasks: Sequence[str], before: CandidateDir | None = None,
    keep: bool = False,
) -> None:  # fmt: skip
    from tunesmith.training.tune import Ingredients, tune

    training, validation = (
        [example for example in examples(job, split) if example.task in tasks] for split in ("train", "validation")
    )
    best = train_settings(job.recipe, name).keep_best
    given = Ingredients(
        job.recipe, base_model(job), training, validation, start=before.learned if before else None, keep=keep
    )
    tune(given, name, where, score=None if best == "loss" else _validation_score(job, name, best, validation))


def _answer_stage(job: Run, name: str, where: CandidateDir, task: str) -> None:
    """Answer the test examples of all tasks of the sequence after one of them was tuned on."""
    tasks = _in_sequence(job)
    if is_done(where.predict_result, PredictResult) and all(where.predictions(one.name).exists() for one in tasks):
        return
    from tunesmith.inference.answer import answer, load_candidate

    names = [one.name for one in tasks]
    asked = [example for example in examples(job, "test") if example.task in names]
    with timed(job, f"predict {name} after {task}"):
        loaded = load_candidate(job.recipe, name, model=base_model(job), adapter=where.adapter)
        found = answer(job.recipe, name, loaded, examples=asked, training=examples(job, "train"))
        for one, predictions in found.predictions.items():
            write_records(where.predictions(one), predictions)
        write_record(where.predict_result, found.result)


def _in_sequence(job: Run) -> list[TaskSettings]:
    return [task for task in job.recipe.tasks if task.name in job.recipe.sequence]


def _validation_score(job: Run, name: str, metric: str, asked: Sequence[Example]) -> Callable[[Loaded], float]:
    from tunesmith.inference.answer import answer

    training = examples(job, "train")

    def score(loaded: Loaded) -> float:
        found = answer(job.recipe, name, loaded, examples=asked, training=training)
        values = []
        for task, predictions in found.predictions.items():
            own = [example for example in asked if example.task == task]
            sheet = score_predictions(own, predictions, candidate=name, task=task, metrics=(metric,))
            values.append(sheet.scores[0].value * (1 if sheet.scores[0].higher_is_better else -1))
        return sum(values) / len(values)

    return score
