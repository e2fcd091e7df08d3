"""The sweeps of benchmarks/: cells run one by one or side by side, on a tiny model, with crashes in between."""

import json
import subprocess
import sys
import threading
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pages import ROOT
from small_run import chats
from steadied import MEASURED, steady

from tunesmith.errors import UserError
from tunesmith.pipeline import run
from tunesmith.recipe import recipe_from_text
from tunesmith.registry import METHODS

SCRIPTS = ("methods", "prompt_length", "rank", "rates", "examples")
LORA, BITFIT = {"method": "lora", "rank": 2}, {"method": "bitfit"}


@pytest.fixture
def cells(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return script("cells", monkeypatch)


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for one in ("keeping", "abreast", "cells", name):
        monkeypatch.delitem(sys.modules, one, raising=False)
    return __import__(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [json.dumps({"dialogue": dialogue, "summary": summary}) for dialogue, summary, _ in chats()]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train_small.jsonl").write_text("\n".join(rows[:24]) + "\n", encoding="utf-8")
    (tmp_path / "data" / "dev.jsonl").write_text("\n".join(rows[24:]) + "\n", encoding="utf-8")
    return tmp_path / "data"


Call = Callable[..., dict[str, Any]]


@pytest.fixture
def sweep(cells: ModuleType, data: Path, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run some cells of a sweep, some of which may be killed; return its result and the cells that were begun."""
    one_in_torch = threading.Lock()  # threads share its random numbers; processes, as scripts have them, do not

    def call(*given: Any, ends: dict[str, int] = {}, only: tuple[str, ...] = (), at_once: int = 1) -> dict[str, Any]:  # noqa: B006
        begun = []

        def in_process(command: str, asked: dict[str, Any], name: str, folder: Path, options: Namespace) -> int:
            recipe, log = options.out / f"{name}.yaml", options.out / "logs" / f"{name}.txt"
            log.parent.mkdir(parents=True, exist_ok=True)
            recipe.write_text(json.dumps(asked), encoding="utf-8")
            begun.append(f"{command} {name}")
            if name in ends:
                log.write_text(f"step 3\n{folder}/candidates: no more memory", encoding="utf-8")
                return ends[name]
            try:
                with one_in_torch:
                    run(recipe, out=folder)
            except UserError as error:
                log.write_text(str(error), encoding="utf-8")
                return error.exit_code
            return 0

        monkeypatch.setattr(cells, "tunesmith", in_process)
        words = ["--data", str(data), "--out", str(data.parent / "out"), "--model", str(tiny_causal)]
        words += ["--rows", "4", "--limit", "8", "--epochs", "2", *(["--cells", *only] if only else [])]
        words += ["--at-once", str(at_once)]
        cells.main(cells.Sweep("tried", "What then?", given), "", words)
        written = json.loads((data.parent / "out" / "tried.json").read_text(encoding="utf-8"))
        return {"result": written, "begun": begun}

    return call


def test_a_result_says_what_was_found_and_what_is_missing(cells: ModuleType, sweep: Call) -> None:
    found = sweep(cells.Cell("low", LORA), cells.Cell("all", {"method": "full"}), only=("low",))
    assert found["begun"] == ["run zero-shot", "run low", "report run"]
    result = found["result"]
    assert result["missing"] == ["all"]
    assert result["candidates"] == {"low": LORA, "all": {"method": "full"}}
    assert result["failed"] == {}
    assert result["tested on"] == "4 rows, chosen by seed"
    base, low = result["cells"]["zero-shot"], result["cells"]["low"]
    assert low["rows"] == {"train": 8, "validation": low["rows"]["validation"], "test": 4}
    assert set(low["gain"]) == set(low["scores"]) == {"rouge1", "rouge2", "rougeL", "rougeLsum", "bleu"}
    assert low["scores"]["rouge1"]["low"] <= low["scores"]["rouge1"]["value"] <= low["scores"]["rouge1"]["high"]
    gain = low["scores"]["rouge1"]["value"] - base["scores"]["rouge1"]["value"]
    assert low["gain"]["rouge1"]["value"] == pytest.approx(gain, abs=0.011)
    assert base["gain"] == {}
    assert base["trainable"] == 0
    assert 0 < low["share"] < 1
    assert low["epochs"] == 2
    assert min(low["seconds"]["training"], low["peak_bytes"]["training"], low["adapter_bytes"]) > 0
    assert {"commit", "date", "minutes"} <= set(low)
    assert {"versions", "device", "commit", "date"} <= set(result)


def test_what_fails_is_recorded_the_rest_goes_on_and_the_same_command_tries_it_again(
    cells: ModuleType, sweep: Call
) -> None:
    given = (cells.Cell("dead", LORA), cells.Cell("impossible", BITFIT), cells.Cell("low", {**LORA, "rank": 1}))
    first = sweep(*given, ends={"dead": -9})
    failed = first["result"]["failed"]
    assert list(first["result"]["cells"]) == ["zero-shot", "low"]
    assert failed["dead"]["why"] == "killed by signal 9: candidates: no more memory"
    why = "refused: impossible.yaml:1: candidates.impossible: bitfit: this model (LlamaForCausalLM) has no biases"
    assert failed["impossible"]["why"].startswith(why)
    assert first["result"]["missing"] == []
    second = sweep(*given)
    assert second["begun"] == ["run dead", "run impossible", "report run"]
    assert list(second["result"]["cells"]) == ["zero-shot", "dead", "low"]
    assert sweep(*given[::2])["begun"] == ["report run"]


def test_fewer_examples_have_a_folder_of_their_own_and_the_answers_of_the_same_base(
    cells: ModuleType, sweep: Call, data: Path
) -> None:
    result = sweep(cells.Cell("few", LORA, examples=4, passes=2.0))["result"]
    out = data.parent / "out"
    answers = [out / run / "candidates" / "zero-shot" / "predict.json" for run in ("run", "run-4")]
    assert answers[0].read_bytes() == answers[1].read_bytes()  # with its seconds, so it was not written again
    assert result["cells"]["few"]["epochs"] == 4
    assert result["cells"]["few"]["gain"]


def test_a_cell_that_is_asked_otherwise_is_run_anew_and_a_run_folder_is_not_mixed(
    cells: ModuleType, sweep: Call
) -> None:
    sweep(cells.Cell("low", LORA))
    found = sweep(cells.Cell("low", {**LORA, "rank": 3}))
    assert found["begun"][0] == "run low"
    assert "made by another recipe" in found["result"]["failed"]["low"]["why"]


def shared_files(out: Path) -> dict[str, Any]:
    """What the run folders of a sweep hold, without times and memory, which differ from run to run."""
    reports = {path.parent.name: json.loads(path.read_text(encoding="utf-8")) for path in out.glob("run*/report.json")}
    weights = {
        str(path.relative_to(out)): path.read_bytes() for path in out.glob("run*/candidates/*/adapter/*.safetensors")
    }
    return {"reports": {name: steady(report, without=MORE) for name, report in reports.items()}, "weights": weights}


MORE = MEASURED | {"minutes", "at once", "tokens_per_second"}


def test_side_by_side_finds_what_one_by_one_finds_and_leaves_the_same_folders(
    cells: ModuleType, sweep: Call, data: Path
) -> None:
    given = (cells.Cell("low", LORA), cells.Cell("all", {"method": "full"}), cells.Cell("few", LORA, examples=4))
    out, before = data.parent / "out", data.parent / "before"
    alone = sweep(*given)["result"]
    assert "at once" not in alone
    out.rename(before)
    found = sweep(*given, at_once=2)
    assert found["begun"][:2] == ["run zero-shot", "run run-4"], "base and data come first, alone"
    result = found["result"]
    assert result.pop("at once") == 2
    assert {name: cell.get("at once") for name, cell in result["cells"].items()} == {
        "zero-shot": None, "low": 2, "all": 2, "few": 2,
    }  # fmt: skip
    assert steady(result, without=MORE) == steady(alone, without=MORE)
    assert shared_files(out) == shared_files(before)
    assert len(shared_files(out)["weights"]) >= 2
    names = [one["name"] for one in shared_files(out)["reports"]["run"]["candidates"]]
    assert names == ["zero-shot", "low", "all"]
    plans = [json.loads((folder / "run" / "plan.json").read_text(encoding="utf-8")) for folder in (out, before)]
    assert [{one["name"] for one in plan["candidates"]} for plan in plans] == [{"low", "all"}] * 2
    assert list((out / "abreast").rglob("*.json")) == []
    assert sweep(*given, at_once=2)["begun"] == ["report run", "report run-4"]
    assert sweep(*given)["result"]["at once"] == 2


def test_beside_a_cell_that_fails_others_go_on(cells: ModuleType, sweep: Call) -> None:
    given = (cells.Cell("dead", LORA), cells.Cell("impossible", BITFIT), cells.Cell("low", {**LORA, "rank": 1}))
    result = sweep(*given, ends={"dead": -9}, at_once=3)["result"]
    assert list(result["cells"]) == ["zero-shot", "low"]
    assert result["failed"]["dead"]["why"] == "killed by signal 9: candidates: no more memory"
    why = result["failed"]["impossible"]["why"]
    assert why.startswith("refused: impossible.yaml:1: candidates.impossible: bitfit: this model")
    assert sorted(sweep(*given, at_once=3)["begun"]) == ["report run", "run dead", "run impossible"]


def test_a_stop_waits_for_what_runs_and_the_same_command_goes_on(cells: ModuleType, sweep: Call, data: Path) -> None:
    given = tuple(cells.Cell(f"rank-{rank}", {**LORA, "rank": rank}) for rank in (1, 2, 3, 4))
    with pytest.raises(SystemExit, match=r"^tried: stopped; the same command goes on$"):
        sweep(*given, ends={"rank-1": 75, "rank-3": 75}, at_once=2)
    written = json.loads((data.parent / "out" / "tried.json").read_text(encoding="utf-8"))
    assert list(written["cells"]) == ["zero-shot", "rank-2"]
    assert {"rank-1", "rank-4"} <= set(written["missing"])
    found = sweep(*given)
    assert found["begun"] == ["run rank-1", "run rank-3", "run rank-4", "report run"]
    assert found["result"]["missing"] == []


def test_what_a_killed_script_left_in_a_folder_of_its_own_is_not_tuned_again(
    cells: ModuleType, sweep: Call, data: Path
) -> None:
    sweep(cells.Cell("low", LORA))
    shared = data.parent / "out" / "run"
    adapter = shared / "candidates" / "low" / "adapter" / "adapter_model.safetensors"
    written = adapter.stat().st_mtime_ns
    cells.lend(shared, "low")
    assert not adapter.exists()
    (data.parent / "out" / "cells" / "low.json").unlink()
    assert sweep(cells.Cell("low", LORA), at_once=2)["result"]["missing"] == []
    assert adapter.stat().st_mtime_ns == written


def test_a_cell_that_is_not_there_is_named(cells: ModuleType, sweep: Call) -> None:
    with pytest.raises(SystemExit, match=r"^--cells: there is no high\. There are: low\.$"):
        sweep(cells.Cell("low", LORA), only=("high",))


def test_without_data_a_sweep_is_skipped(cells: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    cells.main(cells.Sweep("tried", "What then?", ()), "", [])
    assert capsys.readouterr().out.startswith("tried: skipped, it needs --data FOLDER")


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_cells_of_every_sweep_are_candidates_of_a_recipe(
    name: str, cells: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script(name, monkeypatch)
    found = module.SWEEP
    assert found.name == name
    assert len({cell.name for cell in found.cells}) == len(found.cells) > 5
    options = Namespace(data=data, limit=None, rows=found.rows, epochs=None, model=None)
    for cell in found.cells:
        recipe = recipe_from_text(json.dumps(cells.recipe(found, [cell], options)))
        assert list(recipe.candidates) == ["zero-shot", cell.name]
        assert recipe.forgetting == "off"


def test_methods_trains_every_method_for_as_many_epochs_as_it_wants(
    cells: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = script("methods", monkeypatch).SWEEP
    assert {cell.candidate["method"] for cell in sweep.cells} == set(METHODS)
    options = Namespace(data=data, limit=None, rows=None, epochs=None, model=None)
    epochs = {cell.name: cells.trained(cell, 2, options)["train"]["epochs"] for cell in sweep.cells}
    assert (epochs["lora"], epochs["full"], epochs["soft-prompt"], epochs["ia3"]) == (2, 2, 6, 6)


@pytest.mark.slow
def test_a_script_runs_as_a_command(data: Path, tiny_causal: Path) -> None:
    words = [sys.executable, ROOT / "benchmarks" / "rank.py", "--data", data, "--out", data.parent / "out", "--model"]
    words += [tiny_causal, "--rows", "4", "--limit", "8", "--cells", "rank-1", "rank-4", "--at-once", "2"]
    done = subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True)
    result = json.loads((data.parent / "out" / "rank.json").read_text(encoding="utf-8"))
    assert list(result["cells"]) == ["zero-shot", "rank-1", "rank-4"]
    assert result["missing"] == ["rank-16", "rank-64", "rank-2", "rank-8", "rank-32"]
    assert Path(done.stdout.strip()).is_file()
