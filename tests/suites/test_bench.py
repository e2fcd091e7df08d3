"""The whole way with a tiny model: what the harness says when it is called directly is what we say."""

import importlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT

from tunesmith.bench_records import BenchResult
from tunesmith.errors import DataError, RecipeError, UsageError
from tunesmith.inference.decode import decode
from tunesmith.inference.rank import rank_all
from tunesmith.models.catalog import fingerprint
from tunesmith.records import AdapterCard
from tunesmith.rundir import read_record, write_record
from tunesmith.suites import answering, deltas, scores
from tunesmith.suites import bench as module
from tunesmith.suites.bench import Request, bench
from tunesmith.suites.catalog import SUITES
from tunesmith.suites.scores import FEWSHOT_SEED
from tunesmith.suites.tasks import choose_items, definition

lm_eval: Any = pytest.importorskip("lm_eval")

pytestmark = [
    pytest.mark.slow,  # the harness and its libraries take long to import
    pytest.mark.filterwarnings("ignore"),  # what they warn of is theirs
]

RESAMPLES = 40
Directly = Callable[..., Any]
MMLU = ("mmlu/anatomy", "mmlu/astronomy")
BBH = ("bbh-direct/navigate", "bbh-direct/object_counting")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, steady_torch: None) -> Path:
    """A random model for which every choice is one token, so that it chooses by more than their lengths."""
    return write_model(tmp_path_factory.mktemp("models") / "chooser", seed=0)


def write_model(folder: Path, *, seed: int) -> Path:
    from tunesmith.models.tiny import write_tiny

    words = "yes no True False Neither A B C D".split()
    return write_tiny(folder, kind="causal", texts=[f"Answer: {word}" for word in words] * 20, seed=seed)


def with_context(folder: Path, tokens: int) -> Path:
    """Let a model of rotary positions take longer texts."""
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**settings, key: tokens}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """Another random model in the place of one that full tuning left."""
    folder = tmp_path_factory.mktemp("run") / "candidates" / "other" / "adapter"
    write_model(folder, seed=1)
    card = AdapterCard(
        model=str(base), model_hash=fingerprint(base), method="full", settings={}, tasks=(), seed=0, max_tokens=512,
        tunesmith="0",
    )  # fmt: skip
    write_record(folder / "tunesmith.json", card)
    return folder


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "RESAMPLES", RESAMPLES)
    monkeypatch.setattr(deltas, "RESAMPLES", RESAMPLES)


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that compares the two on real data."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("harness")


@pytest.fixture
def without_hub(harness: Any, data: Path) -> Iterator[None]:
    """Let the harness have, in place of the hub, the rows of the local files."""
    with harness.rows_from(data):
        yield


@pytest.fixture
def directly(harness: Any, without_hub: None) -> Directly:
    """What the harness says of the same items with its own class for transformers."""

    def ask(model: Path, result: BenchResult, **options: Any) -> Any:
        items = {task.harness: list(task.items) for task in result.tasks}
        settings = {"num_fewshot": result.shots, "bootstrap_iters": RESAMPLES, **options}
        return harness.asked(result.suite, model, items, batch=3, **settings)

    return ask


def check_equal(result: BenchResult, run: int, found: Any) -> None:
    """Compare every score, its error, and the value of every item."""
    names = {task.task: task.harness for task in result.tasks}
    compared = 0
    for score in result.runs[run].scores:
        if score.task == result.suite:
            continue
        key = f"{score.metric},{score.filter}"
        own = found["results"][names[score.task]]
        assert score.value == pytest.approx(own[key], abs=1e-12), score.task
        error = own[f"{score.metric}_stderr,{score.filter}"]
        assert (score.stderr is None) == (error == "N/A")
        assert score.stderr is None or score.stderr == pytest.approx(error, abs=1e-12)
        own_samples = [one for one in found["samples"][names[score.task]] if one["filter"] == score.filter]
        items = sorted(own_samples, key=lambda sample: sample["doc_id"])
        assert [sample["doc_id"] for sample in items] == list(
            next(task.items for task in result.tasks if task.task == score.task)
        )
        values = [sample[score.metric] for sample in items]
        assert [tuple(one) if isinstance(one, list | tuple) else one for one in values] == list(score.values)
        compared += 1
    assert compared >= len(result.tasks)


