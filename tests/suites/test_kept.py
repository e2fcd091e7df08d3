from pathlib import Path

from tunesmith.suites.kept import Kept

FIRST, SECOND = ((1, 2, 3), 16, "Q:"), ((1, 2), ((4,), (5, 6)))


def test_what_was_kept_is_found_by_the_same_model_alone(tmp_path: Path) -> None:
    file = tmp_path / "bench" / "few.part.jsonl"
    Kept(file, "a").keep({FIRST: "an answer", SECOND: [-0.5, -2.25]})
    assert Kept(file, "a").find([FIRST, SECOND, (1,)]) == {FIRST: "an answer", SECOND: [-0.5, -2.25]}
    assert Kept(file, "b").find([FIRST, SECOND]) == {}
    assert (len(Kept(file, "a").answers), len(Kept(file, "b").answers)) == (2, 0), "as many as are said to be there"


def test_another_length_or_another_end_is_another_question(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "few.part.jsonl", "a")
    kept.keep({FIRST: "an answer"})
    assert kept.find([((1, 2, 3), 17, "Q:"), ((1, 2, 3), 16, "A:"), ((1, 2, 3), 16)]) == {}


def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path) -> None:
    file = tmp_path / "few.part.jsonl"
    Kept(file, "a").keep({FIRST: "an answer"})
    Kept(file, "a").keep({SECOND: [-0.5]})
    file.write_text(file.read_text()[:-9])
    kept = Kept(file, "a")
    assert kept.find([FIRST, SECOND]) == {FIRST: "an answer"}
    kept.keep({SECOND: [-0.5]})
    assert Kept(file, "a").find([FIRST, SECOND]) == {FIRST: "an answer", SECOND: [-0.5]}


def test_without_a_file_nothing_is_written() -> None:
    kept = Kept()
    kept.keep({FIRST: "an answer"})
    assert kept.find([FIRST]) == {FIRST: "an answer"}
