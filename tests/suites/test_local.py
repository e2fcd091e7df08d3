from pathlib import Path

import pytest
from small_suites import write_cells, write_lines

from tunesmith.errors import DataError
from tunesmith.suites.local import missing, read_rows, source_of
from tunesmith.suites.superglue import SUPERGLUE


def rows(data: Path, suite: str, task: str, split: str = "validation") -> list[dict[str, object]]:
    return read_rows(source_of(suite, task), data).splits[split]


@pytest.mark.parametrize("task", sorted(set(SUPERGLUE) - {"record"}))
def test_every_superglue_file_gives_its_items(data: Path, task: str) -> None:
    found = rows(data, "superglue", task)
    assert len(found) == 10
    assert {type(row["label"]) for row in found} == {int}


def test_the_answers_of_a_paragraph_are_items_of_their_own(data: Path) -> None:
    first, second = rows(data, "superglue", "multirc")[:2]
    assert first == {
        "paragraph": "The lamp is in the kitchen.", "question": "Where is the lamp?", "answer": "kitchen", "label": 1
    }  # fmt: skip
    assert (second["answer"], second["label"]) == ("away", 0)


def test_the_labels_are_numbered_as_on_the_hub(data: Path) -> None:
    assert [row["label"] for row in rows(data, "superglue", "cb")][:3] == [2, 0, 1]
    assert [row["label"] for row in rows(data, "superglue", "rte")][:2] == [0, 1]
    assert [row["label"] for row in rows(data, "superglue", "wsc")][:2] == [0, 1]


def test_a_span_is_written_as_its_text_writes_it(data: Path) -> None:
    first = rows(data, "superglue", "wsc")[0]
    assert (first["span1_text"], first["span2_text"], first["span2_index"]) == ("the lamp", "it", 8)


def test_a_passage_with_queries_gives_a_row_for_each(tmp_path: Path) -> None:
    text = "Ann met Bo.\n@highlight\nAnn left"
    entities = [{"start": 0, "end": 2}, {"start": 8, "end": 9}, {"start": 23, "end": 25}]
    query = {"query": "@placeholder left", "answers": [{"text": "Ann", "start": 0, "end": 2}], "idx": 0}
    write_lines(
        tmp_path / "superglue/ReCoRD/val.jsonl",
        [{"passage": {"text": text, "entities": entities}, "qas": [query, query]}],
    )
    wanted = {"passage": text, "query": "@placeholder left", "entities": ["Ann", "Bo"], "answers": ["Ann"]}
    assert rows(tmp_path, "superglue", "record") == [wanted, wanted]


def test_quotes_in_a_tab_separated_file_are_letters(data: Path) -> None:
    assert rows(data, "glue", "rte")[0] == {
        "sentence1": "The lamp stands.", "sentence2": 'A "lamp" is in the kitchen.', "label": 0
    }  # fmt: skip
    assert rows(data, "glue", "mrpc")[1]["sentence2"] == 'A "kettle" is in the cellar.'


def test_both_files_of_cola_are_read(data: Path) -> None:
    assert len(rows(data, "glue", "cola")) == 10


@pytest.mark.parametrize(
    ("task", "folder", "header", "cells", "row"),
    [
        ("sst2", "SST-2", "sentence\tlabel", "a fine film\t1", {"sentence": "a fine film", "label": 1}),
        ("wnli", "WNLI", "index\tsentence1\tsentence2\tlabel", "0\tA b.\tC d.\t1",
         {"sentence1": "A b.", "sentence2": "C d.", "label": 1}),
        ("qnli", "QNLI", "index\tquestion\tsentence\tlabel", "0\tWho?\tAnn.\tnot_entailment",
         {"question": "Who?", "sentence": "Ann.", "label": 1}),
        ("qqp", "QQP", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\tWho?\tWhat?\t0",
         {"question1": "Who?", "question2": "What?", "label": 0}),
    ],
)  # fmt: skip
def test_the_files_of_glues_own_archive_are_read(
    tmp_path: Path, task: str, folder: str, header: str, cells: str, row: dict[str, object]
) -> None:
    write_cells(tmp_path / "glue" / folder / "dev.tsv", [[header], [cells]], "")
    assert rows(tmp_path, "glue", task) == [row]


