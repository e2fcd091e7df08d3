import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tunesmith.errors import DataError, RecipeError
from tunesmith.metrics.files import FileScores, score_file

Write = Callable[[str, Sequence[Mapping[str, object]]], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.chdir(tmp_path)

    def write(name: str, rows: Sequence[Mapping[str, object]]) -> Path:
        path = Path(name)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def texts(count: int) -> list[str]:
    return [f"customer {k} asks for the lamp number {k * 7}" for k in range(count)]


def problems(path: Path, **options: list[str]) -> tuple[str, ...]:
    with pytest.raises(DataError) as caught:
        score_file(path, **options)
    return caught.value.problems


def values(scores: FileScores) -> dict[str, float]:
    return {sheet.candidate: round(sheet.scores[0].value, 1) for sheet in scores.sheets}


def test_several_columns_of_predictions_are_scored_and_compared(write: Write) -> None:
    rows = [{"human_baseline": text, "base_model_summaries": "asks", "peft_model_summaries": text} for text in texts(8)]
    scores = score_file(write("out.jsonl", rows))
    assert values(scores) == {"base_model_summaries": 22.2, "peft_model_summaries": 100.0}
    assert [score.metric for score in scores.sheets[0].scores] == ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    assert scores.sheets[0].task == "out.jsonl"
    assert scores.sheets[0].example_ids[1] == "out.jsonl:2"
    assert scores.comparisons[0].sentence.startswith(
        "peft_model_summaries beats base_model_summaries by 77.8 ROUGE-1 points (95 % CI "
    )
    assert scores.notes == (
        "Guessed from the names: reference = human_baseline.",
        "Guessed from the names: prediction = base_model_summaries, peft_model_summaries.",
    )


def test_named_columns_need_no_guess(write: Write) -> None:
    path = write("a.jsonl", [{"gold": "a b", "mine": "a b", "answer": "x"}] * 2)
    scores = score_file(path, references=["gold"], predictions=["mine"], metrics=["rouge1"])
    assert values(scores) == {"mine": 100.0}
    assert scores.notes == ()


@pytest.mark.parametrize(
    ("columns", "reference", "prediction"),
    [
        (["prompt", "predict", "label"], "label", "predict"),
        (["target", "generated_text"], "target", "generated_text"),
        (["summary1", "summary2", "response"], "summary1, summary2", "response"),
        (["answer", "answer_type", "output"], "answer", "output"),
        (["output", "prediction"], "output", "prediction"),
        (["Reference", "lora_pred", "full_pred"], "Reference", "lora_pred, full_pred"),
    ],
)
def test_usual_names_are_guessed_and_the_guess_is_said(
    write: Write, columns: list[str], reference: str, prediction: str
) -> None:
    rows = [{column: f"{column} {k}" for column in columns} for k in range(3)]
    assert score_file(write("a.jsonl", rows)).notes == (
        f"Guessed from the names: reference = {reference}.",
        f"Guessed from the names: prediction = {prediction}.",
    )


def test_several_references_may_stand_in_columns_or_in_a_list(write: Write) -> None:
    apart = write("a.jsonl", [{"reference_1": "a", "reference_2": "b c", "prediction": "b c"}] * 2)
    listed = write("b.jsonl", [{"references": ["a", "b c"], "prediction": "b c"}] * 2)
    for path in (apart, listed):
        scores = score_file(path)
        assert values(scores) == {"prediction": 100.0}
        assert "|refs:2|" in scores.sheets[0].scores[0].signature


def test_an_empty_cell_is_an_empty_answer(write: Write) -> None:
    answers = ["", None, "lamp"]
    rows = [{"reference": text, "prediction": answer} for text, answer in zip(texts(3), answers, strict=True)]
    score = score_file(write("a.jsonl", rows)).sheets[0].scores[0]
    assert (score.n, score.n_empty) == (3, 2)


def test_few_different_references_are_labels(write: Write) -> None:
    rows = [{"label": k % 2, "pred": k % 3 % 2} for k in range(12)]
    scores = score_file(write("a.jsonl", rows))
    assert [score.metric for score in scores.sheets[0].scores] == ["accuracy", "macro-f1"]
    assert scores.notes[-1] == (
        "The references are 2 different texts, so they are scored as labels. Name a metric to change that."
    )
    asked = score_file(Path("a.jsonl"), metrics=["rouge1"])
    assert [score.metric for score in asked.sheets[0].scores] == ["rouge1"]
    assert len(asked.notes) == 2


def test_rows_of_one_input_are_resampled_together(write: Write) -> None:
    rows = [
        {"dialogue": f"d{k // 3}", "summary": text, "prediction": text if k < 15 else "asks"}
        for k, text in enumerate(texts(30))
    ]
    together = score_file(write("a.jsonl", rows), metrics=["rouge1"])
    assert together.notes[-1] == 'Rows with the same "dialogue" belong together: 10 groups in 30 rows.'
    assert set(together.sheets[0].groups) == {f"dialogue {k}" for k in range(1, 11)}
    apart = score_file(write("b.jsonl", [row | {"dialogue": k} for k, row in enumerate(rows)]), metrics=["rouge1"])
    wide, narrow = (one.sheets[0].scores[0] for one in (together, apart))
    assert wide.high - wide.low > 1.3 * (narrow.high - narrow.low)


def test_an_input_that_hardly_changes_makes_no_groups(write: Write) -> None:
    rows = [{"input": "Summarise.", "summary": text, "prediction": text} for text in texts(30)]
    assert len(set(score_file(write("a.jsonl", rows)).sheets[0].groups)) == 30


def test_rows_on_one_line_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"reference": "a", "prediction": "a"}, {"reference": "b", "prediction": "b"}]')
    assert score_file(path).sheets[0].example_ids == ("a.json:1#1", "a.json:1#2")


