"""The command that hands what was learned to other programs."""

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.app import AsJson, Quiet, app, explained, print_json
from tunesmith.errors import GateError, UsageError


@app.command()
@explained
def export(
    places: Annotated[list[Path], typer.Argument(metavar="RUN_OR_ADAPTER...", help="Run or adapter folders.")],
    *,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge into the base, and prove that it says the same.")
    ] = False,
    check: Annotated[
        str | None, typer.Option("--check", metavar="PROGRAM", help="vllm, lorax, llamacpp, transformers or peft.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where the merged model goes.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="The base under the adapter; default: as trained.")
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="FORMAT", help="Of merged weights: float32, float16 or bfloat16.")
    ] = "float32",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Merge an adapter into its base, verified; or say whether another program can load it."""
    if merge == (check is not None):
        raise UsageError("export: say what is wanted, either --merge --out FOLDER or --check PROGRAM.")
    if merge:
        _merge(places, out, base=base, dtype=dtype, as_json=as_json)
    elif out or base or dtype != "float32":
        raise UsageError("export: --out, --base and --dtype go with --merge. Leave them out.")
    else:
        _check(places, str(check), as_json=as_json)


def _merge(places: list[Path], out: Path | None, *, base: str | None, dtype: str, as_json: bool) -> None:
    from tunesmith.exporting.merging import as_plain, dtype_of, merge_all
    from tunesmith.exporting.sources import find_adapters

    if out is None:
        raise UsageError("export: --merge needs --out FOLDER, where the merged model goes.")
    found = {}
    for folder, merged in merge_all(find_adapters(places), out, base=base, dtype=dtype_of(dtype)):
        found[folder] = merged
        if not as_json:
            print(f"{folder}: {merged.bytes / 1e6:.1f} MB in {merged.dtype}. {merged.sentence}")
    if as_json:
        print_json(as_plain(found))


def _check(places: list[Path], consumer: str, *, as_json: bool) -> None:
    from tunesmith.exporting.consumers import as_plain, check
    from tunesmith.exporting.sources import find_adapters

    found = [(source, check(source, consumer)) for source in find_adapters(places)]
    if as_json:
        print_json(as_plain(found))
    else:
        for source, verdict in found:
            print(f"{source.folder}: {consumer} {'can' if verdict.loads else 'cannot'} load it")
            for line in (*verdict.reasons, *verdict.notes):
                print(f"  {line}")
    if refused := [str(source.folder) for source, verdict in found if not verdict.loads]:
        raise GateError(f"{consumer} cannot load {', '.join(refused)}.")
