"""From a table to a first recipe: the columns are guessed, the guess is written down and can be changed."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tunesmith.data.guess import task_name
from tunesmith.data.sources import guess_task
from tunesmith.errors import UsageError
from tunesmith.progress import say
from tunesmith.recipe import load_recipe
from tunesmith.rundir import write_text
from tunesmith.settings import TaskSettings
from tunesmith.yamlfile import scalar

RECIPES = (".yaml", ".yml")
WORDS = ("y", "n", "yes", "no", "on", "off")  # truth values to other readers of YAML

HEAD = """\
# Written by `tunesmith init {table}`. Every line may be changed; docs/recipe.md lists what else there is.
name: {name}
model: smollm2-135m-instruct
"""

TAIL = """\
split: {train: 0.8, validation: 0.1, test: 0.1}    # group: COLUMN keeps rows of one customer, say, on one side
train: {epochs: 2}
candidates:                                        # the base model without shots, zero-shot, is always among them
  two-shot: {method: none, shots: 2}
  lora: {method: lora}
"""


def recipe_for(path: Path, overrides: Sequence[str] = ()) -> Path:
    """Return the recipe itself, or for a table the recipe that is written, once, into the current folder.

    Raises:
        UsageError: The recipe that is there already is of another table.
        RecipeError: It cannot be read.
    """
    if path.suffix.lower() in RECIPES:
        return path
    recipe = Path(f"{task_name(path)}.yaml")
    if recipe.exists():
        _check_table(path, recipe, overrides)
        say(f"{recipe}: this recipe is there already and is used; delete it to guess again from {path}.")
        return recipe
    return write_recipe(path, recipe)


def _check_table(table: Path, file: Path, overrides: Sequence[str]) -> None:
    """Refuse a table that its recipe does not name: tables in several folders may have one name."""
    recipe, _ = load_recipe(file, overrides)
    sources = recipe.tables(recipe.tasks, file.resolve().parent)
    if table.resolve() not in {source.resolve() for source in sources}:
        raise UsageError(
            f"{table}: the recipe {file} is there already and is of another table, {sources[0]}. Write one for this "
            f"table with `tunesmith init {table} --out NAME.yaml` and run that, or delete {file}."
        )


def write_recipe(table: Path, out: Path | None = None) -> Path:
    """Write a recipe for a table and return its path.

    Raises:
        DataError: The table cannot be read, or its columns do not tell what is prompt and what is answer.
        UsageError: The table is a recipe, or the file to write is there already.
    """
    if table.suffix.lower() in RECIPES:
        raise UsageError(f"{table}: this is a recipe, not a table. `tunesmith run {table}` runs it.")
    out = out or Path(f"{task_name(table)}.yaml")
    if out.exists():
        raise UsageError(f"{out}: this file is there already. Give --out another name, or delete it.")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {out.parent}. Make it, or give --out another name.")
    task = guess_task(table)
    source = os.path.relpath(table, out.resolve().parent) if table.exists() else str(table)
    head = HEAD.format(table=_word(str(table)), name=_word(task_name(table)))
    write_text(out, head + _task_text(task, source) + TAIL)
    say(f"{out}: written; {_guess(task)}")
    return out


def _task_text(task: TaskSettings, source: str) -> str:
    columns = ", ".join(f"{_word(variable)}: {_word(column)}" for variable, column in task.columns.items())
    lines = [f"name: {_word(task.name)}", f"source: {_word(source)}"]
    lines += [f"template: {task.template}"] if task.template else []
    lines += [f"columns: {{{columns}}}"] if columns else []
    lines += [f"choices: [{', '.join(map(_word, task.choices))}]"] if task.choices else []
    return "tasks:\n  - " + "\n    ".join(lines) + "\n"


def _word(text: str) -> str:
    """Return text as YAML has it: plain where every reader would take it for the same text, otherwise in quotes."""
    plain = (
        re.fullmatch(r"(\.\.?/)*[^\W\d]([\w./ -]*[\w./-])?", text)
        and text.lower() not in WORDS
        and scalar(text) == text
    )
    return text if plain else json.dumps(text, ensure_ascii=False)


def _guess(task: TaskSettings) -> str:
    columns = ", ".join(f"{variable} = {column}" for variable, column in task.columns.items())
    what = f"template {task.template}" if task.template else "the rows bring their own prompts"
    choices = f"; answers are one of {', '.join(task.choices)}" if task.choices else ""
    return what + (f" with {columns}" if columns else "") + choices
