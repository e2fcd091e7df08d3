"""What a run asks beside its tasks: one probe for the base and all that was tuned, to see what was forgotten."""

from tunesmith.forgetting.asked import make_probe, wanted
from tunesmith.models.fetch import sha256
from tunesmith.opening import Run, base_model, begin, check_seal, timed
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.recipe import ZERO_SHOT
from tunesmith.rundir import read_record, write_record
from tunesmith.steps import check_tuned


def probe_candidate(job: Run, name: str) -> None:
    """Ask the base, and what was tuned from it, what both should know; unless it is asked already, or asked nothing."""
    where, candidate = job.dir.candidate(name), job.recipe.candidates[name]
    probe = prepare_probe(job)
    if probe is None or (candidate.method == "none" and name != ZERO_SHOT):
        return
    digest = sha256(job.dir.probe)
    if where.probe_result.exists() and read_record(where.probe_result, ProbeResult).probe == digest:
        return
    from tunesmith.inference.answer import load_candidate
    from tunesmith.inference.probe import take_probe

    check_tuned(job, name)
    begin(job, name)
    check_seal(job, name)
    with timed(job, f"probe {name}"):
        loaded = load_candidate(job.recipe, name, model=base_model(job), adapter=where.adapter)
        write_record(where.probe_result, take_probe(loaded, probe, name=name, digest=digest))


def prepare_probe(job: Run) -> Probe | None:
    """Return what is asked beside the tasks, made once for all candidates; None where the recipe wants none of it."""
    recipe = job.recipe
    if recipe.forgetting == "off":
        return None
    if job.dir.probe.exists():
        made = read_record(job.dir.probe, Probe)
        if made.wanted == wanted(recipe.forgetting):
            return made
    probe = make_probe(recipe.forgetting, split=recipe.split, data=recipe.data, seed=recipe.seed, base=job.base)
    write_record(job.dir.probe, probe)
    return probe
