from collections import Counter
from typing import Any

import pytest

from tunesmith.data.rows import Row, Rows
from tunesmith.data.splits import Placed, assign_split
from tunesmith.errors import DataError
from tunesmith.records import Split
from tunesmith.settings import SplitSettings, TaskSettings


def table(*values: dict[str, Any], sides: tuple[Split | None, ...] | None = None) -> Rows:
    given = sides or (None,) * len(values)
    rows = tuple(Row(v, "a.csv", n, side) for n, (v, side) in enumerate(zip(values, given, strict=True), 2))
    return Rows(TaskSettings(name="t", source="a.csv"), rows, (), (), {})


def texts(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"row number {n}", **more} for n in range(count)]


def split(rows: Rows, seed: int = 0, **settings: Any) -> tuple[Placed, ...]:
    return assign_split(rows, SplitSettings(**settings), inputs=("text",), seed=seed)[0]


def notes(rows: Rows, **settings: Any) -> tuple[str, ...]:
    return assign_split(rows, SplitSettings(**settings), inputs=("text",), seed=0)[1]


def sides(placed: tuple[Placed, ...]) -> dict[str, Split]:
    return {item.row.values["text"]: item.split for item in placed}


def problems(rows: Rows, **settings: Any) -> tuple[str, ...]:
    with pytest.raises(DataError) as error:
        split(rows, **settings)
    return error.value.problems


def test_shares_are_kept_and_need_not_sum_to_one():
    counted = Counter(item.split for item in split(table(*texts(2000))))
    assert 1540 <= counted["train"] <= 1660
    assert 150 <= counted["validation"] <= 250
    assert 150 <= counted["test"] <= 250
    assert sides(split(table(*texts(200)), train=0.4, validation=0.05, test=0.05)) == sides(split(table(*texts(200))))


def test_adding_rows_moves_none():
    before = sides(split(table(*texts(100))))
    after = sides(split(table(*texts(100)[::-1], *({"text": f"new {n}"} for n in range(300)))))
    assert {text: after[text] for text in before} == before


def test_a_larger_training_share_takes_nothing_out_of_test_into_training():
    small = sides(split(table(*texts(500)), train=0.5, validation=0.3, test=0.2))
    large = sides(split(table(*texts(500)), train=0.7, validation=0.1, test=0.2))
    assert {t for t, side in small.items() if side == "test"} == {t for t, side in large.items() if side == "test"}
    assert all(large[text] == "train" for text, side in small.items() if side == "train")


def test_the_seed_decides_the_sides():
    assert sides(split(table(*texts(100)), seed=1)) != sides(split(table(*texts(100)), seed=2))


def test_rows_of_one_group_are_on_one_side_and_equal_texts_are_one_group():
    rows = [{"text": f"row {n}", "customer": f"c{n % 20}"} for n in range(200)]
    by_group: dict[str, set[str]] = {}
    for item in split(table(*rows), group="customer"):
        by_group.setdefault(item.group, set()).add(item.split)
    assert set(by_group) == {f"c{n}" for n in range(20)}
    assert all(len(found) == 1 for found in by_group.values())
    same = split(table(*texts(60), {"text": "ROW  number 7!"}))
    assert same[-1].group == same[7].group
    assert same[-1].split == same[7].split
    assert len({item.group for item in same}) == 60


def test_numbers_are_group_keys_too_and_rows_without_one_are_groups_of_their_own():
    rows = table(*texts(60, customer=4), *({"text": f"x{n}", "customer": ""} for n in range(60)))
    found = assign_split(rows, SplitSettings(group="customer", test=0.5), inputs=("text",), seed=0)
    assert len({item.group for item in found[0]}) == 61
    assert found[1] == ('task "t": 60 rows with an empty customer; each is a group by its own text',)


def test_ids_say_task_side_and_place():
    assert all(item.id == f"t/{item.split}/a.csv:{item.row.line}" for item in split(table(*texts(60))))


def test_sides_that_files_give_are_kept():
    rows = table(*texts(30), sides=("train",) * 10 + ("validation",) * 10 + ("test",) * 10)
    assert [item.split for item in split(rows)] == ["train"] * 10 + ["validation"] * 10 + ["test"] * 10


def test_what_files_do_not_give_is_taken_from_their_training_rows():
    rows = table(*texts(400), sides=("train",) * 300 + ("test",) * 100)
    found = split(rows, train=0.8, validation=0.2, test=0.4)
    counted = Counter(item.split for item in found)
    assert counted["test"] == 100
    assert 40 <= counted["validation"] <= 80
    only_train = Counter(item.split for item in split(table(*texts(300), sides=("train",) * 300)))
    assert only_train.keys() == {"train", "validation", "test"}


def test_a_column_gives_the_side_in_any_spelling():
    names = ["train", "Training", "dev", "valid", "VAL", "validation", " test ", "testing"]
    rows = table(*({"text": name, "part": name} for name in names))
    expected = ["train"] * 2 + ["validation"] * 4 + ["test"] * 2
    assert [item.split for item in split(rows, column="part")] == expected