def test_base_and_tuned_are_scored_as_the_harness_scores_them(
    data: Path, base: Path, tuned: Path, tmp_path: Path, directly: Directly
) -> None:
    request = Request(
        ("superglue", *MMLU, *BBH, "glue/rte", "glue/cola", "glue/mrpc"), model=str(base), adapters=(tuned,),
        data=data, limit=6, seed=4,
    )  # fmt: skip
    results = bench(request, out=tmp_path)
    assert [result.suite for result in results] == ["superglue", "mmlu", "bbh-direct", "glue"]
    for result in results:
        assert [run.candidate for run in result.runs] == ["base", "other"]
        assert read_record(tmp_path / "bench" / f"{result.suite}.json", BenchResult) == result
        check_equal(result, 0, directly(base, result))
        check_equal(result, 1, directly(tuned, result))
    glue = results[3]
    assert {score.metric for score in glue.runs[0].scores} >= {"acc", "f1", "mcc"}
    assert all(delta.stderr is not None for delta in glue.deltas)
    for result in results[:2]:  # random models choose rightly and wrongly, and not alike
        assert any(0 < score.value < 1 for score in result.runs[0].scores if score.task != result.suite)
        assert any(delta.better or delta.worse for delta in result.deltas)


def test_a_suite_that_was_stopped_goes_on_where_it_was(
    data: Path, base: Path, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request((*MMLU, *BBH), model=str(base), adapters=(tuned,), data=data, limit=4)
    asked: list[int] = []

    def noted(usual: Any, stop: int) -> Any:
        def run(loaded: Any, prompts: Any, *given: Any, **options: Any) -> Any:
            if len(asked) == stop:
                raise KeyboardInterrupt
            asked.append(len(prompts))
            return usual(loaded, prompts, *given, **options)

        return run

    def stopping(stop: int) -> None:
        for name, usual in (("rank_all", rank_all), ("decode", decode)):
            monkeypatch.setattr(answering, name, noted(usual, stop))

    stopping(-1)
    whole = bench(request, out=tmp_path / "whole")
    calls, items = len(asked), sum(asked)
    asked.clear()
    for stop in (1, calls // 2, calls - 1):
        stopping(stop)
        with pytest.raises(KeyboardInterrupt):
            bench(request, out=tmp_path / "stopped")
        assert len(asked) == stop
    stopping(-1)
    again = bench(request, out=tmp_path / "stopped")
    assert (len(asked), sum(asked)) == (calls, items)  # nothing is asked twice
    assert [[run.scores for run in one.runs] for one in again] == [[run.scores for run in one.runs] for one in whole]
    assert sorted(path.name for path in (tmp_path / "stopped" / "bench").iterdir()) == ["bbh-direct.json", "mmlu.json"]


def test_chains_of_thought_are_written_as_the_harness_has_them_written(
    data: Path, base: Path, tmp_path: Path, harness: Any, directly: Directly
) -> None:
    """With three worked ones before each question; answer by answer, text by text."""
    model = with_context(shutil.copytree(base, tmp_path / "long"), 8192)
    request = Request(("bbh/navigate", "bbh/object_counting"), model=str(model), data=data, limit=2)
    with harness.texts_noted() as written:
        (result,) = bench(request, out=tmp_path)
    assert [task.shots for task in result.tasks] == [3, 3]
    found = directly(model, result, fewshot_random_seed=FEWSHOT_SEED)
    check_equal(result, 0, found)
    answers = [harness.said(found, task.harness, task.items) for task in result.tasks]
    theirs = dict(sample["said"] for one in answers for sample in one["samples"])
    assert written == theirs
    assert len(written) == 4
    assert all(prompt.count("A: Let's think step by step.") == 4 for prompt in written)
    assert len(set(written.values())) > 1
    assert max(map(len, written.values())) > 20


@pytest.mark.parametrize("chat_template", [False, True])
def test_worked_examples_are_those_of_the_harness(
    data: Path, base: Path, tmp_path: Path, directly: Directly, *, chat_template: bool
) -> None:
    request = Request(
        ("superglue/rte", "mmlu/anatomy"), model=str(base), data=data, limit=4, shots=2,
        chat_template=chat_template,
    )  # fmt: skip
    for result in bench(request, out=tmp_path):
        assert result.tasks[0].shots == 2
        assert result.chat_template == chat_template
        found = directly(base, result, apply_chat_template=chat_template, fewshot_random_seed=FEWSHOT_SEED)
        check_equal(result, 0, found)


def test_the_number_of_a_whole_suite_is_the_harnesss_own(
    data: Path, base: Path, tmp_path: Path, without_hub: None
) -> None:
    """Three tasks of unequal size stand for the 57 of the suite."""
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / "data" / "mmlu" / "test" / "anatomy_test.csv"
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:5]), encoding="utf-8")
    (result,) = bench(Request(MMLU, model=str(base), data=tmp_path / "data"), out=tmp_path)
    group, *parts = result.runs[0].scores
    assert [len(task.items) for task in result.tasks] == [4, 10]
    assert (group.task, group.n) == ("mmlu", 14)
    assert group.value == pytest.approx(sum(part.value * part.n for part in parts) / 14)
    from lm_eval.api.metrics import pooled_sample_stderr

    assert group.stderr == pytest.approx(pooled_sample_stderr([part.stderr for part in parts], [4, 10]))


