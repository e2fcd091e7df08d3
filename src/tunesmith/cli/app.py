"""What all commands share: the application, the options that several have, and how they print."""

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith import __version__

app = typer.Typer(
    name="tunesmith",
    help="Adapt a language model to your own table of examples, and see what it brought.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def a_folder(text: str) -> Path:
    """Return the path of a folder; an empty name, which an unset variable of a shell leaves, is a usage error."""
    if not text.strip():
        raise typer.BadParameter('the name of the folder is empty. Name it; "." is the current one.')
    return Path(text)


def a_number(text: str) -> int:
    """Return a whole number; a usage error in our own words where it is none."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f'"{text}" is no whole number. Write it in digits.') from None


RecipeArg = Annotated[Path, typer.Argument(metavar="RECIPE", help="The YAML file of the run.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override one field of the recipe.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", parser=a_folder, help="Run folder; default runs/NAME.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no remarks.")]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Print the version."""
    if show:
        print(__version__)
        raise typer.Exit


def explained(command: Callable[..., None]) -> Callable[..., None]:
    """Apply --quiet before a command runs, and say in words what ended it."""

    @wraps(command)
    def wrapped(*args: Any, **options: Any) -> None:
        from tunesmith.environment import explained as in_words
        from tunesmith.progress import be_quiet

        be_quiet(bool(options.get("quiet")))
        with in_words():
            command(*args, **options)

    return wrapped


def print_json(value: Any) -> None:
    """Print one JSON object, with the version of its form."""
    print(json.dumps({"schema": 1, **value}, indent=1, ensure_ascii=False))


def console() -> Any:
    """Return what prints tables: as wide as the terminal; as wide as it takes, without colours, into a pipe."""
    from rich.console import Console

    colours: Any = None if os.environ.get("NO_COLOR") else "auto"
    width = None if sys.stdout.isatty() else 1000
    return Console(highlight=False, markup=False, emoji=False, color_system=colours, width=width)
