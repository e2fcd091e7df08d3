"""Does a model that was tuned on more tasks do better on families of tasks that it was not tuned on?

    python benchmarks/flan.py --data FOLDER [--out FOLDER] [--cells 2,4,8] [--limit N] [--model MODEL]

FOLDER holds the files of the data sets as their authors give them: DialogSum, Alexa reviews, Bitext intents, GSM8K,
MMLU, Multi30k, CoLA, WNUT-17, RTE, CommitmentBank, BoolQ, MRPC. Their licences differ, so that none is kept here. The
base and one model for each number of tuning tasks answer the test rows of families that are held out (Wei et al., 2022,
arXiv 2109.01652). The same command goes on with a run that was interrupted; a cell that is done is not done
again. ``--limit`` takes N examples for tuning and N test rows of a task, to try the script itself: the result is
printed and not kept, as with ``--cells`` or ``--model``. About an hour and a half on one core.
"""

import argparse
import csv
import gzip
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from keeping import keep

RECIPE = Path(__file__).with_suffix(".yaml")
PACKAGES = ("tunesmith", "torch", "transformers", "peft")
HELD_OUT = {
    "natural-language-inference": ("rte", "cb"),
    "paraphrase": ("mrpc",),
    "yes-no-question": ("boolq",),
}
CELLS = (2, 4, 8)
LETTERS = "ABCD"
Row = dict[str, Any]


def lines(path: Path) -> Iterator[Row]:
    """Yield the objects of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def packed(path: Path) -> Iterator[str]:
    """Yield the lines of a packed text."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from file


def table(path: Path, *, delimiter: str = ",", header: tuple[str, ...] = (), quoted: bool = True) -> Iterator[Row]:
    """Yield the rows of a table, whose first line names the columns unless they are given."""
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file, fieldnames=header or None, delimiter=delimiter, quoting=quoting)


def entities(path: Path) -> Iterator[Row]:
    """Yield sentences with their entities from a file of "token TAB tag" lines."""
    with path.open(encoding="utf-8") as file:
        for blank, group in groupby(file, key=lambda line: not line.strip()):
            if blank:
                continue
            found: list[dict[str, str]] = []
            tokens = [line.rstrip("\n").split("\t") for line in group]
            for token, tag in tokens:
                if tag.startswith("B-"):
                    found.append({"text": token, "type": tag[2:]})
                elif tag.startswith("I-") and found:
                    found[-1]["text"] += f" {token}"
            yield {"text": " ".join(token for token, _ in tokens), "entities": found}


def tuning(data: Path) -> dict[str, Iterator[Row]]:
    """Return the rows of each tuning task, with the columns of its template."""
    bitext = data / "bitext_customer_support" / "train" / "Bitext_Sample_Customer_Service_Training_Dataset.csv"
    alexa = data / "amazon_alexa_reviews" / "amazon_alexa.tsv"
    cola = data / "glue" / "CoLA" / "in_domain_train.tsv"
    pairs = [packed(data / "multi30k" / f"val.{one}.gz") for one in ("en", "de")]
    return {
        "summarize": (
            {"dialogue": row["dialogue"], "summary": row["summary"]}
            for row in lines(data / "dialogsum" / "train_small.jsonl")
        ),
        "intent": ({"text": row["utterance"], "intent": row["intent"].replace("_", " ")} for row in table(bitext)),
        "stars": ({"review": r["verified_reviews"], "stars": r["rating"]} for r in table(alexa, delimiter="\t")),
        "multiple-choice": (
            {
                "question": row["question"],
                "options": [row[f"choice{n}"] for n in range(4)],
                "answer": LETTERS[int(row["answer"])],
            }
            for path in sorted((data / "mmlu" / "test").glob("*.csv"))
            for row in table(path)
        ),
        "translation": (
            {"text": english.strip(), "language": "German", "translation": german.strip()}
            for english, german in zip(*pairs, strict=True)
        ),
        "arithmetic": (
            {"question": row["question"], "rationale": steps.strip(), "answer": result.strip()}
            for row in lines(data / "gsm8k" / "train.jsonl")
            for steps, _, result in [row["answer"].partition("####")]
        ),
        "grammar": (
            {"sentence": row["sentence"], "label": yes(row["label"] == "1")}
            for row in table(cola, delimiter="\t", header=("source", "label", "mark", "sentence"), quoted=False)
        ),
        "entities": entities(data / "wnut17_ner" / "wnut17train.conll"),
    }


