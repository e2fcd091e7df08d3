"""Are the numbers of `tunesmith bench` those of lm-evaluation-harness called directly, item by item?

    python benchmarks/harness.py --data FOLDER [--suites SUITE ...] [--limit 50] [--items 50] [--model MODEL]
        [--batch 1] [--together 1] [--at-once 1] [--out FOLDER]

FOLDER is laid out as `tunesmith bench --data` wants it. tunesmith answers each suite; the harness's own class for
transformers answers the same items in float32; the value of every item is compared, and every written text; where the
harness had all items of a task, the score too. Both compute on a graphics card if torch sees one. Each answer is kept
as it is there, and the same command goes on with the rest. On one core the harness takes six seconds to a minute for an
item of bbh, whose answers it writes one token after the other with all of the prompt: ``--items`` gives it the first
few of each task. On a card ``--batch 75 --together 3 --at-once 4`` brings it through all of them in minutes.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abreast import add_option, side_by_side
from keeping import keep

from tunesmith.bench_records import BenchResult, BenchTask
from tunesmith.machine import compute_device
from tunesmith.rundir import RunDir, read_record, write_text
from tunesmith.suites.catalog import SUITES, harness_tasks

HUB = {"aps/super_glue": "superglue", "nyu-mll/glue": "glue", "cais/mmlu": "mmlu", "SaylorTwift/bbh": "bbh"}
"""Data set that the harness would load -> suite whose files hold it."""
USUAL = ("mmlu", "superglue", "bbh")
PACKAGES = ("tunesmith", "torch", "transformers", "lm_eval")
SURE = 1e-12  # two sums of the same numbers


@dataclass(frozen=True, slots=True)
class Job:
    """What one process answers: some tasks of a suite by the harness; without tasks all of them by tunesmith."""

    suite: str
    tasks: tuple[str, ...] = ()


def main() -> None:
    """Ask both, and write what was compared after every answer."""
    options = parsed(sys.argv[1:])
    if options.data is None:
        print("harness: skipped, it needs --data FOLDER with the files of mmlu, superglue and bbh")
        return
    if options.only:
        answer(Job(options.only[0], tuple(options.only[1:])), options)
        return
    jobs = list(missing(options))
    write_result(options)

    def work(job: Job) -> int:
        return subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", job.suite, *job.tasks]).returncode

    def finish(job: Job, code: int) -> None:
        if code:
            print(f"harness: {job} ended with code {code}", file=sys.stderr)
        write_result(options)

    side_by_side(jobs, work, finish, at_once=options.at_once)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the suites' files")
    parser.add_argument("--suites", nargs="+", default=list(USUAL), choices=SUITES, metavar="SUITE")
    parser.add_argument("--limit", type=int, default=50, help="items of each task that tunesmith is asked")
    parser.add_argument("--items", type=int, default=50, help="of these, items that the harness is asked")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--batch", type=int, default=1, help="prompts that the harness pads to one length")
    parser.add_argument("--together", type=int, default=1, help="tasks that the harness is given in one call")
    parser.add_argument("--out", type=Path, default=Path("runs") / "harness")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)  # the job of this process
    add_option(parser)
    return parser.parse_args(arguments)


def missing(options: argparse.Namespace) -> Iterator[Job]:
    """Yield what nobody has answered yet: first all of tunesmith's, on which the comparison of a suite waits."""
    for suite in options.suites:
        if not answers(suite, options.out):
            yield Job(suite)
    for suite in options.suites:
        left = [
            one.task
            for one in tasks_of(suite, options)
            if answered(one, options.out) < min(options.items, len(one.items))
        ]
        for first in range(0, len(left), options.together):
            yield Job(suite, tuple(left[first : first + options.together]))


def tasks_of(suite: str, options: argparse.Namespace) -> list[BenchTask]:
    """Return the tasks of a suite, each with the items that are asked."""
    from tunesmith.suites.bench import prepare_suites

    (prepared,) = prepare_suites(request_of(suite, options))
    return [one.record for one in prepared.tasks]


def request_of(suite: str, options: argparse.Namespace) -> Any:
    """Return what tunesmith is asked of a suite."""
    from tunesmith.suites.request import Request

    return Request((suite,), model=options.model, data=options.data, limit=options.limit)


def answer(job: Job, options: argparse.Namespace) -> None:
    """Let one of the two answer, and keep what it says."""
    from tunesmith.suites.bench import bench

    if not job.tasks:
        with texts_noted() as texts:
            bench(request_of(job.suite, options), out=options.out)
        write_text(options.out / "texts" / f"{job.suite}.json", json.dumps(texts))
        return
    tasks = [one for one in tasks_of(job.suite, options) if one.task in job.tasks]
    for task, found in directly(job.suite, tasks, options).items():
        text = json.dumps(found, default=lambda one: one.item())  # numpy's numbers
        write_text(file_of(task, options.out), text)


