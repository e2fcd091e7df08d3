"""The whole way from a recipe to a report, on one page.

    recipe -> examples -> for every candidate: adapter -> predictions -> scores, probe -> report

Every step reads files and writes files in the run folder; a step whose files are there is skipped, so that the same
command goes on wherever the last one stopped.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith.checking import check_methods, check_rows, check_settings
from tunesmith.data.mixture import scored
from tunesmith.data.prepare import prepare
from tunesmith.data.templates import load_template
from tunesmith.foresight import plan_ahead
from tunesmith.measuring import measure_candidate, predict_perturbed
from tunesmith.metrics.scoring import expand_metrics
from tunesmith.mixtures import mixtures
from tunesmith.opening import Run, base_model, begin, check_seal, open_run, same_sources, timed
from tunesmith.plan_records import Plan
from tunesmith.probing import prepare_probe, probe_candidate
from tunesmith.progress import say
from tunesmith.records import DataHealth, Mixture, PredictResult
from tunesmith.reporting.contents import Report
from tunesmith.reporting.report import write_report
from tunesmith.rundir import read_records, write_record, write_records
from tunesmith.settings import TaskSettings
from tunesmith.steps import SPLITS, check_tuned, examples, is_done
from tunesmith.tuning import score_stages, score_task, train_candidate
from tunesmith.wording import many


def run(recipe_file: Path | str, *, overrides: Sequence[str] = (), out: Path | str | None = None) -> Report:
    """Do everything that a recipe asks for and that is not done yet; return what the report says."""
    with open_run(recipe_file, overrides=overrides, out=out) as job:
        job = prepare_data(job)
        check_methods(job.recipe, base_model(job))
        check_named_suites(job, fetch=True)
        plan_ahead(job)
        for name in job.recipe.candidates:
            train_candidate(job, name)
            predict_candidate(job, name)
            predict_perturbed(job, name)
            score_candidate(job, name)
            probe_candidate(job, name)
        found = report(job)  # before benchmark suites, which may take long
        return report(job) if bench_named_suites(job) else found


def prepare_data(job: Run) -> Run:
    """Rows of all tasks to examples of three splits, and the record of what became of every row.

    Returns:
        The run with its tasks filled in: guessed columns, and the choices and metrics of their templates.
    """
    recipe = job.recipe
    check_settings(recipe)
    files = (job.dir.health, job.dir.tasks, *map(job.dir.examples, SPLITS))
    if not all(path.exists() for path in files) or not same_sources(job):
        with timed(job, "data"):
            found = prepare(
                recipe.tasks, split=recipe.split, data=recipe.data, seed=recipe.seed, base=job.base,
                mixture=recipe.mixture,
            )  # fmt: skip
            for split in SPLITS:
                write_records(job.dir.examples(split), found.examples[split])
            write_records(job.dir.tasks, found.tasks)
            job.dir.probe.unlink(missing_ok=True)
            write_record(job.dir.health, found.health)  # last: its presence says that the step is done
        say_health(found.health)
    made = {task.name: task for task in read_records(job.dir.tasks, TaskSettings)}
    tasks = tuple(_with_metrics(made[task.name], task.metrics) for task in recipe.tasks)
    prepared = replace(job, recipe=recipe.model_copy(update={"tasks": tasks}))
    check_rows(prepared.recipe, {split: examples(prepared, split) for split in SPLITS})
    prepare_probe(job)
    return prepared


def _with_metrics(made: TaskSettings, asked: tuple[str, ...]) -> TaskSettings:
    """Return a prepared task with the metrics that the recipe names now: they need no new data and no new answers."""
    return made.model_copy(update={"metrics": asked or load_template(made).metrics})


def mixtures_of(job: Run) -> tuple[Mixture, ...]:
    """Return how the tasks of a prepared run share the training of its candidates; nothing where no mixture is set."""
    return mixtures(job.recipe, Counter(example.task for example in examples(job, "train")))


def plan_run(job: Run) -> Plan:
    """Plan every candidate, and what else would fit this machine; nothing is trained, and no plan is kept."""
    from tunesmith.planning.plan import make_plan

    job = prepare_data(job)
    check_methods(job.recipe, base_model(job))
    return make_plan(job.recipe, base_model(job), {split: examples(job, split) for split in SPLITS}, table=True)


def predict_candidate(job: Run, name: str) -> None:
    """Answer the test examples with one candidate."""
    where = job.dir.candidate(name)
    tasks = scored(job.recipe.tasks, job.recipe.mixture)
    files = [where.predictions(task) for task in tasks]
    if is_done(where.predict_result, PredictResult) and all(path.exists() for path in files):
        return
    from tunesmith.inference.answer import answer, load_candidate

    check_tuned(job, name)
    asked = examples(job, "test")
    begin(job, name)
    check_seal(job, name)
    with timed(job, f"predict {name}"):
        loaded = load_candidate(job.recipe, name, model=base_model(job), adapter=where.adapter)
        found = answer(job.recipe, name, loaded, examples=asked, training=examples(job, "train"))
        for task, predictions in found.predictions.items():
            write_records(where.predictions(task), predictions)
        write_record(where.predict_result, found.result)


def score_candidate(job: Run, name: str) -> None:
    """Score one candidate's predictions; needs no model, and can be done again at any time."""
    where = job.dir.candidate(name)
    for task in (task for task in job.recipe.tasks if task.name in scored(job.recipe.tasks, job.recipe.mixture)):
        score_task(job, name, where, task)
        metrics = expand_metrics(task.metrics, has_choices=bool(task.choices))
        write_record(where.measures(task.name), measure_candidate(job, name, task.name, metrics=metrics))
    score_stages(job, name)


def check_named_suites(job: Run, *, fetch: bool) -> None:
    """Refuse benchmark suites of the recipe that could not be asked, before anything heavy has begun.

    Args:
        job: Prepared.
        fetch: Whether their data sets may be fetched from the hub for it.
    """
    if job.recipe.suites():
        from tunesmith.suites.named import check_suites

        check_suites(job, fetch=fetch)


def bench_named_suites(job: Run) -> bool:
    """Put the benchmark suites of the recipe to the base and to all that was tuned; return whether any was asked."""
    if not job.recipe.suites():
        return False
    from tunesmith.suites.named import bench_suites

    return bench_suites(job)


def report(job: Run) -> Report:
    """Write report.html and report.json from the files of the run folder."""
    return write_report(job.dir)


def say_health(health: DataHealth) -> None:
    """Say in one line what became of the rows."""
    rows = ", ".join(f"{count} {split}" for split, count in health.rows_per_split.items())
    say(
        f"data: {many(health.rows_read, 'row')} read, {len(health.set_aside)} set aside, "
        f"{many(len(health.leaks), 'leak')}; {rows}. Every one is named in data/health.json and in the report."
    )
    for note in health.notes:
        say(f"data: {note}")
