"""What every result holds beside its figures, and where it is written. Not a benchmark itself."""

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith import __version__
from tunesmith.machine import compute_device, device_name
from tunesmith.rundir import write_text

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
    """Return the name of a script's result here: that of a graphics card stands beside that of the processor."""
    return script if compute_device().type == "cpu" else f"{script}_card"


def version_of(package: str) -> str:
    """Return the version of a package; tunesmith's own is known in a clone that nobody has installed, too."""
    return __version__ if package == "tunesmith" else version(package)


def commit() -> str:
    """Return the commit that was measured, marked if files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent)
    except OSError:  # a copy of the files, on a machine without git
        return "unknown"
    return done.stdout.strip() or "unknown"


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