def test_glue_counts_every_task_the_same(data: Path, base: Path, tmp_path: Path) -> None:
    (result,) = bench(Request(("glue/rte", "glue/mrpc"), model=str(base), data=data), out=tmp_path)
    whole, *parts = result.runs[0].scores
    first = [part.value for part in parts if part.metric == "acc"]
    assert whole.metric == "mean of the tasks' first metrics"
    assert whole.value == pytest.approx(sum(first) / 2)


def test_a_suite_leaves_out_the_tasks_without_a_file_and_names_it(
    data: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (result,) = bench(Request(("superglue",), model=str(base), data=data, limit=2), out=tmp_path)
    assert [(one.task, one.wanted) for one in result.left_out] == [
        ("superglue/record", ("superglue/ReCoRD/val.jsonl",))
    ]
    assert f"superglue/record is left out: there is no superglue/ReCoRD/val.jsonl in {data}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suites", "shots", "said"),
    [
        (("superglue/record",), None, "superglue/record: there is no superglue/ReCoRD/val.jsonl in"),
        (("superglue/boolq",), 1, "superglue/boolq: there is no superglue/BoolQ/train.jsonl in"),
        (("bbh",), None, "bbh/causal_judgement: there is no bbh/bbh/causal_judgement.json in"),
    ],
)
def test_a_task_that_was_named_needs_its_file(
    data: Path, tmp_path: Path, suites: tuple[str, ...], shots: int | None, said: str
) -> None:
    (tmp_path / "bbh").mkdir()
    folder = data if suites != ("bbh",) else tmp_path
    with pytest.raises(DataError) as error:
        bench(Request(suites, model="smollm2-135m-instruct", data=folder, shots=shots), out=tmp_path)
    assert any(problem.startswith(said) for problem in error.value.problems)
    assert "docs/benchmarks.md has the layout" in error.value.problems[-1]
    assert ("22 more tasks of bbh cannot be asked either." in error.value.problems) == (suites == ("bbh",))


