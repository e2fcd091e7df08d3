"""What a run measures beside the average: answers to perturbed copies of its test examples, and what follows from them.

    test examples -> perturbed copies -> for every candidate: their answers -> worst cases

The copies are the same every time; they are written down so that everyone can read what was asked.
"""

from collections.abc import Sequence

from tunesmith.data.perturb import KINDS, chosen, perturbed
from tunesmith.errors import UserError
from tunesmith.metrics.measures import Measures, measure_sheet
from tunesmith.metrics.worst import WorstCase, worst_cases
from tunesmith.opening import Run, base_model, check_seal, timed
from tunesmith.records import Example, Family, Perturbed, Prediction
from tunesmith.rundir import read_records, write_records


def predict_perturbed(job: Run, name: str) -> None:
    """Answer what one candidate has not answered yet of the copies that the recipe asks for; often that is none."""
    where, copies = job.dir.candidate(name), perturbed_copies(job)
    known = {task.name: _answered(job, name, task.name) for task in job.recipe.tasks}
    done = {prediction.example_id for found in known.values() for prediction in found}
    asked = [copy.example for copy in copies if copy.example.id not in done]
    if not asked:
        return
    from tunesmith.inference.answer import answer, load_candidate

    if not job.dir.perturbed.exists() or list(read_records(job.dir.perturbed, Perturbed)) != copies:
        write_records(job.dir.perturbed, copies)
    check_seal(job, name)
    with timed(job, f"perturb {name}"):
        loaded = load_candidate(job.recipe, name, model=base_model(job), adapter=where.adapter)
        training = list(read_records(job.dir.examples("train"), Example))
        found = answer(job.recipe, name, loaded, examples=asked, training=training)
        for task, predictions in found.predictions.items():
            write_records(where.perturbed(task), [*known[task], *predictions])


def measure_candidate(job: Run, name: str, task: str, *, metrics: Sequence[str]) -> Measures:
    """Measure the answers of one candidate to one task; needs no model.

    Args:
        job: Its answers are there.
        name: Of the candidate.
        task: Name of the task.
        metrics: Those of the task, whose worst cases are taken.

    Raises:
        UserError: Perturbed copies are asked for and not answered yet.
    """
    own = [example for example in read_records(job.dir.examples("test"), Example) if example.task == task]
    predictions = list(read_records(job.dir.candidate(name).predictions(task), Prediction))
    return Measures(
        candidate=name,
        task=task,
        sheet=measure_sheet(own, predictions, candidate=name, task=task, seed=job.recipe.seed),
        worst=_worst(job, name, own, predictions=predictions, metrics=metrics),
    )


def families(job: Run) -> tuple[Family, ...]:
    """Return the families of perturbations that the recipe asks for."""
    return tuple(family for family in KINDS if getattr(job.recipe.measures, family))


def perturbed_copies(job: Run) -> list[Perturbed]:
    """Return the perturbed copies of test examples that the recipe asks for."""
    asked = families(job)
    test = list(read_records(job.dir.examples("test"), Example)) if asked else []
    return perturbed(test, families=asked, rows=job.recipe.measures.rows, seed=job.recipe.seed)


def _worst(
    job: Run, name: str, own: Sequence[Example], *, predictions: Sequence[Prediction], metrics: Sequence[str]
) -> tuple[WorstCase, ...]:
    if not families(job):
        return ()
    task = own[0].task
    answered = {prediction.example_id: prediction for prediction in _answered(job, name, task)}
    copies = [copy for copy in perturbed_copies(job) if copy.example.task == task]
    missing = sum(copy.example.id not in answered for copy in copies)
    if missing:
        raise UserError(
            f'candidate "{name}" has not answered {missing} of {len(copies)} perturbed examples of task {task} yet. '
            "Run `tunesmith predict`."
        )
    given = {prediction.example_id: prediction for prediction in predictions}
    kept = chosen(own, rows=job.recipe.measures.rows, seed=job.recipe.seed)
    return worst_cases(
        [(example, given[example.id]) for example in kept],
        [(copy, answered[copy.example.id]) for copy in copies],
        families=families(job),
        metrics=metrics,
        seed=job.recipe.seed,
    )


def _answered(job: Run, name: str, task: str) -> list[Prediction]:
    path = job.dir.candidate(name).perturbed(task)
    return list(read_records(path, Prediction)) if path.exists() else []
