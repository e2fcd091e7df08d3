"""How long does a user wait before the first sign of life?

Measures fresh processes, alternating, so that a busy moment of the machine falls on all of them alike. The goal is
0.3 s for ``tunesmith --help``; what it costs to start Python alone is measured beside it.

    python benchmarks/start_time.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from keeping import keep

RUNS = 11
GOAL = 0.3  # seconds, for --help
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import tunesmith": [sys.executable, "-c", "import tunesmith"],
    "tunesmith --help": [str(Path(sys.executable).with_name("tunesmith")), "--help"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    for command in COMMANDS.values():
        seconds(command)  # fills the disk cache and writes the .pyc files
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    found = {
        "question": "how long does a user wait before the first sign of life?",
        "unit": "seconds of wall time, a fresh process each",
        "runs": RUNS,
        "goal": {"tunesmith --help": GOAL},
        "median": {name: round(statistics.median(taken), 3) for name, taken in times.items()},
        "fastest": {name: round(min(taken), 3) for name, taken in times.items()},
        "slowest": {name: round(max(taken), 3) for name, taken in times.items()},
    }
    keep("start_time", found, packages=("tunesmith", "typer", "rich"))


if __name__ == "__main__":
    main()