def test_mnli_has_two_sets_of_validation_items(tmp_path: Path) -> None:
    header = ["index", "sentence1", "sentence2", "label1", "gold_label"]
    for which, label in (("matched", "neutral"), ("mismatched", "contradiction")):
        line = ["0", "It rains.", "It is dry.", "entailment", label]
        write_cells(tmp_path / f"glue/MNLI/dev_{which}.tsv", [header, line], "\t")
    assert rows(tmp_path, "glue", "mnli", "validation_matched") == [
        {"premise": "It rains.", "hypothesis": "It is dry.", "label": 1}
    ]
    assert rows(tmp_path, "glue", "mnli_mismatch", "validation_mismatched")[0]["label"] == 2


def test_mmlu_is_read_with_and_without_a_header(tmp_path: Path, data: Path) -> None:
    first = rows(data, "mmlu", "anatomy", "test")[0]
    assert first == {
        "question": "Where is the lamp of anatomy?", "choices": ["kitchen", "nowhere", "at sea", "abroad"], "answer": 0
    }  # fmt: skip
    assert len(rows(data, "mmlu", "anatomy", "dev")) == 5
    write_cells(tmp_path / "mmlu/test/virology_test.csv", [["What?", "1", "2", "3", "4", "D"]], ",")
    assert rows(tmp_path, "mmlu", "virology", "test") == [
        {"question": "What?", "choices": ["1", "2", "3", "4"], "answer": 3}
    ]


def test_bbh_has_questions_and_answers_and_no_canary(data: Path) -> None:
    assert rows(data, "bbh", "navigate", "test")[0] == {
        "input": "Is the lamp in the kitchen? navigate", "target": "Yes"
    }  # fmt: skip


def test_what_is_missing_is_named_by_its_place_below_the_folder(data: Path) -> None:
    assert missing(source_of("superglue", "record"), "validation", data) == ("superglue/ReCoRD/val.jsonl",)
    assert missing(source_of("superglue", "boolq"), "validation", data) == ()
    assert "train" not in read_rows(source_of("superglue", "boolq"), data).splits


def test_files_are_recorded_with_their_hash(data: Path) -> None:
    files = read_rows(source_of("glue", "cola"), data).files
    assert set(files) == {"glue/CoLA/in_domain_dev.tsv", "glue/CoLA/out_of_domain_dev.tsv"}
    assert {len(digest) for digest in files.values()} == {64}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"question": "is it", "passage": "It is."}\n', ":1: there is no 'label'."),
        ('{"question": "is it", "passage": "It is.", "label": "perhaps"}\n',
         ':1: the label "perhaps" is none of false, true.'),
        ("not json\n", ": this is not JSON: Expecting value: line 1 column 1 (char 0)."),
        ("", ": there are no rows in it."),
    ],
)  # fmt: skip
def test_a_file_that_is_not_what_its_place_says_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "superglue/BoolQ/val.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_rows(source_of("superglue", "boolq"), tmp_path)
    assert error.value.problems == (
        f"{path}{said}",
        "docs/benchmarks.md has the layout of the files; copy this one again from where it comes.",
    )


def test_all_bad_lines_are_named_up_to_ten(tmp_path: Path) -> None:
    write_cells(tmp_path / "mmlu/test/virology_test.csv", [["What?", "1", "2"]] * 12, ",")
    with pytest.raises(DataError) as error:
        read_rows(source_of("mmlu", "virology"), tmp_path)
    assert len(error.value.problems) == 12
    assert error.value.problems[9].endswith(
        ":10: 3 columns, where question, four choices and the answer should be."
    )  # fmt: skip
    assert error.value.problems[10].startswith("2 more problems in ")