def answers(suite: str, out: Path) -> tuple[BenchResult, dict[str, str]] | None:
    """Return what tunesmith said of a suite, and each text that it wrote by its prompt; None before."""
    record, texts = RunDir(out).bench(suite), out / "texts" / f"{suite}.json"
    if not (record.exists() and texts.exists()):
        return None
    return read_record(record, BenchResult), json.loads(texts.read_text(encoding="utf-8"))


def file_of(task: str, out: Path) -> Path:
    """Return where the harness's answers to a task are kept."""
    return out / "directly" / f"{task.replace('/', '-')}.json"


def answered(task: BenchTask, out: Path) -> int:
    """Return how many items of a task the harness has answered."""
    path = file_of(task.task, out)
    return len(json.loads(path.read_text(encoding="utf-8"))["items"]) if path.exists() else 0


@contextmanager
def texts_noted() -> Iterator[dict[str, str]]:
    """Note each text that tunesmith writes for a suite by its prompt."""
    from tunesmith.suites.answering import Answering

    texts: dict[str, str] = {}
    usual = Answering.generate_until

    def noted(self: Any, requests: Any, disable_tqdm: bool = False) -> list[str]:
        found = usual(self, requests, disable_tqdm)
        texts.update({request.args[0]: text for request, text in zip(requests, found, strict=True)})
        return found

    Answering.generate_until = noted  # type: ignore[method-assign]
    try:
        yield texts
    finally:
        Answering.generate_until = usual  # type: ignore[method-assign]


def directly(suite: str, tasks: Sequence[BenchTask], options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return what the harness says of the first items of each task."""
    from tunesmith.models.load import materialize
    from tunesmith.suites.scores import FEWSHOT_SEED

    model = materialize(options.model, base=Path.cwd())
    items = {one.harness: list(one.items[: options.items]) for one in tasks}
    with rows_from(options.data):
        found = asked(suite, model, items, batch=options.batch, fewshot_random_seed=FEWSHOT_SEED, bootstrap_iters=0)
    return {one.task: said(found, one.harness, items[one.harness]) for one in tasks}


def asked(suite: str, model: Path, items: Mapping[str, list[int]], *, batch: int, **settings: Any) -> Any:
    """Return what the harness says itself, by its own class for transformers, in float32.

    Args:
        suite: Name of a suite.
        model: Folder of the model.
        items: Name that a task has in the harness -> the items to ask of it.
        batch: Prompts at a time.
        **settings: For ``lm_eval.simple_evaluate``.
    """
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    name, device = str(model), str(compute_device())
    folder = SUITES[suite].pattern.partition("*")[0].rpartition("/")[0]
    return lm_eval.simple_evaluate(
        HFLM(pretrained=name, tokenizer=name, dtype="float32", device=device, batch_size=batch),
        tasks=list(items),
        task_manager=TaskManager(include_path=harness_tasks() / folder, include_defaults=False),
        samples=dict(items),
        **settings,
    )


def said(found: Mapping[str, Any], name: str, items: Sequence[int]) -> dict[str, Any]:
    """Return what is compared of the harness's answers to a task: scores, and item by item values and texts."""
    results = {key: value for key, value in found["results"][name].items() if "," in key}
    metrics = {key.partition(",")[0] for key in results}
    samples = sorted(found["samples"][name], key=lambda one: one["doc_id"])
    kept = [
        {"filter": one["filter"], "said": said_of(one), **{metric: one[metric] for metric in metrics if metric in one}}
        for one in samples
    ]
    return {"items": list(items), "results": results, "samples": kept}


def said_of(sample: Mapping[str, Any]) -> list[str] | None:
    """Return prompt and written text of an answer; None where choices were ranked."""
    text = sample["resps"][0][0]
    return [sample["arguments"][0][0], text] if isinstance(text, str) else None


@contextmanager
def rows_from(data: Path) -> Iterator[None]:
    """Let the harness have the rows of local files, where it would ask the hub."""
    import datasets

    from tunesmith.suites.local import read_rows, source_of

    def load(path: str, name: str, **_: Any) -> Any:
        rows = read_rows(source_of(HUB[path], name.removesuffix(".fixed")), data).splits
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
    for suite in SUITES:
        if known := answers(suite, options.out):
            suites[suite] = compared(*known, options.out)
    found = {
        "question": "Are the numbers of `tunesmith bench` those of lm-evaluation-harness called directly?",
        "model": options.model,
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
        theirs = json.loads(file_of(task.task, out).read_text(encoding="utf-8"))
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
    return {
        "limit": result.limit, "tasks": tasks, "of tasks": len(result.tasks), "items": items, "of items": whole,
        **counts, "other": other,
    }  # fmt: skip


if __name__ == "__main__":
    main()
