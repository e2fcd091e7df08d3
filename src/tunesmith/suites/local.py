"""Local files of the benchmark suites, as the harness's tasks want their rows.

A folder of data has one folder for each suite; docs/benchmarks.md has the layout. Each task names the files of its
splits, and what turns a file into rows with the columns and labels that the same data set has on the hub.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError
from tunesmith.models.fetch import sha256
from tunesmith.suites.superglue import SUPERGLUE, one_of

Row = dict[str, Any]
Lines = Callable[[Path], Iterator[tuple[int, Any]]]
"""What reads a file into pieces, each with the line where it ends."""
Convert = Callable[[Any], Sequence[Row]]
"""What makes rows of one piece."""

PROBLEMS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Source:
    """Where one task has its rows."""

    files: Mapping[str, tuple[str, ...]]  # split -> files below the folder of data, read one after the other
    lines: Lines
    convert: Convert
    notes: tuple[str, ...] = ()  # where the files are not what the hub has


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one task."""

    splits: Mapping[str, list[Row]]
    files: Mapping[str, str] = field(default_factory=dict)  # name -> sha256
    notes: tuple[str, ...] = ()


def source_of(suite: str, task: str) -> Source:
    """Return where a task has its rows in a folder of data.

    Args:
        suite: ``glue``, ``superglue``, ``mmlu`` or ``bbh``.
        task: Name within the suite, as the harness has it.
    """
    if suite == "mmlu":
        files = {"test": (f"mmlu/test/{task}_test.csv",), "dev": (f"mmlu/dev/{task}_dev.csv",)}
        return Source(files, _comma_lines, _mmlu)
    if suite == "bbh":
        return Source({"test": (f"bbh/bbh/{task}.json",)}, _examples, _bbh)
    if suite == "superglue":
        folder, convert = SUPERGLUE[task]
        files = {"validation": (f"superglue/{folder}/val.jsonl",), "train": (f"superglue/{folder}/train.jsonl",)}
        return Source(files, _json_lines, convert)
    return GLUE[task]


def missing(source: Source, split: str, data: Path) -> tuple[str, ...]:
    """Return the files of a split that are not in the folder of data."""
    return tuple(name for name in source.files.get(split, ()) if not (data / name).is_file())


def read_rows(source: Source, data: Path) -> Rows:
    """Read every split whose files are all there.

    Raises:
        DataError: A file is not what its place says; the first lines that are not are named.
    """
    splits: dict[str, list[Row]] = {}
    files: dict[str, str] = {}
    for split, names in source.files.items():
        if missing(source, split, data):
            continue
        splits[split] = [row for name in names for row in _read(source, data / name)]
        files |= {name: sha256(data / name) for name in names}
    return Rows(splits, files, source.notes)


def _read(source: Source, path: Path) -> list[Row]:
    rows: list[Row] = []
    problems: list[str] = []
    try:
        for line, given in source.lines(path):
            try:
                rows += source.convert(given)
            except KeyError as error:
                problems.append(f"{path}:{line}: there is no {error.args[0]!r}.")
            except (TypeError, ValueError, IndexError, AttributeError) as error:
                problems.append(f"{path}:{line}: {error}.")
    except json.JSONDecodeError as error:
        problems.append(f"{path}: this is not JSON: {error}.")
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(f"{path}: this is no table in UTF-8: {error}.")
    if not problems and not rows:
        problems.append(f"{path}: there are no rows in it.")
    if problems:
        more = f"{len(problems) - PROBLEMS_SHOWN} more problems in {path}." if len(problems) > PROBLEMS_SHOWN else ""
        mend = "docs/benchmarks.md has the layout of the files; copy this one again from where it comes."
        raise DataError([*problems[:PROBLEMS_SHOWN], *filter(None, [more]), mend])
    return rows


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, 1):
            if text.strip():
                yield line, json.loads(text)


def _examples(path: Path) -> Iterator[tuple[int, Any]]:
    """Read the list of examples of one JSON object, which is not in lines."""
    found = json.loads(path.read_text(encoding="utf-8"))
    examples = found.get("examples", []) if isinstance(found, dict) else []
    yield from ((1, example) for example in examples)