def asked(data: Path) -> dict[str, Iterator[Row]]:
    """Return the test rows of each held-out task, with the columns of its template."""
    superglue = data / "superglue"
    mrpc = table(data / "glue" / "MRPC" / "msr_paraphrase_test.txt", delimiter="\t", quoted=False)
    return {
        "rte": (pick(row, "premise", "hypothesis", "label") for row in lines(superglue / "RTE" / "val.jsonl")),
        "cb": (pick(row, "premise", "hypothesis", "label") for row in lines(superglue / "CB" / "val.jsonl")),
        "mrpc": (
            {"sentence1": row["#1 String"], "sentence2": row["#2 String"], "label": yes(row["Quality"] == "1")}
            for row in mrpc
        ),
        "boolq": (
            {"passage": row["passage"], "question": row["question"], "answer": yes(str(row["label"]).lower() == "true")}
            for row in lines(superglue / "BoolQ" / "val.jsonl")
        ),
    }


def yes(right: bool) -> str:
    return "yes" if right else "no"


def pick(row: Row, *names: str) -> Row:
    return {name: row[name] for name in names}


def write_tables(data: Path, folder: Path) -> None:
    """Write a table for each task, every row with its side; a table that is there stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, tables in (("train", tuning(data)), ("test", asked(data))):
        for name, rows in tables.items():
            path = folder / f"{name}.jsonl"
            if not path.exists():
                write(path, ({**row, "split": side} for row in rows))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows all or not at all."""
    staged = path.with_suffix(".part")
    with staged.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    staged.replace(path)


def measure(run: Path, cells: tuple[int, ...]) -> dict[str, Any]:
    """Return what each number of tuning tasks reaches: of each held-out task, of each family, and in the mean.

    Accuracy, and balanced accuracy: the mean over the labels of a task, each label counting as much as any other. A
    model that prefers one label, whatever it is asked, has a balanced accuracy of one in the number of labels.
    """
    names = {0: "zero-shot", **{number: f"tasks-{number}" for number in cells}}
    tasks = [task for own in HELD_OUT.values() for task in own]
    sheets = {number: {task: sheet(run, name, task) for task in tasks} for number, name in names.items()}
    told = labels(run)
    parts = {**{task: [task] for task in tasks}, **HELD_OUT, "all held-out tasks": tasks}
    found: dict[str, Any] = {}
    for part, own in parts.items():
        found[part] = {}
        for number, known in sheets.items():
            plain = rated(known, sheets[0], own)
            even = rated(known, sheets[0], own, told)
            found[part][str(number)] = {"accuracy": plain.pop("value"), **plain, "balanced": even}
    return found


def rated(
    sheets: dict[str, Any], base: dict[str, Any], tasks: Iterable[str], told: dict[str, str] | None = None
) -> dict[str, Any]:
    """Return an accuracy in per cent with its interval, and what the base's lacks to it; of ``told``, balanced."""
    from tunesmith.metrics.statistics import bootstrap_mean, paired_difference

    (values, groups), (others, _) = together(sheets, tasks, told), together(base, tasks, told)
    spread = bootstrap_mean(values, groups=groups)
    found: dict[str, Any] = {
        "value": round(sum(values) / len(values), 2), "low": round(spread.low, 2), "high": round(spread.high, 2),
        "n": len(values),
    }  # fmt: skip
    if sheets is not base:
        gain = paired_difference(values, others, groups=groups)
        found["over the base"] = {
            "difference": round(gain.value, 2), "low": round(gain.low, 2), "high": round(gain.high, 2),
            "p": round(gain.p_value, 4),
        }  # fmt: skip
    return found


