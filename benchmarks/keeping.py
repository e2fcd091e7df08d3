"""What results take from a run's report, what they hold beside it, and where they are. Not a benchmark itself."""

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.machine import compute_device, device_name, fastest_dtype
from tunesmith.recipe import ZERO_SHOT
from tunesmith.reporting.contents import CandidateReport, Report
from tunesmith.reporting.side_by_side import compared
from tunesmith.rundir import RunDir, write_text

RESULTS = Path(__file__).parent / "results"


def keep(
    name: str, found: Mapping[str, Any], *, packages: Sequence[str], folder: Path = RESULTS, show: bool = True
) -> None:
    """Write ``results/NAME.json``: the figures, then versions, device, commit and day; and print it."""
    versions = {"python": platform.python_version(), **{package: version_of(package) for package in packages}}
    where = {"versions": versions, "device": device_name(), "commit": commit(), "date": time.strftime("%Y-%m-%d")}
    text = json.dumps({**found, **where}, indent=1)
    write_text(folder / f"{name}.json", text + "\n")
    if show:
        print(text)


def named(script: str) -> str:
    """Return the name of a script's result here; those of three kinds of machine stand beside each other.

    They are a graphics card, a processor that multiplies bfloat16 faster than float32, and one that does not.
    """
    if compute_device().type != "cpu":
        return f"{script}_card"
    return script if str(fastest_dtype()) == "torch.bfloat16" else f"{script}_float32"


def version_of(package: str) -> str:
    """Return the version of a package; tunesmith's own is known in a clone that nobody has installed, too."""
    return __version__ if package == "tunesmith" else version(package)


def commit(folder: Path = RESULTS) -> str:
    """Return the commit that was measured, marked if files differ from it; results do, while they are written."""
    elsewhere = ["--", ":(top)", f":(exclude){folder.name}"]
    try:
        done = _git(folder, "describe", "--always")
        changed = _git(folder, "diff", "--quiet", "HEAD", *elsewhere).returncode
    except OSError:  # a copy of the files, on a machine without git
        return "unknown"
    return f"{done.stdout.strip()}{'-dirty' if changed else ''}" if done.stdout else "unknown"


def _git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], capture_output=True, text=True, cwd=folder.parent)


def report_without_texts(path: Path) -> dict[str, Any]:
    """Return a run's report.json without its rows: the licences of data sets forbid to keep them here."""
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for task in report["tasks"]:
        task["examples"] = len(task["examples"])
    for candidate in report["candidates"]:
        candidate["steps"] = len(candidate["steps"])
    health = report["health"]
    health["set_aside"] = len(health["set_aside"])
    return report


def look_up(folder: Path, name: str) -> dict[str, Any]:
    """Return what a run found out about one candidate: scores, gain over the base, what it cost."""
    report = Report.model_validate_json(RunDir(folder).report_json.read_text(encoding="utf-8"))
    (task,) = report.tasks
    scores = {one.metric: interval(one.value, one.low, one.high) for one in task.scores[name]}
    gains = {metric: compared(task, metric, candidate=name, baseline=ZERO_SHOT) for metric in scores}
    rows = report.health.rows_per_split if report.health else {}
    return {
        "rows": {split: rows.get(split, 0) for split in ("train", "validation", "test")},
        "scores": scores,
        "gain": {metric: interval(one.difference, one.low, one.high) for metric, one in gains.items() if one},
        **costs(next(one for one in report.candidates if one.name == name)),
    }


def interval(value: float, low: float, high: float) -> dict[str, float]:
    """Return a value with its 95 % interval, to a hundredth of its unit."""
    return {name: round(one, 2) + 0.0 for name, one in (("value", value), ("low", low), ("high", high))}


def costs(one: CandidateReport) -> dict[str, Any]:
    """Return what one candidate took: parameters, bytes on disk, seconds, memory; and how it was trained."""
    if one.predict is None:
        raise ValueError(f"{one.name}: the run has ended, and there are no answers")
    train = one.train
    found: dict[str, Any] = {"method": one.method, "trainable": train.trainable if train else 0}
    if train:
        found |= {"share": train.trainable / train.total, "adapter_bytes": train.adapter_bytes}
        found |= train.model_dump(include={"epochs", "steps", "learning_rate", "train_loss", "validation_loss"})
    found["seconds"] = {"training": train.seconds if train else 0.0, "answering": one.predict.seconds}
    found["peak_bytes"] = {"training": train.peak_bytes if train else 0, "answering": one.predict.peak_bytes}
    return found