def test_a_column_called_split_is_used_when_all_of_it_says_a_side():
    rows = table({"text": "a", "split": "train"}, {"text": "b", "split": "dev"}, {"text": "c", "split": "test"})
    assert [item.split for item in split(rows)] == ["train", "validation", "test"]
    assert notes(rows) == ('task "t": column split gives the split',)
    other = table(*texts(200, split="banana"))
    assert {item.split for item in split(other)} == {"train", "validation", "test"}
    assert notes(other) == ()


def test_values_that_name_no_side_are_listed():
    rows = table(*texts(12, part="banana"), {"text": "x", "part": "train"}, {"text": "y"})
    assert problems(rows, column="part") == (
        'task "t": column "part" must say train, validation or test; in 13 rows it does not.',
        *(f"a.csv:{line}: 'banana'" for line in range(2, 12)),
        "... and 3 more.",
    )
    assert problems(table({"text": "x", "part": 3}, {"text": "y", "part": "dev"}), column="part") == (
        'task "t": column "part" must say train, validation or test; in 1 row it does not.',
        "a.csv:2: 3",
    )


def test_files_win_over_a_split_column_and_a_note_says_so():
    rows = table(*texts(3, part="train"), sides=("train", "validation", "test"))
    assert notes(rows, column="part") == ('task "t": files give the split; column part is not used',)


def test_groups_that_given_sides_tear_apart_are_noted():
    rows = table(*texts(2), *texts(2), {"text": "z"}, sides=("train", "train", "test", "test", "validation"))
    assert notes(rows)[0].startswith('task "t": the given split puts 2 groups on more than one side, for instance ')


def test_missing_columns_bad_limits_and_empty_shares_are_said_at_once():
    settings = {"train": 0.0, "validation": 0.0, "test": 0.0, "group": "costumer", "column": "part"}
    assert problems(table(*texts(3, customer="c")), limit={"train": -1}, **settings) == (
        "split.train, split.validation and split.test are all 0. Give at least train a share.",
        "split.limit.train is -1. Write how many rows to keep, or leave it out.",
        'split.group is "costumer", and the rows of task "t" have no such column; they have customer, text. '
        'Did you mean "customer"?',
        'split.column is "part", and the rows of task "t" have no such column; they have customer, text.',
    )


def test_a_side_without_rows_is_an_error_that_says_what_to_do():
    rows = table(*({"text": f"row {n}", "customer": "c1"} for n in range(5)))
    with pytest.raises(DataError) as error:
        split(rows, group="customer", train=0.0, validation=0.5, test=0.5, seed=1)
    assert len(error.value.problems) == 1
    assert error.value.problems[0].startswith('task "t": no row is left for ')
    assert problems(table({"text": "a"}), test=1.0, validation=0.0, train=0.5, seed=0) in {
        (
            f'task "t": no row is left for {side}: 1 row in 1 group, and a share of {share}. Add rows, raise '
            f"`split.{side}`, choose another seed, or give a file for it: `source: {{{side}: FILE}}`.",
        )
        for side, share in (("train", "0.5"), ("test", "1"))
    }


def test_a_share_of_zero_asks_for_an_empty_side():
    found = split(table(*texts(100)), validation=0.0)
    assert {item.split for item in found} == {"train", "test"}


def test_limits_keep_the_same_rows_in_any_order_and_are_said():
    rows = texts(300)
    few = {item.row.values["text"] for item in split(table(*rows), limit={"train": 20, "test": 5})}
    assert few == {item.row.values["text"] for item in split(table(*rows[::-1]), limit={"train": 20, "test": 5})}
    fewer = {item.row.values["text"] for item in split(table(*rows), limit={"train": 10, "test": 5})}
    assert fewer < few
    counted = Counter(item.split for item in split(table(*rows), limit={"train": 20, "test": 5}))
    assert (counted["train"], counted["test"]) == (20, 5)
    said = notes(table(*rows), limit={"train": 20, "test": 5000})
    whole = sum(item.split == "train" for item in split(table(*rows)))
    assert said == (f'task "t": the limit keeps 20 of {whole} rows for train',)
    assert sides(split(table(*rows), limit={"validation": 0})).keys() < sides(split(table(*rows))).keys()


def test_two_rows_of_one_id_are_refused() -> None:
    rows = tuple(Row({"text": text}, "a.csv", 2) for text in ("one", "two"))
    with pytest.raises(DataError, match=r'^task "t": several rows have the same id, for instance t/train/a\.csv:2\.'):
        assign_split(
            Rows(TaskSettings(name="t", source="a.csv"), rows, (), (), {}),
            SplitSettings(train=1, validation=0, test=0), inputs=("text",), seed=0,
        )  # fmt: skip
