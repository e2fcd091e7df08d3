"""A few made-up items for tasks of every suite, in the files that the suites come in."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

THINGS = ("lamp", "kettle", "bicycle", "door", "clock", "garden", "ladder", "window", "bucket", "train")
PLACES = ("kitchen", "cellar", "street", "office", "yard", "harbour", "attic", "hall", "shed", "station")
PAIRS = list(zip(THINGS, PLACES, strict=True))


def write_suites(folder: Path) -> Path:
    """Write ten items for each of thirteen tasks."""
    for name, rows in superglue().items():
        write_lines(folder / "superglue" / name / "val.jsonl", rows)
    write_lines(folder / "superglue" / "RTE" / "train.jsonl", superglue()["RTE"][::-1])
    for subject in ("anatomy", "astronomy"):
        table = [
            [f"Where is the {a} of {subject}?", b, "nowhere", "at sea", "abroad", str(n % 4)]
            for n, (a, b) in enumerate(PAIRS)
        ]
        header = ["question", "choice0", "choice1", "choice2", "choice3", "answer"]
        write_cells(folder / "mmlu" / "test" / f"{subject}_test.csv", [header, *table], ",")
        write_cells(folder / "mmlu" / "dev" / f"{subject}_dev.csv", [header, *table[:5]], ",")
    for task in ("navigate", "object_counting"):
        examples = [{"input": f"Is the {a} in the {b}? {task}", "target": "Yes"} for a, b in PAIRS]
        path = folder / "bbh" / "bbh" / f"{task}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"canary": "made up", "examples": examples}), encoding="utf-8")
    write_glue(folder / "glue")
    return folder


def write_glue(folder: Path) -> None:
    pairs = [[f"The {a} stands.", f'A "{a}" is in the {b}.', str(n % 2), str(n)] for n, (a, b) in enumerate(PAIRS)]
    write_cells(folder / "RTE" / "dev.tsv", [["sentence1", "sentence2", "label", "idx"], *pairs], "\t")
    cola = [["own", str(n % 2), "", f"The {a} falls into the {b}."] for n, (a, b) in enumerate(PAIRS)]
    write_cells(folder / "CoLA" / "in_domain_dev.tsv", cola[:6], "\t")
    write_cells(folder / "CoLA" / "out_of_domain_dev.tsv", cola[6:], "\t")
    mrpc = [[one[2], one[3], one[3], one[0], one[1]] for one in pairs]
    header = ["\ufeffQuality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    write_cells(folder / "MRPC" / "msr_paraphrase_test.txt", [header, *mrpc], "\t")


def superglue() -> dict[str, list[dict[str, Any]]]:
    """Rows by folder, labels in the several ways in which copies of the data write them."""
    return {
        "BoolQ": [
            {"question": f"is the {a} in the {b}", "passage": f"The {a} is in the {b}.", "label": "true", "idx": 0}
            for a, b in PAIRS
        ],
        "CB": [
            {"premise": f"She hopes the {a} is new.", "hypothesis": f"the {a} is new", "label": label}
            for (a, _), label in zip(PAIRS, ["neutral", "entailment", "contradiction", "neutral", "entailment"] * 2,
                                     strict=True)
        ],
        "COPA": [
            {"premise": f"The {a} fell.", "choice1": f"It was in the {b}.", "choice2": "It broke.",
             "question": ("cause", "effect")[n % 2], "label": n % 2}
            for n, (a, b) in enumerate(PAIRS)
        ],
        "MultiRC": [
            {"passage": {"text": f"The {a} is in the {b}.", "questions": [
                {"question": f"Where is the {a}?", "answers": [{"text": b, "label": 1}, {"text": "away", "label": 0}]},
            ]}}
            for a, b in PAIRS[:5]
        ],
        "RTE": [
            {"premise": f"The {a} is in the {b}.", "hypothesis": f"There is a {a}.",
             "label": ("entailment", "not_entailment")[n % 2]}
            for n, (a, b) in enumerate(PAIRS)
        ],
        "WSC": [
            {"text": f"We saw the {a} in the {b} and it shone.", "label": bool(n % 2), "target": {
                "span1_index": 2, "span1_text": f"The {a}", "span2_index": 8, "span2_text": "it"}}
            for n, (a, b) in enumerate(PAIRS)
        ],
        "WiC": [
            {"word": a, "sentence1": f"The {a} is old.", "sentence2": f"One {a} more.", "label": "false",
             "start1": 4, "end1": 4 + len(a), "start2": 4, "end2": 4 + len(a)}
            for a, _ in PAIRS
        ],
    }  # fmt: skip


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_cells(path: Path, rows: Iterable[list[str]], separator: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
