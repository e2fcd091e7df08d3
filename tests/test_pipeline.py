import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_run import Command, as_process, write_table

from tunesmith.forgetting import asked
from tunesmith.records import RunRecord
from tunesmith.rundir import RunDir, read_record

RUN = Path("runs/chats")
STEPS = [
    "data", "predict zero-shot", "predict two-shot", "train lora", "predict lora", "train full", "predict full",
]  # fmt: skip


def record() -> RunRecord:
    return read_record(RunDir(RUN).record, RunRecord)


def files() -> dict[str, int]:
    """Every file that a heavy step writes, with the time it was written."""
    kept = [path for path in RUN.rglob("*") if path.is_file() and not {"scores", "measures"}.intersection(path.parts)]
    light = {"recipe.yaml", "recipe.json", "report.html", "report.json", "plan.json", ".lock"}
    return {str(path.relative_to(RUN)): path.stat().st_mtime_ns for path in kept if path.name not in light}


def changed(before: dict[str, int]) -> set[str]:
    after = files()
    return {name for name in after.keys() | before.keys() if after.get(name) != before.get(name)}


class TestTheWholeWay:
    def test_it_leaves_everything_that_it_promises(self, finished: Path) -> None:
        assert list(record().finished) == STEPS
        assert (RUN / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
        for name in ("zero-shot", "two-shot", "lora", "full"):
            where = RunDir(RUN).candidate(name)
            for task in ("summarize", "mood"):
                assert len(where.predictions(task).read_text(encoding="utf-8").splitlines()) == 4
                assert where.scores(task).is_file()
            assert where.train_result.is_file() == (name in ("lora", "full"))
        assert (RunDir(RUN).candidate("lora").adapter / "adapter_model.safetensors").is_file()
        assert (RunDir(RUN).candidate("full").adapter / "model.safetensors").is_file()
        assert not list(RUN.rglob("checkpoints"))

    def test_the_report_holds_every_candidate_and_both_tasks(self, finished: Path) -> None:
        report = json.loads((RUN / "report.json").read_text(encoding="utf-8"))
        assert [one["name"] for one in report["candidates"]] == ["zero-shot", "two-shot", "lora", "full"]
        assert [one["missing"] for one in report["candidates"]] == [[]] * 4
        assert [task["task"] for task in report["tasks"]] == ["summarize", "mood"]
        assert [score["metric"] for score in report["tasks"][0]["scores"]["full"]] == ["rouge1", "rouge2", "bleu"]
        assert [score["metric"] for score in report["tasks"][1]["scores"]["full"]] == ["accuracy", "macro-f1"]

    def test_the_tasks_are_kept_with_what_was_filled_in(self, finished: Path) -> None:
        tasks = [json.loads(line) for line in RunDir(RUN).tasks.read_text(encoding="utf-8").splitlines()]
        assert [task["choices"] for task in tasks] == [[], ["bad", "good"]]


class TestTheSameCommandAgain:
    def test_it_redoes_no_step(self, finished: Path, tunesmith: Command) -> None:
        before, seconds = files(), record().seconds
        found = tunesmith("run", finished)
        assert found.code == 0
        assert found.err == ""
        assert changed(before) == set()
        assert record().seconds == seconds

    @pytest.mark.parametrize("lost", ["predictions/mood.jsonl", "predict.json"])
    def test_lost_predictions_are_made_again_and_nothing_else(
        self, finished: Path, tunesmith: Command, lost: str
    ) -> None:
        where = RUN / "candidates" / "lora"
        before, answers = files(), (where / "predictions" / "mood.jsonl").read_text(encoding="utf-8")
        (where / lost).unlink()
        assert tunesmith("run", finished, "--quiet").code == 0
        assert (where / "predictions" / "mood.jsonl").read_text(encoding="utf-8") == answers
        again = {f"candidates/lora/{name}" for name in ("predict.json", "predictions/mood.jsonl")}
        assert changed(before) - {"candidates/lora/predictions/summarize.jsonl"} == {"run.json", *again}

    @pytest.mark.parametrize("lost", ["data/tasks.jsonl", "data/health.json", "data/train.jsonl"])
    def test_lost_data_is_prepared_again_and_nothing_else(self, finished: Path, tunesmith: Command, lost: str) -> None:
        before, rows = files(), (RUN / lost).read_text(encoding="utf-8")
        (RUN / lost).unlink()
        assert tunesmith("run", finished, "--quiet").code == 0
        assert (RUN / lost).read_text(encoding="utf-8") == rows
        assert {name for name in changed(before) if not name.startswith("data/")} == {"run.json"}

    @pytest.mark.parametrize("lost", ["adapter/adapter_model.safetensors", "train.json"])
    def test_a_lost_adapter_or_its_record_is_trained_again(self, finished: Path, tunesmith: Command, lost: str) -> None:
        where = RUN / "candidates" / "lora"
        weights = (where / "adapter" / "adapter_model.safetensors").read_bytes()
        (where / lost).unlink()
        (where / lost).parent.rename(where / "away") if "/" in lost else None
        assert tunesmith("run", finished, "--quiet").code == 0
        assert (where / "adapter" / "adapter_model.safetensors").read_bytes() == weights

    def test_a_lost_run_record_is_begun_again(self, finished: Path, tunesmith: Command) -> None:
        before = record()
        (RUN / "run.json").unlink()
        assert tunesmith("run", finished).code == 0
        assert record().model_copy(update={"started": before.started}) == before.model_copy(
            update={"finished": {}, "seconds": {}}
        )

    def test_new_metrics_need_no_new_answers(self, finished: Path, tunesmith: Command) -> None:
        before = files()
        found = tunesmith("run", finished, "--set", "tasks.0.metrics=[chrf]", "--json")
        assert [score["metric"] for score in json.loads(found.out)["tasks"][0]["scores"]["lora"]] == ["chrf"]
        assert changed(before) == {"run.json"}, "the hash of the recipe, and no answer"


class TestOtherCandidates:
    def test_a_new_one_is_welcome_and_leaves_the_others_alone(self, finished: Path, tunesmith: Command) -> None:
        before = files()
        found = tunesmith("run", finished, "--set", "candidates.three-shot={method: none, shots: 3}", "--json")
        assert [one["name"] for one in json.loads(found.out)["candidates"]][-1] == "three-shot"
        assert {name for name in changed(before) if "three-shot" not in name} == {"run.json"}

    def test_one_that_is_left_out_is_left_out_of_the_report(self, finished: Path, tunesmith: Command) -> None:
        text = finished.read_text(encoding="utf-8").replace("  full: {method: full}\n", "")
        finished.write_text(text, encoding="utf-8")
        found = json.loads(tunesmith("run", finished, "--json").out)
        assert [one["name"] for one in found["candidates"]] == ["zero-shot", "two-shot", "lora"]
        assert found["notes"][0] == "The folder candidates/full is not in the recipe and is left out."


class TestWhatWasForgotten:
    """The small recipe says `forgetting: off`; here it is turned on."""

    MOOD = (
        "forgetting=[{name: mood, source: chats.csv, template: text-label, choices: [bad, good], "
        "columns: {text: dialogue, label: mood}}]"
    )

    def test_turned_on_later_it_asks_the_base_and_what_was_tuned_and_redoes_nothing_else(
        self, finished: Path, tunesmith: Command
    ) -> None:
        before = files()
        on = ("--set", "forgetting=default")
        found = tunesmith("run", finished, *on, "--json")
        report = json.loads(found.out)
        asked = [f"candidates/{name}/probe.json" for name in ("zero-shot", "lora", "full")]
        assert changed(before) == {"data/probe.json", "run.json", *asked}
        assert list(record().finished)[-3:] == ["probe zero-shot", "probe lora", "probe full"]
        assert [one["candidate"] for one in report["forgetting"]["changes"]] == ["lora", "full"]
        assert all(one["all"]["n"] >= 200 for one in report["forgetting"]["changes"])
        assert [one["missing"] for one in report["candidates"]] == [[]] * 4
        assert report["headline"][-2] in report["forgetting"]["sentences"]
        assert report["headline"][-1].startswith("Answers were cut off at max_new_tokens: in summarize zero-shot 100 %")

        before = files()
        assert tunesmith("run", finished, *on).code == 0
        assert changed(before) == set()

        lost = RunDir(RUN).candidate("lora").probe_result
        answers = json.loads(lost.read_text(encoding="utf-8"))
        lost.unlink()
        assert tunesmith("predict", finished, *on).code == 0
        assert changed(before) == {"candidates/lora/probe.json", "run.json"}
        again = json.loads(lost.read_text(encoding="utf-8"))
        assert {**again, "seconds": 0} == {**answers, "seconds": 0}

    def test_own_tasks_are_kept_an_eye_on_too(
        self, finished: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = tuple(item for item in asked.shipped_items() if item.id.endswith("-01"))
        monkeypatch.setattr(asked, "shipped_items", lambda: few)
        assert tunesmith("run", finished, "--set", "forgetting=default").code == 0
        report = json.loads(tunesmith("run", finished, "--set", self.MOOD, "--json").out)
        lora = report["forgetting"]["changes"][0]
        kept = lora["skills"][-1]
        assert (kept["skill"], kept["metric"], kept["n"], kept["blind"]) == ("mood", "accuracy", 4, 50.0)
        assert lora["all"]["n"] == len(few)
        (base,) = [one for one in report["tasks"][1]["scores"]["zero-shot"] if one["metric"] == "accuracy"]
        assert kept["before"] == base["value"]  # the same examples, asked the same way

    def test_a_changed_file_of_an_own_task_is_asked_anew_and_nothing_else_is_done_again(
        self, finished: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few = tuple(item for item in asked.shipped_items() if item.id.endswith("-01"))
        monkeypatch.setattr(asked, "shipped_items", lambda: few)
        own = "forgetting=[{name: kept, source: own.csv, template: dialogue-summary, max_new_tokens: 2}]"
        rows = [(f"Caller {n} wants to know when the {thing} number {n} will be sold.", thing, "bad")
                for n in range(20) for thing in ("house", "boat")]  # fmt: skip
        write_table(Path("own.csv"), rows=rows)
        assert tunesmith("run", finished, "--set", own).code == 0
        before = files()
        assert tunesmith("run", finished, "--set", own).code == 0
        assert changed(before) == set()
        write_table(Path("own.csv"), rows=[(one.replace("Caller", "Somebody else"), *rest) for one, *rest in rows])
        found = tunesmith("run", finished, "--set", own)
        assert f"forgetting: {Path('own.csv').resolve()} is not as it was; what is asked is made anew" in found.err
        assert "Somebody else" in (RUN / "data" / "probe.json").read_text(encoding="utf-8")
        asked_again = {f"candidates/{name}/probe.json" for name in ("zero-shot", "lora", "full")}
        assert changed(before) == {"data/probe.json", "run.json", *asked_again}

    def test_items_that_training_has_are_named_by_check_and_in_the_report(
        self, small: Path, tunesmith: Command
    ) -> None:
        write_table(Path("other.csv"), rows=[(f"Nothing of {n} is asked here.", "Nothing.", "bad") for n in range(40)])
        own = "forgetting=[{name: kept, source: {train: other.csv, test: chats.csv}, template: dialogue-summary}]"
        found = tunesmith("check", small, "--set", own)
        said = "are like rows that candidates are trained or chosen by, and left out. data/probe.json names them."
        assert re.search(rf"^forgetting: \d+ items of own tasks {said}$", found.err, re.MULTILINE)
        assert re.search(rf"^\d+ items of own tasks {said}$", found.out, re.MULTILINE)
        assert re.search(
            r"^  kept/test/chats\.csv:\d+ is like \w+/train/chats\.csv:\d+ \(1\.00\)$", found.out, re.MULTILINE
        )
        leaks = json.loads(tunesmith("check", small, "--set", own, "--json").out)["probe_leaks"]
        rows = json.loads((RUN / "data" / "health.json").read_text(encoding="utf-8"))["rows_per_split"]
        assert 2 * len(leaks) == rows["train"] + rows["validation"]  # two tasks have each chat
        report = json.loads(tunesmith("report", small, "--set", own, "--json").out)
        assert f"What it forgot: {len(leaks)} items of own tasks {said}" in report["notes"]

    def test_off_asks_nothing(self, finished: Path) -> None:
        assert not list(RUN.rglob("probe.json"))
        assert json.loads((RUN / "report.json").read_text(encoding="utf-8"))["forgetting"] is None

    def test_an_own_task_that_cannot_be_used_is_refused_before_anything_heavy(
        self, small: Path, tunesmith: Command
    ) -> None:
        found = tunesmith("check", small, "--set", "forgetting=[{name: facts, source: chats.csv}]")
        expected = 'forgetting.0.name: "facts" is also the name of a skill of the shipped probe. Give it another.'
        assert (found.code, found.err.splitlines()[-1]) == (3, f"tunesmith: {expected}")

    def test_what_is_neither_is_refused(self, small: Path, tunesmith: Command) -> None:
        assert tunesmith("check", small, "--set", "forgetting=never") == (
            3, "", 'tunesmith: --set: forgetting: "never" is neither default nor off, nor a list of tasks and '
            "benchmark suites, such as [{suite: mmlu, data: FOLDER}].\n",
        )  # fmt: skip


class TestStopping:
    """Also of two processes in one folder, since there is a first one here that works."""

    def test_ctrl_c_in_training_leaves_a_checkpoint_and_the_same_command_goes_on(
        self, small: Path, tunesmith: Command, tmp_path: Path
    ) -> None:
        sets = ("--set", "train.epochs=20", "--set", "train.validations=0")
        process = as_process("train", small, *sets, folder=tmp_path)
        log = RunDir(RUN).candidate("lora").train_log
        wait_for(lambda: log.exists() and len(log.read_text(encoding="utf-8").splitlines()) > 2)
        assert tunesmith("run", small, *sets) == (
            1, "", f"tunesmith: runs/chats: process {process.pid} is working in this run folder. Wait for it, or give "
            "--out another folder.\n",
        )  # fmt: skip
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        last = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"]
        stopped = re.search(r"of (\d+) of lora", err)
        assert stopped
        total = int(stopped[1])
        assert last < total
        assert (process.returncode, out) == (75, "")
        assert err.splitlines()[-2:] == [
            "stopping after this step, saving first; once more stops at once",
            f"tunesmith: stopped at step {last} of {total} of lora; a checkpoint was written. The same command goes on "
            "from there.",
        ]
        assert "Traceback" not in err
        assert [path.name for path in RunDir(RUN).candidate("lora").checkpoints.iterdir()] == [f"step-{last:08d}"]

        found = tunesmith("train", small, *sets, "--set", "candidates.full.train.max_steps=1")
        steps = [json.loads(line)["step"] for line in log.read_text(encoding="utf-8").splitlines()]
        assert found.code == 0
        assert steps == list(range(1, total + 1))

    def test_ctrl_c_elsewhere_stops_at_once(
        self, small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("tunesmith.pipeline.prepare", interrupted)
        assert tunesmith("run", small) == (
            130, "", "tunesmith: stopped. The same command goes on with what is not finished yet.\n"
        )  # fmt: skip


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class TestFromATable:
    def test_a_table_becomes_a_recipe_and_a_report(
        self, tmp_path: Path, tiny_causal: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_table(tmp_path / "chats.csv")
        small = [f"model={tiny_causal}", "tasks.0.max_new_tokens=4", "train.max_steps=2", "candidates.lora.rank=2"]
        found = tunesmith("run", "chats.csv", *(part for text in small for part in ("--set", text)))
        assert found.code == 0
        assert "two-shot" in found.out
        assert "lora" in found.out
        assert found.err.startswith("chats.yaml: written; template dialogue-summary\ndata: 32 rows read, ")
        report = json.loads((RUN / "report.json").read_text(encoding="utf-8"))
        assert [one["missing"] for one in report["candidates"]] == [[], [], []]
        assert report["recipe"].endswith("# --set candidates.lora.rank=2\n")

        again = tunesmith("run", "chats.csv", *(part for text in small for part in ("--set", text)))
        assert again.code == 0
        assert again.err == (
            "chats.yaml: this recipe is there already and is used; delete it to guess again from chats.csv.\n"
        )


def test_methods_that_add_run_beside_full_and_lora(small: Path, tunesmith: Command) -> None:
    added = "  prompt: {method: soft-prompt, per_task: true, train: {epochs: 1, keep_best: rouge1, validations: 2}}\n"
    added += "  ia3: {method: ia3, train: {epochs: 1}}\n  bottleneck: {method: bottleneck, width: 8}\n"
    text = small.read_text(encoding="utf-8").replace("  two-shot: {method: none, shots: 2}\n", "")
    small.write_text(text.replace("forgetting: off", added + "forgetting: off"), encoding="utf-8")
    found = json.loads(tunesmith("run", small, "--json").out)
    assert [one["name"] for one in found["candidates"]] == ["zero-shot", "lora", "full", "prompt", "ia3", "bottleneck"]
    assert [one["missing"] for one in found["candidates"]] == [[]] * 6
    for name in ("prompt", "ia3", "bottleneck"):
        where = RunDir(RUN).candidate(name)
        assert (where.adapter / "adapter_model.safetensors").is_file()
        assert where.nearest.is_file() == (name == "prompt")
        for task in ("summarize", "mood"):
            assert len(where.predictions(task).read_text(encoding="utf-8").splitlines()) == 4
    virtual = found["candidates"][3]["virtual"]
    assert [(one["task"], one["number"]) for one in virtual] == [
        (task, number) for task in ("summarize", "mood") for number in range(1, 21)
    ]
    lines = RunDir(RUN).candidate("prompt").train_log.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if "validation_score" in line]) == 2
    assert "prompt: what its virtual tokens are near to" in (RUN / "report.html").read_text(encoding="utf-8")

    assert tunesmith("run", small).code == 0, "the same again"
    refused = tunesmith("run", small, "--out", "other", "--set", "candidates.prompt.tokens=1024")
    assert (refused.code, refused.err.splitlines()[-1]) == (
        3, "tunesmith: recipe.yaml:19: candidates.prompt: soft-prompt: 1024 virtual tokens leave no room for a "
        "prompt, the model's context is 1024 tokens. Lower tokens.",
    )  # fmt: skip


def test_a_generated_metric_can_choose_the_best_weights(small: Path, tunesmith: Command) -> None:
    text = small.read_text(encoding="utf-8").replace("  two-shot: {method: none, shots: 2}\n", "")
    small.write_text(text.replace("  full: {method: full}\n", ""), encoding="utf-8")
    found = tunesmith("train", small, "--set", "train.keep_best=rouge1", "--set", "train.validations=2")
    assert found.code == 0
    lines = RunDir(RUN).candidate("lora").train_log.read_text(encoding="utf-8").splitlines()
    scores = [json.loads(line)["validation_score"] for line in lines if "validation_loss" in line]
    assert len(scores) == 2
    assert all(0 <= score <= 100 for score in scores)
