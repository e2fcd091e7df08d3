"""Are the numbers of `tunesmith bench` those of lm-evaluation-harness called directly, item by item?

    python benchmarks/harness.py --data FOLDER [--suites SUITE ...] [--limit 50] [--items 50] [--model MODEL]
        [--out FOLDER]

FOLDER is laid out as `tunesmith bench --data` wants it. Each suite is run by tunesmith first. Then the harness's own
class for transformers answers the same items in float32, a task at a time, and the value of every item is compared, and
every written text; where it had all items of a task, the score too. Each task is kept as it is done, and the same
command goes on with the rest. On one core the harness takes a minute and a half for an item of bbh, whose answers it
writes one token after the other with all of the prompt: ``--items`` gives it the first few of each task.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keeping import keep

from tunesmith.bench_records import BenchResult, BenchTask
from tunesmith.rundir import RunDir, read_record, write_text

FOLDERS = {"mmlu": "mmlu/default", "superglue": "super_glue", "bbh": "bbh/cot_fewshot"}
"""Suite -> where the harness defines its tasks."""
PACKAGES = ("tunesmith", "torch", "transformers", "lm_eval")
SURE = 1e-12  # two sums of the same numbers


def main() -> None:
    """Ask both, suite by suite, and write what was compared after every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the suites' files")
    parser.add_argument("--suites", nargs="+", default=list(FOLDERS), choices=FOLDERS, metavar="SUITE")
    parser.add_argument("--limit", type=int, default=50, help="items of each task that tunesmith is asked")
    parser.add_argument("--items", type=int, default=50, help="of these, items that the harness is asked")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--out", type=Path, default=Path("runs") / "harness")
    options = parser.parse_args()
    if options.data is None:
        print("harness: skipped, it needs --data FOLDER with the files of mmlu, superglue and bbh")
        return
    for suite in options.suites:
        for task in ours(suite, options).tasks:
            if answered(task, options.out) < min(options.items, len(task.items)):
                found = json.dumps(directly(suite, task, options), default=lambda one: one.item())  # numpy's numbers
                write_text(file_of(task, options.out), found)
            write_result(options)


def file_of(task: BenchTask, out: Path) -> Path:
    """Return where the harness's answers to a task are kept."""
    return out / "directly" / f"{task.task.replace('/', '-')}.json"


def answered(task: BenchTask, out: Path) -> int:
    """Return how many items of a task the harness has answered."""
    path = file_of(task, out)
    return len(json.loads(path.read_text(encoding="utf-8"))["items"]) if path.exists() else 0


def ours(suite: str, options: argparse.Namespace) -> BenchResult:
    """Return what tunesmith says of a suite; keep the text of every answer that it wrote by its prompt."""
    from tunesmith.suites import answering
    from tunesmith.suites.bench import bench
    from tunesmith.suites.request import Request

    file, record = options.out / "texts" / f"{suite}.json", RunDir(options.out).bench(suite)
    if file.exists() and record.exists():
        return read_record(record, BenchResult)
    texts: dict[str, str] = {}
    usual = answering.Answering.generate_until

    def noted(self: Any, requests: Any, disable_tqdm: bool = False) -> list[str]:
        found = usual(self, requests, disable_tqdm)
        texts.update({request.args[0]: text for request, text in zip(requests, found, strict=True)})
        return found

    answering.Answering.generate_until = noted  # type: ignore[method-assign]
    try:
        asked = Request((suite,), model=options.model, data=options.data, limit=options.limit)
        (result,) = bench(asked, out=options.out)
    finally:
        answering.Answering.generate_until = usual  # type: ignore[method-assign]
    write_text(file, json.dumps(texts))
    return result


