from pathlib import Path
from typing import Any

import pytest
import yaml
from small_run import chats, write_table

from tunesmith.errors import DataError, UsageError
from tunesmith.recipe import load_recipe
from tunesmith.settings import TaskSettings
from tunesmith.starting import recipe_for, write_recipe


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_recipe_is_taken_as_it_is(here: Path) -> None:
    for name in ("a.yaml", "b.YML"):
        assert recipe_for(Path(name)) == Path(name)
    assert list(here.iterdir()) == []


def test_a_recipe_is_told_from_a_table() -> None:
    Path("a.yaml").write_text("name: a\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"^a\.yaml: this is a recipe, not a table\. `tunesmith run a\.yaml`"):
        write_recipe(Path("a.yaml"), Path("b.yaml"))


def test_a_table_gets_a_recipe_that_holds_the_guess(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(Path("My chats (2).csv"))
    written = recipe_for(Path("My chats (2).csv"))
    assert written == Path("my-chats-2.yaml")
    assert written.read_text(encoding="utf-8") == (
        '# Written by `tunesmith init "My chats (2).csv"`. Every line may be changed; docs/recipe.md lists what else '
        "there is.\n"
        "name: my-chats-2\n"
        "model: smollm2-135m-instruct\n"
        "tasks:\n"
        "  - name: my-chats-2\n"
        '    source: "My chats (2).csv"\n'
        "    template: dialogue-summary\n"
        "split: {train: 0.8, validation: 0.1, test: 0.1}    # group: COLUMN keeps rows of one customer, say, on one "
        "side\n"
        "train: {epochs: 2}\n"
        "candidates:                                        # the base model without shots, zero-shot, is always among "
        "them\n"
        "  two-shot: {method: none, shots: 2}\n"
        "  lora: {method: lora}\n"
    )
    assert capsys.readouterr().err == "my-chats-2.yaml: written; template dialogue-summary\n"


def test_a_recipe_that_is_there_is_used_and_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    mine = "name: mine\ntasks: [{source: chats.csv}]\n"
    Path("chats.yaml").write_text(mine, encoding="utf-8")
    assert recipe_for(Path("chats.csv")) == Path("chats.yaml")
    assert Path("chats.yaml").read_text(encoding="utf-8") == mine
    assert capsys.readouterr().err == (
        "chats.yaml: this recipe is there already and is used; delete it to guess again from chats.csv.\n"
    )


def task(table: Path, out: Path | None = None) -> TaskSettings:
    """What the recipe that is written for a table says, read by our parser; PyYAML must read the same names."""
    written = write_recipe(table, out)
    recipe, text = load_recipe(written)
    assert str(yaml.safe_load(text)["tasks"][0]["name"]) == recipe.tasks[0].name
    return recipe.tasks[0]


def test_columns_and_classes_are_written_down(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(
        Path("reviews.csv"),
        header=("review", "number", "stars"),
        rows=[(a, b, "15"[m == "good"]) for a, b, m in chats()],
    )
    found = task(Path("reviews.csv"))
    assert found.template == "text-label"
    assert found.columns == {"text": "review", "label": "stars"}
    assert found.choices == ("1", "5")
    assert capsys.readouterr().err == (
        "reviews.yaml: written; template text-label with text = review, label = stars; answers are one of 1, 5\n"
    )


@pytest.mark.parametrize("name", ["2024", "1e5", "null", "true", "no", "0x1f", "-", "1_0", "café", "a: b", "a #b"])
def test_a_name_that_yaml_would_take_for_something_else_stays_a_name(name: str) -> None:
    write_table(Path(f"{name}.csv"))
    found = task(Path(f"{name}.csv"))
    assert found.source == f"{name}.csv"


@pytest.mark.parametrize("label", ["yes", "true", "null", "1e3", "~", "a, b", "x]", "a: b", "# no", '"', "it's"])
def test_a_class_that_yaml_would_take_for_something_else_stays_a_class(label: str) -> None:
    write_table(
        Path("t.csv"), header=("text", "x", "label"), rows=[(a, b, (label, "other")[m == "bad"]) for a, b, m in chats()]
    )
    assert set(task(Path("t.csv")).choices) == {label, "other"}


def test_the_source_is_found_from_where_the_recipe_lies() -> None:
    Path("data").mkdir()
    Path("recipes").mkdir()
    write_table(Path("data/chats.csv"))
    assert task(Path("data/chats.csv"), Path("recipes/r.yaml")).source == "../data/chats.csv"
    assert "    source: ../data/chats.csv\n" in Path("recipes/r.yaml").read_text(encoding="utf-8")


def test_rows_that_bring_their_own_prompt_need_no_template() -> None:
    rows: list[Any] = [f'{{"prompt": "{a}", "completion": "{b}"}}\n' for a, b, _ in chats()]
    Path("rows.jsonl").write_text("".join(rows), encoding="utf-8")
    found = task(Path("rows.jsonl"))
    assert (found.template, found.columns) == (None, {})


def test_a_recipe_of_another_table_with_the_same_name_is_not_used(here: Path) -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        write_table(Path(folder, "tab.csv"))
    recipe = write_recipe(Path("a/tab.csv"))
    assert recipe_for(Path("a/tab.csv")) == recipe
    says = r"^b/tab\.csv: the recipe tab\.yaml is there already and is of another"
    with pytest.raises(UsageError, match=says) as error:
        recipe_for(Path("b/tab.csv"))
    assert f"table, {(here / 'a' / 'tab.csv').resolve()}. Write one" in str(error.value)
    assert recipe_for(Path("b/tab.csv"), ["tasks.0.source=b/tab.csv"]) == recipe


def test_the_shipped_chats_can_be_named() -> None:
    assert task(Path("support")).source == "support"


@pytest.mark.parametrize(
    ("table", "out", "kind", "says"),
    [
        (
            "chats.csv", "there.yaml", UsageError,
            "there.yaml: this file is there already. Give --out another name, or delete it.",
        ),
        (
            "chats.csv", "no/r.yaml", UsageError,
            "no/r.yaml: there is no folder no. Make it, or give --out another name.",
        ),
        (
            "table.txt", None, DataError,
            'table.txt: the ending ".txt" is not read; .csv, .tsv, .jsonl, .ndjson, .json, .parquet are. Save it as '
            "one of these.",
        ),
    ],
)  # fmt: skip
def test_nothing_is_written_where_it_cannot_be(
    table: str, out: str | None, kind: type[Exception], says: str, here: Path
) -> None:
    write_table(Path("chats.csv"))
    Path("there.yaml").write_text("", encoding="utf-8")
    before = sorted(here.iterdir())
    with pytest.raises(kind) as error:
        write_recipe(Path(table), Path(out) if out else None)
    assert str(error.value) == says
    assert sorted(here.iterdir()) == before