def test_what_rouge_cannot_see_is_noted_once(write: Write) -> None:
    rows = [{"reference": f"доброе утро {'!' * k}", "a_pred": "утро", "b_pred": "x"} for k in range(3)]
    notes = score_file(write("a.jsonl", rows)).notes[2:]
    assert [note.split(" are in letters")[0] for note in notes] == [
        "3 of 3 references",
        "3 of 3 predictions of a_pred",
    ]


def test_columns_that_are_not_there_are_named_with_the_nearest(write: Write) -> None:
    path = write("a.jsonl", [{"reference": "a", "prediction": "a"}])
    assert problems(path, references=["refrence"], predictions=["prediction", "x"]) == (
        'a.jsonl: column "refrence" is not in this file; it has reference, prediction. Did you mean "reference"?',
        'a.jsonl: column "x" is not in this file; it has reference, prediction.',
    )
    assert problems(path, references=["reference"], predictions=["reference"]) == (
        'a.jsonl: column "reference" cannot be reference and prediction at once. Name two columns.',
    )


def test_columns_that_cannot_be_guessed_are_asked_for(write: Write) -> None:
    assert problems(write("a.jsonl", [{"one": "a", "two": "b"}])) == (
        "a.jsonl: no column looks like a reference; it has one, two. Name one with --reference.",
        "a.jsonl: no column looks like a prediction; it has one, two. Name one with --prediction.",
    )


def test_rows_without_reference_or_prediction_are_named_with_their_line(write: Write) -> None:
    rows = [{"reference": "a", "prediction": "a"}, {"reference": " ", "prediction": "b"}, {"prediction": "c"}]
    assert problems(write("a.jsonl", rows)) == (
        'a.jsonl:2: this row has no reference, "reference" is empty. Fill it in, or take the row out.',
        'a.jsonl:3: this row has no reference, "reference" is empty. Fill it in, or take the row out.',
    )
    assert problems(write("b.jsonl", [rows[0], {"reference": "b"}])) == (
        'b.jsonl:2: this row has no "prediction". Add it; leave it empty where there was no answer.',
    )


def test_hundreds_of_bad_rows_are_counted(write: Write) -> None:
    found = problems(write("a.jsonl", [{"reference": "", "prediction": "a"}] * 50))
    assert len(found) == 21
    assert found[-1] == "... and 30 more rows like these."


def test_unknown_metrics_are_refused(write: Write) -> None:
    path = write("a.jsonl", [{"reference": "a", "prediction": "a"}])
    with pytest.raises(RecipeError, match=r'^metric "roge" is not known\. Did you mean "rouge"\? Known: '):
        score_file(path, metrics=["roge"])
