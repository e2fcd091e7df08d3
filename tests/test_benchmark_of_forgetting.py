"""The benchmark of forgetting runs from the data to its cells, and goes on where it was."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_run import chats
from steadied import steady

from tunesmith.data.probing import shipped_items
from tunesmith.forgetting.ability import guessed

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "forgetting.py"


def run(*arguments: object, folder: Path) -> str:
    surroundings = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)],
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_data_it_says_what_it_needs(tmp_path: Path) -> None:
    assert run(folder=tmp_path).startswith("forgetting: skipped, it needs --data FOLDER")


@pytest.mark.slow
def test_with_a_tiny_model_it_measures_every_cell_and_redoes_none(tmp_path: Path, tiny_causal: Path) -> None:
    rows = [json.dumps({"dialogue": asked, "summary": wanted}) + "\n" for asked, wanted, _ in chats()]
    (tmp_path / "train_small.jsonl").write_text("".join(rows[:20]), encoding="utf-8")
    (tmp_path / "dev.jsonl").write_text("".join(rows[20:]), encoding="utf-8")
    asked = ("--data", tmp_path, "--out", tmp_path / "out", "--limit", 6, "--model", tiny_causal)
    found = json.loads(run(*asked, folder=tmp_path))
    methods = {name: (cell["method"], cell["tasks"], cell["cures"]) for name, cell in found["cells"].items()}
    assert methods == {
        **{f"{name}{slow}": (name, 1, []) for name in ("full", "lora") for slow in ("", "-slow")},
        **{f"{name}{slow}-replay": (name, 1, ["replay 0.1"]) for name in ("full", "lora") for slow in ("", "-slow")},
        "soft-prompt": ("soft-prompt", 1, []),
        **{f"{name}-long": (name, 1, []) for name in ("full", "lora")},
        **{f"{name}-long-replay": (name, 1, ["replay 0.1"]) for name in ("full", "lora")},
        "full-multi-task": ("full", 5, []),
        "lora-multi-task": ("lora", 5, []),
    }
    for cell in found["cells"].values():
        assert cell["gain"]["low"] <= cell["gain"]["difference"] <= cell["gain"]["high"]
        assert cell["items"]["low"] <= cell["items"]["change"] <= cell["items"]["high"]
        assert cell["items"]["n"] == 340
        assert cell["prose"]["n"] == 63
        assert len(cell["skills"]) == 11
    assert found["missing"] == []
    assert found["cells"]["full-replay"]["examples"] == 7
    assert found["cells"]["full-multi-task"]["examples"] == 30
    assert [one["candidate"] for one in found["effects of replay"]] == [
        "full-replay", "full-slow-replay", "lora-replay", "lora-slow-replay", "full-long-replay", "lora-long-replay",
    ]  # fmt: skip
    assert [(one["candidate"], one["than"]) for one in found["pairs"]] == [
        *(
            (name, "full") for name in ("full-slow", "full-slow-replay", "lora", "lora-slow", "lora-replay",
                                        "lora-slow-replay", "soft-prompt")
        ),
        ("lora-multi-task", "full-multi-task"),
        ("lora-long", "full-long"), ("lora-long-replay", "full-long"),
        ("full-long-replay", "lora-long"), ("lora-long-replay", "full-long-replay"),
    ]  # fmt: skip
    several = found["several tasks beside as many steps of one"]
    assert [(one["candidate"], one["than"]) for one in several] == [
        ("full-multi-task", "full-long"), ("lora-multi-task", "lora-long"),
    ]  # fmt: skip
    for one in several:  # on the same items
        cells = [found["cells"][one[side]]["items"] for side in ("candidate", "than")]
        assert one["items"]["won"] - one["items"]["lost"] == round(
            (cells[0]["after"] - cells[1]["after"]) / 100 * one["items"]["n"]
        )
    assert all(one["items"]["n"] == 340 and one["prose"]["n"] == 63 for one in found["pairs"])
    assert found["cells"]["full-multi-task"]["steps"] > found["cells"]["full"]["steps"]
    assert not any(row["dialogue"] in json.dumps(found) for row in map(json.loads, rows)), "no text of the data is kept"
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("train.json")}
    assert len(trained) == 15
    assert json.loads(run(*asked, folder=tmp_path)) == found
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    beside = json.loads(run(*asked[:3], tmp_path / "beside", *asked[4:], "--at-once", 3, folder=tmp_path))
    assert beside.pop("at once") == 3
    assert {cell.pop("at once") for cell in beside["cells"].values()} == {3}
    for cell in (*found["cells"].values(), *beside["cells"].values()):
        assert cell.pop("seconds of training") > 0
    assert beside == found
    reports = {name: report_of(tmp_path / name) for name in ("out", "beside")}
    assert reports["out"] == reports["beside"]
    trained = {path: path.stat().st_mtime_ns for path in (tmp_path / "beside").rglob("train.json")}
    again = json.loads(run(*asked[:3], tmp_path / "beside", *asked[4:], "--at-once", 2, folder=tmp_path))
    assert again["at once"] == 3
    assert {path: path.stat().st_mtime_ns for path in trained} == trained


def report_of(out: Path) -> list[Any]:
    """Both reports without times and memory, which differ from run to run."""
    files = (out / name / "report.json" for name in ("one-task", "one-task-longer", "five-tasks"))
    return [steady(json.loads(file.read_text(encoding="utf-8"))) for file in files]


def test_the_built_in_model_has_every_skill_that_it_is_asked_about() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "forgetting.json").read_text(encoding="utf-8"))
    before = {skill: one["before"] for skill, one in found["cells"]["full"]["skills"].items()}
    items = shipped_items()
    assert before.keys() == {item.skill for item in items}
    for skill, value in before.items():
        chances = [1 / len(item.choices) if item.choices else 0.0 for item in items if item.skill == skill]
        right = round(value / 100 * len(chances))
        assert guessed(right, chances) < 0.001 if any(chances) else right >= len(chances) / 2, skill
