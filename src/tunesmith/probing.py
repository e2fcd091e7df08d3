"""What a run asks beside its tasks: one probe for the base and all that was tuned, to see what was forgotten."""

from tunesmith.data.prepare import place
from tunesmith.data.splits import Placed
from tunesmith.forgetting.asked import Rows, leaks_in_words, make_probe, wanted
from tunesmith.models.fetch import sha256
from tunesmith.opening import Run, base_model, begin, changed_files, check_seal, timed
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.progress import say
from tunesmith.recipe import ZERO_SHOT
from tunesmith.records import Split
from tunesmith.rundir import read_record, write_record
from tunesmith.steps import check_tuned, examples

PRACTISED: tuple[Split, ...] = ("train", "validation")


def probe_candidate(job: Run, name: str) -> None:
    """Ask the base, and what was tuned from it, what both should know; unless it is asked already, or asked nothing."""
    where, candidate = job.dir.candidate(name), job.recipe.candidates[name]
    if job.recipe.forgetting == "off" or (candidate.method == "none" and name != ZERO_SHOT):
        return
    digest = sha256(job.dir.probe)
    if where.probe_result.exists() and read_record(where.probe_result, ProbeResult).probe == digest:
        return
    from tunesmith.inference.answer import load_candidate
    from tunesmith.inference.probe import take_probe

    probe = read_record(job.dir.probe, Probe)
    check_tuned(job, name)
    begin(job, name)
    check_seal(job, name)
    with timed(job, f"probe {name}"):
        loaded = load_candidate(job.recipe, name, model=base_model(job), adapter=where.adapter)
        write_record(where.probe_result, take_probe(loaded, probe, name=name, digest=digest))


def prepare_probe(job: Run) -> None:
    """Write what is asked beside the tasks, once for all candidates; nothing where the recipe wants none of it.

    Args:
        job: As it was opened, the columns of its tasks not guessed yet: their rows are read again where own tasks are
            compared with them. Its examples are written.
    """
    recipe = job.recipe
    if recipe.forgetting == "off":
        return
    if job.dir.probe.exists():
        made = read_record(job.dir.probe, Probe)
        changed = changed_files(job, tuple(recipe.kept().values()), set(made.files.values()))
        if made.wanted == wanted(recipe.forgetting) and not changed:
            return
        for path in changed:
            say(f"forgetting: {path} is not as it was; what is asked is made anew")
    rows = Rows(recipe.split, recipe.data, recipe.seed, job.base)
    probe = make_probe(recipe.forgetting, rows, practised=_practised(job) if recipe.kept() else ())
    write_record(job.dir.probe, probe)
    if probe.leaks:
        say(f"forgetting: {leaks_in_words(probe)}")


def _practised(job: Run) -> list[Placed]:
    """Return the rows that candidates are trained and chosen by."""
    recipe = job.recipe
    used = {example.id for split in PRACTISED for example in examples(job, split)}
    rows = place(
        recipe.tasks, split=recipe.split, data=recipe.data, seed=recipe.seed, base=job.base, mixture=recipe.mixture
    )
    return [row for row in rows if row.id in used]