def _comma_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read lines of question, four choices and answer; a header is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        for cells in lines:
            if cells and not (lines.line_num == 1 and cells[-1] == "answer"):
                yield lines.line_num, cells


def _tab_lines(*header: str) -> Lines:
    """Return what reads tab-separated lines, in which quotes mean nothing.

    Args:
        header: Names of the columns, of a file that has no first line with them.
    """

    def read(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            names = header or tuple(next(lines, ()))
            for cells in lines:
                if cells:
                    yield lines.line_num, dict(zip(names, cells, strict=False))

    return read


def _bbh(given: Any) -> list[Row]:
    return [{"input": given["input"], "target": given["target"]}]


def _mmlu(cells: list[str]) -> list[Row]:
    question, *choices, answer = cells
    if len(choices) != 4:
        raise ValueError(f"{len(cells)} columns, where question, four choices and the answer should be")
    return [{"question": question, "choices": choices, "answer": one_of(answer, {"A": 0, "B": 1, "C": 2, "D": 3})}]


def _columns(labels: Mapping[str, int], label: str = "label", **columns: str) -> Convert:
    """Return what keeps columns of a line, and makes its label a number.

    Args:
        labels: Words that stand for labels; their numbers stand for themselves.
        label: Column of the label.
        columns: Name in the rows -> name in the file.
    """

    def convert(cells: Mapping[str, str]) -> list[Row]:
        return [{**{name: cells[own] for name, own in columns.items()}, "label": one_of(cells[label], labels)}]

    return convert


NO_YES = {"0": 0, "1": 1}
ENTAILMENT = {"entailment": 0, "not_entailment": 1}
MNLI = {"entailment": 0, "neutral": 1, "contradiction": 2}
MRPC_NOTE = (
    "these are the 1,725 pairs of the test part that Microsoft published; GLUE's own 408 pairs for validation are "
    "chosen by a list that its file does not have"
)


def _of_glue(folder: str, convert: Convert, *, which: str = "") -> Source:
    """Return the files of a task as GLUE's own archive has them."""
    files = {f"validation{which}": (f"glue/{folder}/dev{which}.tsv",), "train": (f"glue/{folder}/train.tsv",)}
    return Source(files, _tab_lines(), convert)


_pair = _columns(ENTAILMENT, sentence1="sentence1", sentence2="sentence2")
_mnli = _columns(MNLI, "gold_label", premise="sentence1", hypothesis="sentence2")

GLUE: dict[str, Source] = {
    "cola": Source(
        {
            "validation": ("glue/CoLA/in_domain_dev.tsv", "glue/CoLA/out_of_domain_dev.tsv"),
            "train": ("glue/CoLA/in_domain_train.tsv",),
        },
        _tab_lines("source", "label", "mark", "sentence"),
        _columns(NO_YES, sentence="sentence"),
    ),
    "mrpc": Source(
        {"validation": ("glue/MRPC/msr_paraphrase_test.txt",), "train": ("glue/MRPC/msr_paraphrase_train.txt",)},
        _tab_lines(),
        _columns(NO_YES, "Quality", sentence1="#1 String", sentence2="#2 String"),
        (MRPC_NOTE,),
    ),
    "mnli": _of_glue("MNLI", _mnli, which="_matched"),
    "mnli_mismatch": _of_glue("MNLI", _mnli, which="_mismatched"),
    "qnli": _of_glue("QNLI", _columns(ENTAILMENT, question="question", sentence="sentence")),
    "qqp": _of_glue("QQP", _columns(NO_YES, "is_duplicate", question1="question1", question2="question2")),
    "rte": _of_glue("RTE", _pair),
    "sst2": _of_glue("SST-2", _columns(NO_YES, sentence="sentence")),
    "wnli": _of_glue("WNLI", _columns(NO_YES, sentence1="sentence1", sentence2="sentence2")),
}
"""Task -> its files, as GLUE, the CoLA corpus and Microsoft's paraphrase corpus come."""