def test_a_task_that_the_harness_cannot_load_is_left_out_with_its_reason(
    data: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ReCoRD is with a transformers that has no metrics of its own any more."""

    def partly(path: Path, *, whole: bool = True) -> dict[str, Any]:
        if whole and "cb" in path.parts:
            raise ModuleNotFoundError("No module named 'transformers.data.metrics'")
        return definition(path, whole=whole)

    monkeypatch.setattr(module, "definition", partly)
    (result,) = bench(Request(("superglue",), model=str(base), data=data, limit=1), out=tmp_path)
    assert {one.task: one.why for one in result.left_out}["superglue/cb"] == (
        "the harness cannot load it here: No module named 'transformers.data.metrics'"
    )
    with pytest.raises(DataError) as error:
        bench(Request(("superglue/cb",), model=str(base), data=data, limit=1), out=tmp_path)
    assert error.value.problems == (
        "superglue/cb: the harness cannot load it here: No module named 'transformers.data.metrics'.",
    )


def test_more_worked_examples_than_there_are_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--shots 6: mmlu/anatomy has 5 worked examples"):
        bench(Request(("mmlu/anatomy",), model="smollm2-135m-instruct", data=data, shots=6), out=tmp_path)


def test_a_task_that_takes_no_worked_examples_refuses_them(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--shots 1: bbh-direct/navigate is asked without worked examples"):
        bench(Request(BBH, model="smollm2-135m-instruct", data=data, shots=1), out=tmp_path)


def test_without_files_and_without_a_hub_both_ways_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: Any, **__: Any) -> Any:
        raise ConnectionError("Couldn't reach 'aps/super_glue' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(DataError) as error:
        bench(Request(("superglue/boolq",), model="smollm2-135m-instruct"), out=tmp_path)
    (problem,) = error.value.problems
    assert problem == (
        "superglue/boolq: \"aps/super_glue\" could not be fetched from the hub: Couldn't reach 'aps/super_glue' on the "
        "Hub. Check the network, or give superglue/BoolQ/val.jsonl in a folder with --data; docs/benchmarks.md has the "
        "layout."
    )


def test_an_adapter_of_another_base_is_refused(base: Path, tuned: Path, data: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", seed=2)
    with pytest.raises(RecipeError) as error:
        bench(Request(("superglue/boolq",), model=str(other), adapters=(tuned,), data=data), out=tmp_path)
    assert error.value.problems == (
        f"{tuned} was trained on {base}, whose weights are not those in {other}. Name its base with --model.",
    )


def test_a_context_without_room_for_a_suite_is_noticed_before_anything_is_asked(
    data: Path, base: Path, tmp_path: Path
) -> None:
    asked = ("mmlu/anatomy", "bbh/navigate", "bbh/object_counting")
    with pytest.raises(RecipeError) as error:
        bench(Request(asked, model=str(base), data=data, limit=1), out=tmp_path)
    assert error.value.problems == (
        "bbh: the answers of this suite may have 1024 tokens, and the model's context has 1024. Leave the suite out "
        "(bbh-direct has shorter answers), or take another model.",
    )
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_is_said_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        bench(Request((), data=tmp_path / "none", limit=0, shots=-1), out=tmp_path)
    assert len(error.value.problems) == 5


def test_the_seed_decides_which_items_are_asked() -> None:
    first = choose_items(100, 5, seed=0, name="glue/rte")
    assert first == choose_items(100, 5, seed=0, name="glue/rte")
    assert first != choose_items(100, 5, seed=1, name="glue/rte")
    assert first != choose_items(100, 5, seed=0, name="glue/cola")
    assert first == tuple(sorted(random.Random("0 glue/rte").sample(range(100), 5)))


def test_no_suite_asks_what_the_answering_does_not_know() -> None:
    """Whether a choice is the likeliest text is never computed, so no metric may rest on it."""
    from tunesmith.suites.catalog import task_files

    for suite in SUITES.values():
        for path in task_files(suite).values():
            defined = definition(path, whole=False)
            metrics = {one["metric"] for one in defined["metric_list"]}
            assert defined["output_type"] in ("multiple_choice", "generate_until")
            assert defined["output_type"] == "generate_until" or metrics <= {"acc", "f1", "mcc", "em"}
