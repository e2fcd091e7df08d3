"""What every result holds beside its figures, and where it is written. Not a benchmark itself."""

import json
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.machine import device_name
from tunesmith.rundir import write_text

RESULTS = Path(__file__).parent / "results"


def keep(
    name: str, found: Mapping[str, Any], *, packages: Sequence[str], folder: Path = RESULTS, show: bool = True
) -> None:
    """Write ``results/NAME.json``: the figures, then versions, device, commit and day; and print it."""
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    where = {"versions": versions, "device": device_name(), "commit": commit(), "date": time.strftime("%Y-%m-%d")}
    text = json.dumps({**found, **where}, indent=1)
    write_text(folder / f"{name}.json", text + "\n")
    if show:
        print(text)


def commit() -> str:
    """Return the commit that was measured, marked if files differ from it."""
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent)
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
