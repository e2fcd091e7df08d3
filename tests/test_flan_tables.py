"""The benchmark of held-out tasks reads data sets as their authors give them; here on a few made-up rows of each."""

import gzip
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tunesmith.data.prepare import prepare
from tunesmith.recipe import load_recipe
from tunesmith.settings import DataSettings, SplitSettings

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MARK = "\ufeff"


@pytest.fixture
def flan(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("flan", BENCHMARKS / "flan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "flan", module)
    spec.loader.exec_module(module)
    return module


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def objects(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of the shape that the benchmark wants."""
    root = tmp_path / "sets"
    put(root / "dialogsum/train_small.jsonl", objects({"id": "1", "dialogue": "A: Hi.", "summary": "They greet."}))
    put(
        root / "bitext_customer_support/train/Bitext_Sample_Customer_Service_Training_Dataset.csv",
        'utterance,intent,tags\n"stop, please",cancel_order,B\n',
    )
    put(
        root / "amazon_alexa_reviews/amazon_alexa.tsv",
        f'{MARK}rating\tdate\tvariation\tverified_reviews\tfeedback\r\n4\t31-Jul-18\tBlack\t"Two\nlines"\t1\r\n',
    )
    put(root / "mmlu/test/birds_test.csv", "question,choice0,choice1,choice2,choice3,answer\nWhich flies?,a,b,c,d,2\n")
    for language, line in (("en", "A dog."), ("de", "Ein Hund.")):
        (root / "multi30k").mkdir(exist_ok=True)
        (root / f"multi30k/val.{language}.gz").write_bytes(gzip.compress(f"{line}\n".encode()))
    put(root / "gsm8k/train.jsonl", objects({"question": "1 + 1?", "answer": "One and one.\n#### 2"}))
    put(root / "glue/CoLA/in_domain_train.tsv", 'gj04\t0\t*\tHe said "no go.\ngj04\t1\t\tIt works.\n')
    put(root / "wnut17_ner/wnut17train.conll", "Ann\tB-person\nLee\tI-person\nsmiles\tO\n\t\nhere\tO\n")
    put(root / "superglue/RTE/val.jsonl", objects({"premise": "p", "hypothesis": "h", "label": "entailment", "idx": 0}))
    put(root / "superglue/CB/val.jsonl", objects({"premise": "p", "hypothesis": "h", "label": "neutral", "idx": 0}))
    put(
        root / "glue/MRPC/msr_paraphrase_test.txt",
        f'{MARK}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tHe said "yes.\tHe agreed.\n',
    )
    put(root / "superglue/BoolQ/val.jsonl", objects({"question": "is it", "passage": "It is.", "label": "true"}))
    return root


def test_every_set_becomes_rows_of_its_template(flan: ModuleType, data: Path, tmp_path: Path) -> None:
    flan.write_tables(data, tmp_path / "tables")
    made = {
        path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in (tmp_path / "tables").glob("*.jsonl")
    }
    assert made["stars"] == [{"review": "Two\nlines", "stars": "4", "split": "train"}]
    assert made["intent"] == [{"text": "stop, please", "intent": "cancel order", "split": "train"}]
    assert made["multiple-choice"][0]["answer"] == "C"
    assert made["multiple-choice"][0]["options"] == ["a", "b", "c", "d"]
    assert made["translation"][0] == {
        "text": "A dog.", "language": "German", "translation": "Ein Hund.", "split": "train",
    }  # fmt: skip
    assert made["arithmetic"][0] == {"question": "1 + 1?", "rationale": "One and one.", "answer": "2", "split": "train"}
    assert [row["label"] for row in made["grammar"]] == ["no", "yes"]
    assert made["grammar"][0]["sentence"] == 'He said "no go.'
    assert made["entities"] == [
        {"text": "Ann Lee smiles", "entities": [{"text": "Ann Lee", "type": "person"}], "split": "train"},
        {"text": "here", "entities": [], "split": "train"},
    ]
    assert made["mrpc"] == [
        {"sentence1": 'He said "yes.', "sentence2": "He agreed.", "label": "yes", "split": "test"}
    ]  # fmt: skip
    assert made["boolq"][0] == {"passage": "It is.", "question": "is it", "answer": "yes", "split": "test"}


def test_the_recipe_takes_these_tables(flan: ModuleType, data: Path, tmp_path: Path) -> None:
    flan.write_tables(data, tmp_path / "tables")
    recipe, _ = load_recipe(BENCHMARKS / "flan.yaml")
    split, where = SplitSettings(train=1, validation=0, test=0), DataSettings(folder=str(tmp_path / "tables"))
    found = prepare(recipe.tasks, split=split, data=where, seed=0, base=BENCHMARKS, mixture=recipe.mixture)
    assert {one.task for one in found.examples["test"]} == {"rte", "cb", "mrpc", "boolq"}
    assert {one.task for one in found.examples["train"]} == {task.name for task in recipe.tasks[:8]}
    assert all(one.choices for one in found.examples["test"])


def test_the_mean_of_several_tasks_is_that_of_their_means(flan: ModuleType) -> None:
    def sheet(*values: float) -> dict[str, object]:
        ids = [str(number) for number in range(len(values))]
        return {"example_ids": ids, "groups": ids, "per_example": {"accuracy": values}}

    values, groups = flan.together({"a": sheet(100, 100, 100), "b": sheet(0)}, ["a", "b"])
    assert sum(values) / len(values) == pytest.approx(50)
    assert groups == ["a/0", "a/1", "a/2", "b/0"]


def test_a_shift_of_preference_is_no_gain_where_labels_count_alike(flan: ModuleType) -> None:
    told = {"0": "yes", "1": "yes", "2": "yes", "3": "no"}

    def sheet(*values: float) -> dict[str, object]:
        return {"example_ids": list(told), "groups": list(told), "per_example": {"accuracy": values}}

    always_no, always_yes = {"a": sheet(0, 0, 0, 100)}, {"a": sheet(100, 100, 100, 0)}
    assert flan.rated(always_yes, always_no, ["a"])["over the base"]["difference"] == pytest.approx(50)
    assert flan.rated(always_yes, always_no, ["a"], told)["over the base"]["difference"] == pytest.approx(0)
    assert flan.rated(always_no, always_no, ["a"], told)["value"] == pytest.approx(50)


def test_one_who_has_not_read_the_rows_guesses_or_gives_the_commonest_label(flan: ModuleType, tmp_path: Path) -> None:
    tasks = [task for own in flan.HELD_OUT.values() for task in own]
    wanted = ("yes", "yes", "yes", "no")
    rows = [{"id": f"{task}/{n}", "target": label} for task in tasks for n, label in enumerate(wanted)]
    (tmp_path / "data").mkdir()
    flan.write(tmp_path / "data" / "test.jsonl", rows)
    for task in tasks:
        place = tmp_path / "candidates" / "zero-shot" / "scores" / f"{task}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"example_ids": [f"{task}/{n}" for n in range(4)]}), encoding="utf-8")
    assert flan.without_reading(tmp_path)["all held-out tasks"] == {"guess": 50, "commonest": 75}
