"""Suites that a recipe names: checked before anything heavy, asked after tuning, asked anew only where they must be."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from small_run import Command, write_small

from tunesmith.bench_records import BenchResult
from tunesmith.opening import Run
from tunesmith.recipe import recipe_from_text
from tunesmith.rundir import RunDir, read_record
from tunesmith.suites import bench as module
from tunesmith.suites import catalog, named
from tunesmith.suites.request import Request

RUN = Path("runs/chats")


def write_recipe(
    folder: Path, model: Path, entries: str, *, candidates: str = "  lora: {method: lora, rank: 2}\n"
) -> Path:
    """A run of one tuned candidate, with entries under ``forgetting``."""
    path = write_small(folder, model)
    text = path.read_text(encoding="utf-8")
    before = text.partition("  two-shot:")[0]
    path.write_text(f"{before}{candidates}forgetting: {entries}\n", encoding="utf-8")
    return path.relative_to(folder)


def test_every_field_of_a_suite_reaches_what_asks_it(tmp_path: Path) -> None:
    recipe = recipe_from_text(
        "name: a\nseed: 9\nmodel: some\ntasks: [{source: a.csv}]\ndata: {folder: tables}\n"
        "candidates: {two: {shots: 2}, lora: {method: lora}}\n"
        "forgetting:\n  - {name: own, source: b.csv}\n"
        "  - {suite: mmlu, data: there, limit: 3, shots: 2, chat_template: true}\n  - {suite: superglue/boolq}\n"
    )
    adapters = (tmp_path / "run/candidates/lora/adapter",)
    shared: dict[str, Any] = {"model": "some", "adapters": adapters, "seed": 9, "start": tmp_path}
    assert named._requests(Run(recipe, tmp_path, RunDir(tmp_path / "run"))) == {
        1: Request(("mmlu",), data=tmp_path / "tables/there", limit=3, shots=2, chat_template=True, **shared),
        2: Request(("superglue/boolq",), **shared),
    }


def test_without_the_harness_a_check_ends_with_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_causal: Path, tunesmith: Command
) -> None:
    def gone(_: str) -> str:
        raise catalog.PackageNotFoundError

    monkeypatch.setattr(catalog, "version", gone)
    monkeypatch.chdir(tmp_path)
    found = tunesmith("check", write_recipe(tmp_path, tiny_causal, "[{suite: mmlu}]"))
    assert found.code == 5
    assert catalog.INSTALL in found.err


@pytest.mark.slow  # its libraries take long to import
@pytest.mark.filterwarnings("ignore")  # what they warn of is theirs
class TestWithTheHarness:
    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("lm_eval")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.chdir(tmp_path)

    def test_what_cannot_be_asked_is_told_at_once_by_its_key(
        self, tmp_path: Path, tiny_causal: Path, data: Path, tunesmith: Command
    ) -> None:
        entries = (
            f"[{{suite: mmul}}, {{suite: superglue/record, data: {data}}}, {{suite: superglue/rte, data: {data}}}, "
            f"{{suite: bbh-direct/navigate, data: {data}, shots: 1}}, {{suite: mmlu, data: none}}]"
        )
        base = "  base: {method: lora, rank: 2}\n"
        found = tunesmith("check", write_recipe(tmp_path, tiny_causal, entries, candidates=base))
        told = [
            line.removeprefix("tunesmith: ")
            for line in found.err.splitlines()
            if "forgetting" in line or "base" in line
        ]
        assert found.code == 3
        assert [line for line in told if not line.startswith("data:")] == [
            'recipe.yaml:17: candidates.base: "base" is what results of benchmark suites call the base. Give it '
            "another name.",
            *(
                f"recipe.yaml:18: forgetting.{said}"
                for said in (
                    "2.suite: forgetting.1 asks superglue already, and a run keeps one result of a suite. Name the "
                    "whole suite, or one task of it.",
                    '0: "mmul" is no suite. Did you mean "mmlu"? Known: glue, superglue, mmlu, bbh, bbh-direct.',
                    "3.shots: 1: bbh-direct/navigate is asked without worked examples. Ask it apart, without them.",
                    f"4.data: {tmp_path / 'none'}: there is no such folder.",
                    f"1: superglue/record: there is no superglue/ReCoRD/val.jsonl in {data}.",
                    "1: Put the files there (docs/benchmarks.md has the layout), or leave data out to ask the hub.",
                )
            ),
        ]
        assert not (RUN / "candidates").exists()

    def test_a_run_asks_base_and_tuned_and_goes_on_where_it_was(
        self, tmp_path: Path, tiny_causal: Path, data: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(data, "data")
        entries = "[{suite: mmlu, data: data, limit: 4}]"
        recipe = write_recipe(tmp_path, tiny_causal, entries)
        asked: list[str] = []
        run = module._run

        def noted(answering: Any, candidate: module.Candidate, *rest: Any) -> Any:
            asked.append(candidate.name)
            if asked == ["base", "lora"]:
                raise KeyboardInterrupt
            return run(answering, candidate, *rest)

        monkeypatch.setattr(module, "_run", noted)
        assert tunesmith("run", recipe).code != 0
        assert (RUN / "report.html").exists()  # of what was there before the suites
        assert tunesmith("run", recipe).code == 0
        assert asked == ["base", "lora", "lora"]
        found = read_record(RunDir(RUN).bench("mmlu"), BenchResult)
        assert [one.candidate for one in found.runs] == ["base", "lora"]
        assert {len(task.items) for task in found.tasks} == {4}
        assert {one.candidate for one in found.deltas} == {"lora"}
        assert "mmlu" in (RUN / "report.html").read_text(encoding="utf-8").partition('id="benchmarks"')[2]
        assert tunesmith("run", recipe).code == 0
        assert len(asked) == 3
        more = "  lora: {method: lora, rank: 2}\n  other: {method: lora, rank: 3}\n"
        assert tunesmith("run", write_recipe(tmp_path, tiny_causal, entries, candidates=more)).code == 0
        assert asked[3:] == ["other"]
        table = Path("data/mmlu/test/anatomy_test.csv")
        table.write_text(table.read_text(encoding="utf-8").replace("lamp", "lantern"), encoding="utf-8")
        assert tunesmith("predict", recipe).code == 0
        assert asked[4:] == ["base", "lora", "other"]

    def test_a_plan_says_that_suites_are_left_out(
        self, tmp_path: Path, tiny_causal: Path, data: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        recipe = write_recipe(tmp_path, tiny_causal, f"[{{suite: mmlu, data: {data}}}]")
        assert "How long benchmark suites take is not planned." in tunesmith("plan", recipe).out
