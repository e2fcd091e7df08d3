import sys
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith.data.fetched import read_hub, read_parquet
from tunesmith.errors import DataError, UserError


def install(monkeypatch: pytest.MonkeyPatch, module: str, **attributes: Any) -> None:
    monkeypatch.setitem(sys.modules, module.partition(".")[0], SimpleNamespace())
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**attributes))


def parquet_of(rows: list[Any]) -> Any:
    return lambda file: SimpleNamespace(to_pylist=lambda: rows)


def test_parquet_without_pyarrow_names_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError) as error:
        read_parquet("a.parquet", b"", max_row_bytes=100)
    assert str(error.value) == "a.parquet: reading parquet needs pyarrow. Run: pip install pyarrow"
    assert error.value.exit_code == 1


def test_parquet_values_become_what_json_could_hold(monkeypatch: pytest.MonkeyPatch):
    row = {"t": "x", "d": date(2026, 3, 1), "n": Decimal("1.50"), "f": float("nan"), "l": ("a", 1), "o": {"k": None}}
    install(monkeypatch, "pyarrow.parquet", read_table=parquet_of([row, {"t": b"raw"}, {"t": "y" * 300}]))
    table = read_parquet("a.parquet", b"", max_row_bytes=200)
    assert table.rows == ((1, {"t": "x", "d": "2026-03-01", "n": "1.50", "f": None, "l": ["a", 1], "o": {"k": None}}),)
    assert [(fault.line, fault.reason) for fault in table.set_aside] == [
        (2, "a value of type bytes, which is neither text, number nor list"),
        (3, "row of 309 bytes"),
    ]


def test_a_file_that_is_no_parquet_is_named(monkeypatch: pytest.MonkeyPatch):
    def fail(file: Any) -> None:
        raise ValueError("magic bytes not found\nmore")

    install(monkeypatch, "pyarrow.parquet", read_table=fail)
    with pytest.raises(DataError) as error:
        read_parquet("a.parquet", b"x", max_row_bytes=100)
    assert str(error.value) == "a.parquet: not a parquet file that can be read (magic bytes not found)."


def test_a_real_parquet_file_is_read(tmp_path: Any):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "stars": [1, 5]}), tmp_path / "a.parquet")
    table = read_parquet("a.parquet", (tmp_path / "a.parquet").read_bytes(), max_row_bytes=100)
    assert table.rows == ((1, {"text": "a", "stars": 1}), (2, {"text": "b", "stars": 5}))


def test_the_hub_without_its_library_names_the_command(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError) as error:
        read_hub("hub:org/name", max_row_bytes=100)
    assert str(error.value) == "hub:org/name: reading from the hub needs datasets. Run: pip install datasets"


def test_parts_of_a_hub_data_set_become_sides_and_others_are_said(monkeypatch: pytest.MonkeyPatch):
    parts = {"train": [{"a": "1"}], "dev": [{"a": "2"}], "unsupervised": [{"a": "3"}], "val": [{"a": "4"}]}
    asked: list[str] = []

    def load_dataset(name: str) -> dict[str, Any]:
        asked.append(name)
        return parts

    install(monkeypatch, "datasets", load_dataset=load_dataset)
    tables, digest = read_hub("hub:org/name", max_row_bytes=100)
    assert asked == ["org/name"]
    assert {side: table.rows for side, table in tables.items()} == {
        "train": ((1, {"a": "1"}),),
        "validation": ((1, {"a": "2"}),),
    }
    assert tables["train"].notes == ("hub:org/name: its parts unsupervised, val are not read",)
    assert len(digest) == 64
    parts["train"] = [{"a": "other"}]
    assert read_hub("hub:org/name", max_row_bytes=100)[1] != digest


def test_a_hub_data_set_without_known_parts_is_one_table(monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, "datasets", load_dataset=lambda name: {"all": [{"a": "1"}, {"a": "2"}]})
    assert read_hub("hub:org/name", max_row_bytes=100)[0][None].rows == ((1, {"a": "1"}), (2, {"a": "2"}))


def test_a_hub_data_set_that_cannot_be_fetched_is_named(monkeypatch: pytest.MonkeyPatch):
    def fail(name: str) -> None:
        raise ValueError("Dataset 'org/name' doesn't exist on the Hub\ntrace")

    install(monkeypatch, "datasets", load_dataset=fail)
    with pytest.raises(DataError) as error:
        read_hub("hub:org/name", max_row_bytes=100)
    assert str(error.value) == (
        "hub:org/name: cannot be fetched (Dataset 'org/name' doesn't exist on the Hub). Check the name and the network."
    )
