"""Commands that work with a recipe and its run folder, from the table to the report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.cli.app import AsJson, Out, Quiet, RecipeArg, Sets, a_number, app, console, explained, print_json
from tunesmith.errors import UsageError, did_you_mean


@app.command()
@explained
def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE or TABLE", help="A recipe, or a table to make one from.")],
    sets: Sets = [],  # noqa: B006
    out: Out = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Everything from the table to the report; picks up where it stopped."""
    from tunesmith.pipeline import run as run_pipeline
    from tunesmith.starting import recipe_for

    _show_report(run_pipeline(recipe_for(recipe, sets), overrides=sets, out=out), as_json)


@app.command()
@explained
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="csv, tsv, jsonl, json or parquet.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: NAME.yaml here.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write a recipe from a table: guesses the columns and says what it guessed."""
    from tunesmith.starting import write_recipe

    print(write_recipe(table, out))


@app.command()
@explained
def check(
    recipe: RecipeArg, sets: Sets = [], out: Out = None, as_json: AsJson = False, quiet: Quiet = False  # noqa: B006
) -> None:  # fmt: skip
    """Recipe, data and leakage, before anything heavy."""
    from tunesmith.checking import check_methods_here
    from tunesmith.opening import open_run
    from tunesmith.pipeline import check_named_suites, mixtures_of, prepare_data
    from tunesmith.probe_records import Probe
    from tunesmith.records import DataHealth
    from tunesmith.reporting.lines import print_health, print_mixtures, print_probe
    from tunesmith.rundir import read_record

    with open_run(recipe, overrides=sets, out=out) as job:
        job = prepare_data(job)
        check_methods_here(job.recipe, base=job.base)
        check_named_suites(job, fetch=False)
        mixtures = mixtures_of(job)
        health = read_record(job.dir.health, DataHealth)
        probe = None if job.recipe.forgetting == "off" else read_record(job.dir.probe, Probe)
        if as_json:
            found = {**health.model_dump(), "mixtures": [mixture.model_dump() for mixture in mixtures]}
            print_json({**found, "probe_leaks": [leak.model_dump() for leak in (probe.leaks if probe else ())]})
        else:
            print_health(health, console())
            if probe:
                print_probe(probe, console())
            print_mixtures(mixtures, console())


@app.command()
@explained
def show(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE or TEMPLATE", help="A recipe, or a name of the catalog.")],
    count: Annotated[
        int | None, typer.Option("-n", metavar="N", parser=a_number, help="Default: 3 examples, or all phrasings.")
    ] = None,
    sets: Sets = [],  # noqa: B006
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Rendered examples, with the tokens that are trained on in colour; or the phrasings of a template."""
    from tunesmith.data.templates import catalog

    if count is not None and count < 1:
        raise UsageError(f"-n {count}: ask for at least one.")
    if str(recipe) in catalog() and not recipe.exists():
        from tunesmith.listing import show_template

        if sets or out:
            raise UsageError(f"show: {recipe} is a template, and takes no --set and no --out. Leave them out.")
        return show_template(catalog()[str(recipe)], console(), count)
    if not recipe.suffix and not recipe.exists():
        near = did_you_mean(str(recipe), list(catalog()))
        raise UsageError(
            f"show: {recipe} is no recipe that is there, and no template.{near} `tunesmith ls templates` names those."
        )
    from tunesmith.opening import open_run
    from tunesmith.showing import show_examples

    with open_run(recipe, overrides=sets, out=out) as job:
        show_examples(job, count or 3, console())


@app.command()
@explained
def plan(
    recipe: RecipeArg, sets: Sets = [], out: Out = None, as_json: AsJson = False, quiet: Quiet = False  # noqa: B006
) -> None:  # fmt: skip
    """Parameters, memory, time and disk of each candidate, before anything heavy; what fits this machine."""
    from tunesmith.opening import open_run
    from tunesmith.pipeline import plan_run
    from tunesmith.planning.memory import PARTS
    from tunesmith.reporting.planned import print_plan

    with open_run(recipe, overrides=sets, out=out) as job:
        found = plan_run(job)
        if as_json:
            print_json({**found.model_dump(), "parts": PARTS})
        else:
            print_plan(found, console())


@app.command()
@explained
def train(recipe: RecipeArg, sets: Sets = [], out: Out = None, quiet: Quiet = False) -> None:  # noqa: B006
    """Tune every candidate that is not tuned yet."""
    from tunesmith.checking import check_methods
    from tunesmith.foresight import plan_ahead
    from tunesmith.opening import base_model, open_run
    from tunesmith.pipeline import check_named_suites, prepare_data
    from tunesmith.tuning import train_candidate

    with open_run(recipe, overrides=sets, out=out) as job:
        job = prepare_data(job)
        check_methods(job.recipe, base_model(job))
        check_named_suites(job, fetch=True)
        plan_ahead(job)
        for name in job.recipe.candidates:
            train_candidate(job, name)


@app.command()
@explained
def predict(recipe: RecipeArg, sets: Sets = [], out: Out = None, quiet: Quiet = False) -> None:  # noqa: B006
    """Answer the test examples, and the probe of what was forgotten, with every candidate."""
    from tunesmith.measuring import predict_perturbed
    from tunesmith.opening import open_run
    from tunesmith.pipeline import bench_named_suites, predict_candidate, prepare_data
    from tunesmith.probing import probe_candidate
    from tunesmith.records import PredictResult
    from tunesmith.steps import check_tuned, is_done

    with open_run(recipe, overrides=sets, out=out) as job:
        job = prepare_data(job)
        for name in job.recipe.candidates:  # of all, before the first takes its time to answer
            if not is_done(job.dir.candidate(name).predict_result, PredictResult):
                check_tuned(job, name)
        for name in job.recipe.candidates:
            predict_candidate(job, name)
            predict_perturbed(job, name)
            probe_candidate(job, name)
        bench_named_suites(job)


@app.command()
@explained
def score(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Predictions from anywhere: csv, tsv, jsonl, json.")],
    *,
    reference: Annotated[list[str], typer.Option("--reference", metavar="COLUMN")] = [],  # noqa: B006
    prediction: Annotated[list[str], typer.Option("--prediction", metavar="COLUMN")] = [],  # noqa: B006
    metric: Annotated[list[str], typer.Option("--metric", metavar="NAME", help="Default: rouge.")] = [],  # noqa: B006
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Score any file of predictions; several columns are compared with each other."""
    from tunesmith.metrics.files import score_file
    from tunesmith.reporting.lines import print_file_scores

    found = score_file(file, references=tuple(reference), predictions=tuple(prediction), metrics=tuple(metric))
    if as_json:
        print_json(found.model_dump())
    else:
        print_file_scores(found, console())


@app.command()
@explained
def report(
    recipe: RecipeArg, sets: Sets = [], out: Out = None, as_json: AsJson = False, quiet: Quiet = False  # noqa: B006
) -> None:  # fmt: skip
    """Score again and write the report from the files of a run."""
    from tunesmith.opening import open_run
    from tunesmith.pipeline import prepare_data, score_candidate
    from tunesmith.pipeline import report as write

    with open_run(recipe, overrides=sets, out=out, begun=True) as job:
        job = prepare_data(job)
        for name in job.recipe.candidates:
            if job.dir.candidate(name).predict_result.exists():
                score_candidate(job, name)
        _show_report(write(job), as_json)


def _show_report(found: Any, as_json: bool) -> None:
    if as_json:
        print(found.model_dump_json(indent=1))
    else:
        from tunesmith.reporting.terminal import print_summary

        print_summary(found, console())
