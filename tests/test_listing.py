from pathlib import Path

import pytest

from tunesmith import __version__
from tunesmith.data.templates import list_templates
from tunesmith.errors import UsageError
from tunesmith.listing import diagnose, listing
from tunesmith.models.catalog import CATALOG
from tunesmith.registry import METHODS, METRICS


def names(what: str) -> list[str]:
    return [row["name"] for row in listing(what)]


def test_everything_that_a_recipe_can_name_is_listed() -> None:
    assert names("models") == list(CATALOG)
    assert names("methods") == ["none", *METHODS]
    assert names("metrics") == list(METRICS)
    assert names("templates") == [template.name for template in list_templates()]


def test_models_say_how_large_they_are_and_under_which_licence() -> None:
    about = {row["name"]: row["about"] for row in listing("models")}
    assert about["flan-t5-base"] == "248 million parameters, Apache-2.0: encoder-decoder, the lecture's model"


def test_metrics_say_their_unit_and_which_end_is_better() -> None:
    about = {row["name"]: row["about"] for row in listing("metrics")}
    assert about["rouge1"] == "points of 100; higher is better"
    assert about["perplexity"] == "per answer; lower is better"
    assert about["length-ratio"] == "words per reference word; neither end is better"


def test_runs_are_those_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert listing("runs") == []
    for name in ("b", "a", "not-a-run"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("b", "a"):
        (tmp_path / "runs" / name / "run.json").write_text("{}", encoding="utf-8")
    assert listing("runs") == [{"name": "a", "about": "runs/a"}, {"name": "b", "about": "runs/b"}]


def test_what_cannot_be_listed_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as error:
        listing("metrik")
    assert str(error.value) == (
        'ls: "metrik" cannot be listed. Did you mean "metrics"? Known: models, methods, templates, metrics, runs.'
    )


def test_the_diagnosis_names_machine_and_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    monkeypatch.setattr("tunesmith.machine.available_memory", lambda: 12_340_000_000)
    found = diagnose()
    assert found["memory free"] == "12.3 GB"
    assert found["models in"] == str(tmp_path)
    assert found["tunesmith"] == __version__
    assert found["fastest number format"] in ("float32", "bfloat16")
    assert found["device"].endswith(" cores")
