"""The commands: read the arguments, call one function, print. Data goes to stdout, everything else to stderr."""

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith import __version__
from tunesmith.errors import UsageError

app = typer.Typer(
    name="tunesmith",
    help="Adapt a language model to your own table of examples, and see what it brought.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeArg = Annotated[Path, typer.Argument(metavar="RECIPE", help="The YAML file of the run.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override one field of the recipe.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Run folder; default runs/NAME.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no remarks.")]


def main() -> None:
    """Run the command that the arguments name; the process ends with 0, or with the code of what went wrong."""
    from tunesmith.environment import calm

    calm()
    app(prog_name="tunesmith")


def _explained(command: Callable[..., None]) -> Callable[..., None]:
    """Apply --quiet before a command runs, and say in words what ended it."""

    @wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        from tunesmith.environment import explained
        from tunesmith.progress import be_quiet

        be_quiet(bool(options.get("quiet")))
        with explained():
            command(*args, **options)

    return wrapped


def _print_json(value: Any) -> None:
    print(json.dumps({"schema": 1, **value}, indent=1, ensure_ascii=False))


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Print the version."""
    if show:
        print(__version__)
        raise typer.Exit


@app.command()
@_explained
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

    _show_report(run_pipeline(recipe_for(recipe), overrides=sets, out=out), as_json)


@app.command()
@_explained
def init(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="csv, tsv, jsonl, json or parquet.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: NAME.yaml here.")] = None,
    quiet: Quiet = False,
) -> None:
    """Write a recipe from a table: guesses the columns and says what it guessed."""
    from tunesmith.starting import write_recipe

    print(write_recipe(table, out))


@app.command()
@_explained
def check(
    recipe: RecipeArg, sets: Sets = [], out: Out = None, as_json: AsJson = False, quiet: Quiet = False  # noqa: B006
) -> None:  # fmt: skip
    """Recipe, data and leakage, before anything heavy."""
    from tunesmith.opening import open_run
    from tunesmith.pipeline import prepare_data
    from tunesmith.records import DataHealth
    from tunesmith.reporting.lines import print_health
    from tunesmith.rundir import read_record

    with open_run(recipe, overrides=sets, out=out) as job:
        prepare_data(job)
        health = read_record(job.dir.health, DataHealth)
        if as_json:
            _print_json(health.model_dump())
        else:
            print_health(health, _console())


@app.command()
@_explained
def show(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE or TEMPLATE", help="A recipe, or a name of the catalog.")],
    count: Annotated[int | None, typer.Option("-n", help="Default: 3 examples, or all phrasings.", min=1)] = None,
    sets: Sets = [],  # noqa: B006
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Rendered examples, with the tokens that are trained on in colour; or the phrasings of a template."""
    from tunesmith.data.templates import catalog

    if str(recipe) in catalog() and not recipe.exists():
        from tunesmith.listing import show_template

        if sets or out:
            raise UsageError(f"show: {recipe} is a template, and takes no --set and no --out. Leave them out.")
        return show_template(catalog()[str(recipe)], _console(), count)
    from tunesmith.opening import open_run
    from tunesmith.showing import show_examples

    with open_run(recipe, overrides=sets, out=out) as job:
        show_examples(job, count or 3, _console())


@app.command()
@_explained
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
            _print_json({**found.model_dump(), "parts": PARTS})
        else:
            print_plan(found, _console())


@app.command()
@_explained
def train(recipe: RecipeArg, sets: Sets = [], out: Out = None, quiet: Quiet = False) -> None:  # noqa: B006
    """Tune every candidate that is not tuned yet."""
    from tunesmith.checking import check_methods
    from tunesmith.foresight import plan_ahead
    from tunesmith.opening import base_model, open_run
    from tunesmith.pipeline import prepare_data, train_candidate

    with open_run(recipe, overrides=sets, out=out) as job:
        job = prepare_data(job)
        check_methods(job.recipe, base_model(job))
        plan_ahead(job)
        for name in job.recipe.candidates:
            train_candidate(job, name)


@app.command()
@_explained
def predict(recipe: RecipeArg, sets: Sets = [], out: Out = None, quiet: Quiet = False) -> None:  # noqa: B006
    """Answer the test examples, and the probe of what was forgotten, with every candidate."""
    from tunesmith.measuring import predict_perturbed
    from tunesmith.opening import open_run
    from tunesmith.pipeline import predict_candidate, prepare_data
    from tunesmith.probing import probe_candidate

    with open_run(recipe, overrides=sets, out=out) as job:
        job = prepare_data(job)
        for name in job.recipe.candidates:
            predict_candidate(job, name)
            predict_perturbed(job, name)
            probe_candidate(job, name)


@app.command()
@_explained
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
        _print_json(found.model_dump())
    else:
        print_file_scores(found, _console())


@app.command()
@_explained
def report(
    recipe: RecipeArg, sets: Sets = [], out: Out = None, as_json: AsJson = False, quiet: Quiet = False  # noqa: B006
) -> None:  # fmt: skip
    """Score again and write the report from the files of a run."""
    from tunesmith.opening import open_run
    from tunesmith.pipeline import prepare_data, score_candidate
    from tunesmith.pipeline import report as write

    with open_run(recipe, overrides=sets, out=out) as job:
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

        print_summary(found, _console())


def _console() -> Any:
    """Return what prints tables: as wide as the terminal; as wide as it takes, without colours, into a pipe."""
    from rich.console import Console

    colours: Any = None if os.environ.get("NO_COLOR") else "auto"
    width = None if sys.stdout.isatty() else 1000
    return Console(highlight=False, markup=False, emoji=False, color_system=colours, width=width)


@app.command("ls")
@_explained
def list_things(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="models, methods, templates, metrics or runs.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """What there is to choose from."""
    from tunesmith.listing import listing

    rows = listing(what)
    if as_json:
        _print_json({what: rows})
    else:
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            print(f"{row['name']:<{width}}  {row['about']}")


@app.command()
@_explained
def pull(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Catalog name, hub id or .gguf file.")],
    quiet: Quiet = False,
) -> None:
    """Fetch a model's weights, and convert them where needed; prints the folder."""
    from tunesmith.models.load import materialize
    from tunesmith.models.load import quiet as hush

    hush()
    print(materialize(model, base=Path.cwd()))


@app.command()
@_explained
def doctor(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """This machine: cores, memory, number formats, versions."""
    from tunesmith.listing import diagnose

    found = diagnose()
    if as_json:
        _print_json(found)
    else:
        for name, value in found.items():
            print(f"{name:<22} {value}")


if __name__ == "__main__":
    main()
