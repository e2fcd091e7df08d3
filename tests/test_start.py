"""What starts a second later than it must, and what works without torch at all."""

import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.registry import METHODS

HEAVY = ("torch", "transformers", "peft", "datasets", "pyarrow", "sacrebleu", "numpy")
SRC = Path(__file__).parents[1] / "src" / "tunesmith"


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules(*names: str) -> list[str]:
    """The dotted names of the given modules, and of all modules in the given folders."""
    found = []
    for name in names:
        files = sorted((SRC / name).rglob("*.py")) if (SRC / name).is_dir() else [SRC / f"{name}.py"]
        ways = [".".join(("tunesmith", *file.relative_to(SRC).with_suffix("").parts)) for file in files]
        found += [way.removesuffix(".__init__") for way in ways]
    return found


def loaded_after(imports: list[str]) -> set[str]:
    code = f"import sys; import {', '.join(imports)}; print('\\n'.join(sys.modules))"
    return set(python(code).split())


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after(["tunesmith"]) & {*HEAVY, "pydantic", "rich", "typer"} == set()


def test_the_torch_free_half_is_free_of_torch() -> None:
    light = modules("cli", "recipe", "settings", "records", "rundir", "registry", "data", "metrics", "reporting")
    assert len(light) > 20
    assert loaded_after(light) & {"torch", "transformers", "peft"} == set()


def test_methods_can_be_listed_and_checked_without_torch() -> None:
    methods = [name.partition(":")[0] for name in METHODS.values()]
    assert loaded_after([*methods, "tunesmith.recipe"]) & {"torch", "transformers", "peft"} == set()


def test_help_is_printed_without_loading_anything_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['tunesmith', '--help']\n"
        "from tunesmith.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('LOADED', [name for name in {HEAVY} if name in sys.modules])"
    )
    text = python(code)
    assert "tunesmith" in text
    assert text.splitlines()[-1] == "LOADED []"


def test_the_package_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunesmith", "ls", "methods"], capture_output=True, text=True, check=True
    )
    assert "lora" in done.stdout


@pytest.mark.parametrize("word", ["run", "init", "check", "train", "score", "report", "ls", "doctor"])
def test_every_command_that_is_promised_is_in_the_help(word: str) -> None:
    from typer.testing import CliRunner

    from tunesmith.cli import app

    found = CliRunner().invoke(app, ["--help"])
    assert found.exit_code == 0
    assert f" {word} " in found.stdout
