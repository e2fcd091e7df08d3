"""Commands that show what there is to choose from, fetch models, and look at this machine."""

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.app import AsJson, Quiet, app, explained, print_json


@app.command("ls")
@explained
def list_things(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="models, methods, templates, metrics, suites or runs.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """What there is to choose from."""
    from tunesmith.listing import listing

    rows = listing(what)
    if as_json:
        print_json({what: rows})
    else:
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            print(f"{row['name']:<{width}}  {row['about']}")


@app.command()
@explained
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
@explained
def doctor(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """This machine: cores, memory, number formats, versions."""
    from tunesmith.listing import diagnose

    found = diagnose()
    if as_json:
        print_json(found)
    else:
        for name, value in found.items():
            print(f"{name:<22} {value}")
