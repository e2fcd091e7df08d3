import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from small_run import Command, Outcome, chats, write_table

from tunesmith.errors import RecipeError, UserError
from tunesmith.models.fetch import sha256
from tunesmith.opening import open_run, package_versions, timed
from tunesmith.records import RunRecord
from tunesmith.rundir import RunDir, read_record, write_record

RUN = Path("runs/chats")
MADE = "runs/chats: this run folder was made by another recipe: "
OTHER = "Give --out another folder, undo the change, or delete runs/chats to start afresh."


def said(found: Outcome) -> list[str]:
    """What a command that failed said beside its notes on the data."""
    assert found.out == ""
    return [line for line in found.err.splitlines() if not line.startswith("data: ")]


class TestTheLock:
    def test_it_is_let_go_when_the_work_fails(self, small: Path) -> None:
        for _ in range(2):
            with pytest.raises(UserError, match=r"^broken$"), open_run(small):
                raise UserError("broken")

    def test_a_lock_file_that_was_left_behind_is_no_lock(self, small: Path, tunesmith: Command) -> None:
        RUN.mkdir(parents=True)
        RunDir(RUN).lock.write_text("12345", encoding="utf-8")
        assert tunesmith("check", small).code == 0


class TestAFolderOfTheUser:
    @pytest.fixture
    def own(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, bytes]:
        """Return the user's files: a recipe and a table with names that a run uses, too."""
        Path(tmp_path / "data").mkdir()
        rows = [json.dumps({"dialogue": f"Order {n} is late.", "summary": f"{n} is late."}) for n in range(40)]
        (tmp_path / "data" / "train.jsonl").write_text("\n".join(rows), encoding="utf-8")
        task = "{source: data/train.jsonl, template: dialogue-summary}"
        (tmp_path / "recipe.yaml").write_text(f"name: r\ntasks: [{task}]\nforgetting: off\n", encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        return self.files()

    def files(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    def test_nothing_is_written_over_it(self, own: dict[Path, bytes], tunesmith: Command) -> None:
        found = tunesmith("check", "recipe.yaml", "--set", "train.epochs=1", "--out", ".")
        assert (found.code, found.out) == (2, "")
        lies = "this file lies where the run writes its own, in .. Give --out another folder."
        assert found.err.splitlines() == [
            f"tunesmith: {Path('recipe.yaml').resolve()}: {lies}",
            f"tunesmith: {Path('data/train.jsonl').resolve()}: {lies}",
            "tunesmith: .: this folder holds data and no run.json, so it is not the folder of a run, and its files "
            "would be written over. Give --out another folder.",
        ]
        assert self.files() == own

    def test_a_table_in_the_folder_of_a_run_is_refused_as_well(
        self, own: dict[Path, bytes], tunesmith: Command
    ) -> None:
        Path("run.json").write_text("{}", encoding="utf-8")
        found = tunesmith("check", "recipe.yaml", "--out", ".")
        assert found.code == 2
        assert len(found.err.splitlines()) == 2
        assert Path("data/train.jsonl").read_bytes() == own[Path("data/train.jsonl")]

    def test_a_folder_with_some_other_file_is_refused(self, own: dict[Path, bytes], tunesmith: Command) -> None:
        Path("mine").mkdir()
        Path("mine/report.html").write_text("mine", encoding="utf-8")
        found = tunesmith("check", "recipe.yaml", "--out", "mine")
        assert found.code == 2
        assert found.err.startswith("tunesmith: mine: this folder holds report.html and no run.json")
        assert [path.name for path in Path("mine").iterdir()] == ["report.html"]

    def test_benchmarks_and_answers_taken_over_may_be_there_first(self, small: Path, tunesmith: Command) -> None:
        for name in ("bench/mmlu.json", "candidates/zero-shot/predict.json", ".zero-shot.tmp/predict.json"):
            path = RUN / name
            path.parent.mkdir(parents=True)
            path.write_text("{}", encoding="utf-8")
        assert tunesmith("check", small).code == 0

    def test_an_empty_name_is_no_folder(self, own: dict[Path, bytes], tunesmith: Command) -> None:
        found = tunesmith("check", "recipe.yaml", "--out", "")
        assert found.code == 2
        assert "the name of the folder is empty" in " ".join(found.err.replace("│", " ").split())
        assert self.files() == own


class Change(NamedTuple):
    """An override, and what is said to it."""

    override: str
    problems: list[str]


CHANGES = [
    Change("train.epochs=2", [f"{MADE}train.epochs was 1.0, is now 2.0.", OTHER]),
    Change("seed=1", [f"{MADE}seed was 0, is now 1.", OTHER]),
    Change("tasks.0.max_new_tokens=7", [f"{MADE}tasks.summarize.max_new_tokens was 6, is now 7.", OTHER]),
    Change("candidates.lora.rank=4", [
        "runs/chats/candidates/lora: this candidate was made by another recipe: candidates.lora.rank was 2, is now 4. "
        "Give it another name, undo the change, or delete this folder to make it again.",
    ]),
    Change("candidates.two-shot.shots=1", [
        "runs/chats/candidates/two-shot: this candidate was made by another recipe: candidates.two-shot.shots was 2, "
        "is now 1. Give it another name, undo the change, or delete this folder to make it again.",
    ]),
]  # fmt: skip


class TestAnotherRecipe:
    @pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.override)
    def test_a_change_is_refused_by_name(self, finished: Path, tunesmith: Command, change: Change) -> None:
        found = tunesmith("run", finished, "--set", change.override)
        assert found.code == 3
        assert said(found) == [f"tunesmith: {problem}" for problem in change.problems]

    def test_several_changes_are_named_at_once(self, finished: Path, tunesmith: Command) -> None:
        sets = [part for change in CHANGES[::3] for part in ("--set", change.override)]
        assert len(said(tunesmith("run", finished, *sets))) == 3

    @pytest.mark.parametrize(
        "override",
        [
            "train.tokens_per_batch=100", "train.checkpoint_minutes=1", "train.keep_checkpoints=5",
            "generate.tokens_per_batch=100", "candidates.lora.train={tokens_per_batch: 77}",
        ],
    )  # fmt: skip
    def test_what_only_changes_speed_may_change(self, finished: Path, tunesmith: Command, override: str) -> None:
        assert tunesmith("run", finished, "--set", override).code == 0

    def test_a_candidate_that_comes_back_must_be_what_it_was(self, finished: Path, tunesmith: Command) -> None:
        text = finished.read_text(encoding="utf-8")
        finished.write_text(text.replace("  lora: {method: lora, rank: 2}\n", ""), encoding="utf-8")
        assert tunesmith("run", finished).code == 0
        finished.write_text(text.replace("rank: 2", "rank: 4"), encoding="utf-8")
        assert said(tunesmith("run", finished)) == [f"tunesmith: {CHANGES[3].problems[0]}"]

    def test_a_candidate_whose_folder_was_deleted_may_be_another(self, finished: Path, tunesmith: Command) -> None:
        shutil.rmtree(RUN / "candidates" / "two-shot")
        found = tunesmith("run", finished, "--set", "candidates.two-shot.shots=1", "--json")
        assert found.code == 0
        assert json.loads(found.out)["candidates"][1]["predict"]["shots_asked"] == 1

    def test_before_anything_heavy_all_may_change(self, small: Path, tunesmith: Command) -> None:
        assert tunesmith("check", small).code == 0
        found = tunesmith("check", small, "--set", "split.train=0.3", "--set", "seed=3", "--json")
        assert json.loads(found.out)["rows_per_split"]["train"] < 44
        assert found.err.startswith("data: 64 rows read")

    def test_a_candidate_that_could_not_be_begun_may_change(self, small: Path, tunesmith: Command) -> None:
        assert tunesmith("train", small, "--set", "candidates.lora.rank=500").code == 3
        assert tunesmith("check", small).code == 0


class TestOtherFiles:
    def test_a_changed_table_is_refused_once_something_was_made_of_it(self, finished: Path, tunesmith: Command) -> None:
        write_table(Path("chats.csv"), rows=chats()[1:])
        found = tunesmith("run", finished)
        assert found.code == 4
        assert said(found) == [
            f"tunesmith: {Path('chats.csv').resolve()}: the file has changed since runs/chats was made from it. Give "
            "--out another folder, or delete runs/chats to start afresh."
        ]

    def test_a_changed_table_is_read_again_before_that(self, small: Path, tunesmith: Command) -> None:
        assert tunesmith("check", small).code == 0
        write_table(Path("chats.csv"), rows=chats()[1:])
        assert json.loads(tunesmith("check", small, "--json").out)["rows_read"] == 62

    def test_a_changed_model_is_refused(self, finished: Path, tunesmith: Command, tiny_causal: Path) -> None:
        model = Path("model").resolve()
        shutil.copytree(tiny_causal, model)
        config = model / "config.json"
        sets = ("--set", f"model={model}", "--out", "another", "--set", "candidates.full.train.max_steps=1")
        assert tunesmith("run", finished, *sets).code == 0
        config.write_text(config.read_text(encoding="utf-8") + " ", encoding="utf-8")
        Path("another/candidates/lora/predict.json").unlink()
        found = tunesmith("run", finished, *sets)
        assert found.code == 3
        assert said(found) == [
            f"tunesmith: --set: model: {model} has changed since another was begun with it. Give --out another folder, "
            "or delete another to start afresh."
        ]


TAMPER: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda adapter: flip(adapter / "adapter_model.safetensors"),
    "half the weights": lambda adapter: halve(adapter / "adapter_model.safetensors"),
    "no weights": lambda adapter: (adapter / "adapter_model.safetensors").unlink(),
    "pickled weights": lambda adapter: (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin"),
    "another config": lambda adapter: (adapter / "adapter_config.json").write_text('{"peft_type": "NOPE"}'),
    "broken config": lambda adapter: (adapter / "adapter_config.json").write_text("{"),
    "another card": lambda adapter: flip(adapter / "tunesmith.json"),
    "one file more": lambda adapter: (adapter / "more.safetensors").write_text(""),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("tamper", TAMPER.values(), ids=TAMPER.keys())
def test_an_adapter_that_was_tampered_with_is_refused(
    finished: Path, tunesmith: Command, tamper: Callable[[Path], object]
) -> None:
    where = RunDir(RUN).candidate("lora")
    where.predict_result.unlink()
    tamper(where.adapter)
    assert tunesmith("run", finished) == (
        6, "", "tunesmith: runs/chats/candidates/lora/adapter: its files are not those that training wrote. Delete the "
        "folder to train lora again.\n",
    )  # fmt: skip


DAMAGED = {
    "data/health.json": "runs/chats/data/health.json: not a DataHealth",
    "data/tasks.jsonl": "runs/chats/data/tasks.jsonl:1: not a TaskSettings",
    "data/test.jsonl": "runs/chats/data/test.jsonl:1: not a Example",
    "recipe.json": "runs/chats/recipe.json: not a Recipe",
    "run.json": "runs/chats/run.json: not a RunRecord",
    "candidates/lora/candidate.json": "runs/chats/candidates/lora/candidate.json: not a Made",
    "candidates/lora/train.json": "runs/chats/candidates/lora/train.json: not a TrainResult",
    "candidates/lora/predict.json": "runs/chats/candidates/lora/predict.json: not a PredictResult",
    "candidates/lora/predictions/mood.jsonl": "runs/chats/candidates/lora/predictions/mood.jsonl:1: not a Prediction",
}


@pytest.mark.parametrize(("name", "place"), DAMAGED.items(), ids=DAMAGED.keys())
def test_a_damaged_file_is_named_and_made_again_once_it_is_deleted(
    finished: Path, tunesmith: Command, name: str, place: str
) -> None:
    kind = place.rpartition(" ")[2]
    (RUN / name).write_bytes((RUN / name).read_bytes()[:40])
    found = tunesmith("run", finished)
    assert found.code == 1
    assert said(found) == [
        f"tunesmith: {place} as this version writes it (1 validation error for {kind}). Delete the file and run again."
    ]
    (RUN / name).unlink()
    assert tunesmith("run", finished, "--quiet").code == 0


def test_a_relative_path_starts_at_the_recipe(small: Path, tunesmith: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    below = small.resolve().parent / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert tunesmith("check", "../recipe.yaml").code == 0
    assert (below / "runs" / "chats" / "data").is_dir()


def test_the_recipe_is_kept_as_it_was_read_with_the_overrides_as_remarks(small: Path) -> None:
    with open_run(small, overrides=["seed=4"], out=Path("here")) as job:
        assert job.recipe.seed == 4
    assert (
        Path("here/recipe.yaml").read_text(encoding="utf-8") == small.read_text(encoding="utf-8") + "# --set seed=4\n"
    )


def test_the_hash_of_the_recipe_is_that_of_the_recipe_that_is_kept(small: Path) -> None:
    for metric in ("rouge1", "bleu"):
        with open_run(small, overrides=[f"tasks.0.metrics=[{metric}]"]):
            record = read_record(RunDir(RUN).record, RunRecord)
        assert record.recipe_hash == sha256(RunDir(RUN).resolved)


def test_the_record_has_the_threads_that_were_used(small: Path) -> None:
    with open_run(small) as job:
        record = read_record(job.dir.record, RunRecord)
        assert record.threads == torch.get_num_threads()
        write_record(job.dir.record, record.model_copy(update={"threads": 64}))  # by a check with other settings
        with timed(job, "predict zero-shot"):
            pass
        assert read_record(job.dir.record, RunRecord).threads == torch.get_num_threads()


def test_metrics_are_checked_before_the_folder_is_made(small: Path) -> None:
    sets = ["tasks.0.metrics=[blue]", "train.keep_best=rouge", "candidates.full.train.keep_best=ruge1"]
    with pytest.raises(RecipeError) as error, open_run(small, overrides=sets):
        pass
    blue, *others = error.value.problems
    assert blue.startswith('--set: tasks.0.metrics: metric "blue" is not known. Did you mean "bleu"? Known: accuracy, ')
    assert others == [
        '--set: candidates.full.train.keep_best: metric "ruge1" is not known. Did you mean "rouge1"?',
        '--set: train.keep_best: "rouge" stands for several metrics. Name one: rouge1, rouge2, rougeL, rougeLsum.',
    ]
    assert not Path("runs").exists()


def test_names_that_are_not_known_are_told_with_file_and_line_in_the_order_of_the_lines(small: Path) -> None:
    text = small.read_text(encoding="utf-8")
    for before, after in (
        ("model: /", "model: smollm2-135m-instuct  # /"),
        ("bleu", "blue"),
        ("template: text-label", 'template: {prompt: "{{ dialogue }} }}{% }", target: "{{ mood }}"}'),
        ("epochs: 1", "epochs: 1, keep_best: bleurt"),
    ):
        text = text.replace(before, after, 1)
    small.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError) as error, open_run(small):
        pass
    assert [problem.split(": ")[:2] for problem in error.value.problems] == [
        ["recipe.yaml:2", "model"],
        ["recipe.yaml:7", "tasks.0.metrics"],
        ["recipe.yaml:11", "tasks.1.template"],
        ["recipe.yaml:15", "train.keep_best"],
    ]
    assert sum("Known: " in problem for problem in error.value.problems) == 1


def test_an_empty_model_is_told_as_one(small: Path) -> None:
    text = small.read_text(encoding="utf-8")
    small.write_text(text.replace("model: ", 'model: ""  # '), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"^recipe\.yaml:2: model: no model is named\. Name one"), open_run(small):
        pass


def test_versions_name_everything_that_a_result_depends_on() -> None:
    found = package_versions()
    assert list(found) == ["tunesmith", "torch", "transformers", "peft", "safetensors", "sacrebleu"]
    assert all(value[0].isdigit() for value in found.values())