def directly(suite: str, task: BenchTask, options: argparse.Namespace) -> dict[str, Any]:
    """Return what the harness says of the first items of one task."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from tunesmith.models.load import materialize
    from tunesmith.suites.catalog import harness_tasks
    from tunesmith.suites.scores import FEWSHOT_SEED

    model = str(materialize(options.model, base=Path.cwd()))
    items = list(task.items[: options.items])
    with rows_from(suite, options.data):
        found = lm_eval.simple_evaluate(
            HFLM(pretrained=model, tokenizer=model, dtype="float32", device="cpu", batch_size=1),
            tasks=[task.harness],
            task_manager=TaskManager(include_path=harness_tasks() / FOLDERS[suite], include_defaults=False),
            samples={task.harness: items},
            fewshot_random_seed=FEWSHOT_SEED,
            bootstrap_iters=0,
        )
    results = {key: value for key, value in found["results"][task.harness].items() if "," in key}
    metrics = {key.partition(",")[0] for key in results}
    samples = sorted(found["samples"][task.harness], key=lambda one: one["doc_id"])
    kept = [
        {"filter": one["filter"], "said": said_of(one), **{metric: one[metric] for metric in metrics if metric in one}}
        for one in samples
    ]
    return {"items": items, "results": results, "samples": kept}


def said_of(sample: Mapping[str, Any]) -> list[str] | None:
    """Return prompt and written text of an answer; None where choices were ranked."""
    text = sample["resps"][0][0]
    return [sample["arguments"][0][0], text] if isinstance(text, str) else None


@contextmanager
def rows_from(suite: str, data: Path) -> Iterator[None]:
    """Let the harness have the rows of local files, where it would ask the hub."""
    import datasets

    from tunesmith.suites.local import read_rows, source_of

    def load(path: str, name: str, **_: Any) -> Any:
        rows = read_rows(source_of(suite, name.removesuffix(".fixed")), data).splits
        found = {split: datasets.Dataset.from_list(own) for split, own in rows.items()}
        return {"train": found.get("validation"), **found}

    usual, datasets.load_dataset = datasets.load_dataset, load
    try:
        yield
    finally:
        datasets.load_dataset = usual


def write_result(options: argparse.Namespace) -> None:
    """Compare all that both have answered by now."""
    suites = {}
    for suite in FOLDERS:
        record, texts = RunDir(options.out).bench(suite), options.out / "texts" / f"{suite}.json"
        if record.exists() and texts.exists():
            written = json.loads(texts.read_text(encoding="utf-8"))
            suites[suite] = compared(read_record(record, BenchResult), written, options.out)
    found = {
        "question": "Are the numbers of `tunesmith bench` those of lm-evaluation-harness called directly?",
        "model": options.model,
        "items of each task at most": options.limit,
        "suites": suites,
    }
    keep("harness", found, packages=PACKAGES, show=False)


def compared(result: BenchResult, written: Mapping[str, str], out: Path) -> dict[str, Any]:
    """Return how many values, texts and scores of a suite were compared, and how many are equal."""
    counts = dict.fromkeys(("values", "equal values", "texts", "equal texts", "scores", "equal scores"), 0)
    tasks, items, other = 0, 0, []
    scores = [score for score in result.runs[0].scores if score.values]
    for task in result.tasks:
        if not answered(task, out):
            continue
        theirs = json.loads(file_of(task, out).read_text(encoding="utf-8"))
        tasks, items = tasks + 1, items + len(theirs["items"])
        for score in (one for one in scores if one.task == task.task):
            own = [one for one in theirs["samples"] if one["filter"] == score.filter]
            for number, (mine, sample) in enumerate(zip(score.values, own, strict=False)):
                same = list(mine) == sample[score.metric] if isinstance(mine, tuple) else mine == sample[score.metric]
                counts["values"] += 1
                counts["equal values"] += same
                if not same:
                    other.append(f"{task.task} {theirs['items'][number]} {score.metric}")
            if len(theirs["items"]) == len(task.items):
                counts["scores"] += 1
                counts["equal scores"] += abs(theirs["results"][f"{score.metric},{score.filter}"] - score.value) < SURE
        said = dict(one["said"] for one in theirs["samples"] if one["said"])
        counts["texts"] += len(said)
        counts["equal texts"] += sum(written.get(prompt) == text for prompt, text in said.items())
    whole = sum(len(task.items) for task in result.tasks)
    return {"tasks": tasks, "of tasks": len(result.tasks), "items": items, "of items": whole, **counts, "other": other}


if __name__ == "__main__":
    main()
