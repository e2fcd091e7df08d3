"""The plan of a run: made before the first candidate is tuned, kept, and set beside what was taken."""

from tunesmith.errors import ResourceError
from tunesmith.opening import Run, base_model
from tunesmith.plan_records import Plan
from tunesmith.progress import say
from tunesmith.reporting.planned import outlook
from tunesmith.rundir import read_record, write_record
from tunesmith.steps import SPLITS, examples, is_over, is_tuned


def plan_ahead(job: Run) -> None:
    """Say what is left to do will take, and keep it, so that the report can set it beside what was taken."""
    left = [name for name in job.recipe.candidates if not is_over(job, name)]
    if all(job.recipe.candidates[name].method == "none" or is_tuned(job.dir.candidate(name)) for name in left):
        return  # answering alone is soon done
    from tunesmith.planning.plan import NOT_SUITES, make_plan

    try:
        found = make_plan(job.recipe, base_model(job), {split: examples(job, split) for split in SPLITS}, names=left)
    except ResourceError as error:
        say(f"{error} The run goes on without a plan.")
        return
    say(outlook(found))
    if job.recipe.suites():
        say(f"plan: {NOT_SUITES}")
    known = planned(job)
    kept = [one for one in known.candidates if one.name not in left] if known else []
    write_record(job.dir.plan, found.model_copy(update={"candidates": (*kept, *found.candidates)}))


def planned(job: Run) -> Plan | None:
    """Return what was planned for this run, if anything was."""
    return read_record(job.dir.plan, Plan) if job.dir.plan.exists() else None