def without_reading(run: Path) -> dict[str, Any]:
    """Return the accuracy in per cent that guesses reach, and the commonest label of each task, given every time."""
    told = labels(run)
    found: dict[str, Any] = {}
    for tasks in HELD_OUT.values():
        for task in tasks:
            counts = Counter(told[example] for example in sheet(run, "zero-shot", task)["example_ids"])
            found[task] = {"guess": 100 / len(counts), "commonest": 100 * max(counts.values()) / counts.total()}
    parts = {**HELD_OUT, "all held-out tasks": list(found)}
    for part, tasks in parts.items():
        found[part] = {kind: sum(found[task][kind] for task in tasks) / len(tasks) for kind in ("guess", "commonest")}
    return {part: {kind: round(value, 2) for kind, value in one.items()} for part, one in found.items()}


def labels(run: Path) -> dict[str, str]:
    """Return the wanted answer of each test row, by its id."""
    return {row["id"]: row["target"] for row in lines(run / "data" / "test.jsonl")}


def sheet(run: Path, name: str, task: str) -> dict[str, Any]:
    path = run / "candidates" / name / "scores" / f"{task}.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def together(
    sheets: dict[str, Any], tasks: Iterable[str], told: dict[str, str] | None = None
) -> tuple[list[float], list[str]]:
    """Return the accuracies of the examples of several tasks, weighted so that their mean is that of the tasks.

    Args:
        sheets: What each task's examples got.
        tasks: Which of them.
        told: The wanted answer of each example; then the mean of a task is that of its labels.
    """
    tasks = list(tasks)
    total = sum(len(sheets[task]["example_ids"]) for task in tasks)
    values: list[float] = []
    groups: list[str] = []
    for task in tasks:
        own = [told[example] if told else "" for example in sheets[task]["example_ids"]]
        counts = Counter(own)
        weights = [total / (len(tasks) * len(counts) * counts[label]) for label in own]
        values += [v * w for v, w in zip(sheets[task]["per_example"]["accuracy"], weights, strict=True)]
        groups += [f"{task}/{group}" for group in sheets[task]["groups"]]
    return values, groups


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/flan"))
    parser.add_argument("--cells", default=",".join(map(str, CELLS)), help="numbers of tuning tasks, of 2, 4, 8")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model")
    options = parser.parse_args()
    if options.data is None:
        print("flan: skipped, it needs --data FOLDER with the data sets")
        return
    cells = tuple(int(number) for number in options.cells.split(","))
    tables = (options.out / "tables").resolve()
    write_tables(options.data.resolve(), tables)
    wanted = ", ".join(f"tasks-{n}: {{method: lora, mixture: {{tasks: {n}}}}}" for n in cells)
    overrides = [f"data.folder={tables}", f"candidates={{{wanted}}}"]
    if options.limit:
        overrides += [f"mixture.examples={options.limit}", f"split.limit.test={options.limit}"]
    if options.model:
        overrides.append(f"model={options.model}")
    run = options.out / "run"
    words = [word for one in overrides for word in ("--set", one)]
    subprocess.run([sys.executable, "-m", "tunesmith", "run", RECIPE, "--out", run, *words], check=True)
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    found = {
        "question": "does a model tuned on more tasks do better on families of tasks that it was not tuned on?",
        "goal": None,
        "held out": HELD_OUT,
        "accuracy by number of tuning tasks": measure(run, cells),
        "accuracy without reading": without_reading(run),
        "mixtures": report["mixtures"],
        "training seconds": {one["name"]: one["train"]["seconds"] for one in report["candidates"] if one["train"]},
        "recipe": RECIPE.read_text(encoding="utf-8"),
    }
    if options.limit or options.model or cells != CELLS:
        print(json.dumps(found["accuracy by number of tuning tasks"], indent=1))
    else:
        keep("flan", found, packages=PACKAGES)


if __name__ == "__main__":
    main()
