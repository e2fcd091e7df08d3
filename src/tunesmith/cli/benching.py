"""The command that runs public benchmark suites."""

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.app import AsJson, Quiet, a_number, app, console, explained, print_json


@app.command()
@explained
def bench(
    suites: Annotated[list[str], typer.Argument(metavar="SUITE...", help="A suite, or a task as superglue/boolq.")],
    *,
    model: Annotated[str | None, typer.Option("--model", help="Catalog name, hub id, folder or .gguf file.")] = None,
    adapter: Annotated[list[Path], typer.Option("--adapter", metavar="FOLDER", help="Of a candidate.")] = [],  # noqa: B006
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FOLDER", help="Local files; default: the hub.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", parser=a_number, help="Items of each task, drawn by the seed.")
    ] = None,
    shots: Annotated[
        int | None,
        typer.Option("--shots", metavar="N", parser=a_number, help="Worked examples; default: as the suite has it."),
    ] = None,
    chat_template: Annotated[bool, typer.Option("--chat-template", help="Ask in the model's chat template.")] = False,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", parser=a_number, help="Decides which items are drawn.")
    ] = 0,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where bench/ goes, as a run folder.")] = Path(),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Public benchmark suites on the base and on what was tuned from it, with the differences."""
    from tunesmith.reporting.benched import print_bench
    from tunesmith.suites.bench import bench as run_suites
    from tunesmith.suites.request import Request

    request = Request(
        suites=tuple(suites), model=model, adapters=tuple(adapter), data=data, limit=limit, shots=shots,
        chat_template=chat_template, seed=seed,
    )  # fmt: skip
    found = run_suites(request, out=out)
    if as_json:
        print_json({"suites": [result.model_dump(by_alias=True) for result in found]})
    else:
        print_bench(found, console())
