"""How much memory does it take to mix a million rows, and how long?

    python benchmarks/mixture_memory.py [--rows N] [--folder FOLDER]

Ten tasks share the rows, so unevenly that the largest has half of them; one is a csv file, the others are lines of
JSON. A fresh process reads, splits, searches for leaks, renders and mixes them as a run does, with at most 30,000
training rows of a task and a cap of 3,000 (the numbers of FLAN), and draws three epochs. The goal is 1.5 GiB.
"""

import argparse
import csv
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from keeping import keep

GOAL = 1.5 * 2**30  # bytes
TASKS = 10
EPOCHS = 3
WORDS = 4000  # of the made-up language
LIMIT = {"validation": 500, "test": 500}


def sizes(rows: int) -> list[int]:
    """Return the rows of each task: half of all, half of the rest, and so on; the last has what is left."""
    found = [rows // 2 ** (place + 1) for place in range(TASKS - 1)]
    return [*found, rows - sum(found)]


def made(place: int, count: int) -> Iterator[dict[str, str]]:
    """Yield made-up rows of 30 words and an answer of 5."""
    draw = random.Random(place)
    for number in range(count):
        words = [f"w{draw.randrange(WORDS)}" for _ in range(30)]
        yield {"text": f"{number} {' '.join(words)}", "summary": " ".join(words[::6])}


def write(folder: Path, rows: int) -> None:
    """Write the tables of all tasks."""
    for place, count in enumerate(sizes(rows)):
        name = folder / f"task{place}.{'csv' if place == 1 else 'jsonl'}"
        with name.open("w", encoding="utf-8", newline="") as file:
            if place == 1:
                table = csv.DictWriter(file, ("text", "summary"))
                table.writeheader()
                table.writerows(made(place, count))
            else:
                file.writelines(json.dumps(row) + "\n" for row in made(place, count))


def measure(folder: Path) -> dict[str, object]:
    """Prepare and mix; return what came out of it."""
    from tunesmith.data.mixture import Draw, mix
    from tunesmith.data.prepare import prepare
    from tunesmith.settings import DataSettings, MixtureSettings, SplitSettings, TaskSettings

    names = sorted(path.name for path in folder.iterdir())
    tasks = [TaskSettings(name=name.partition(".")[0], source=name, template="text-summary") for name in names]
    mixture = MixtureSettings()
    begin = time.monotonic()
    found = prepare(tasks, split=SplitSettings(limit=LIMIT), data=DataSettings(), seed=0, base=folder, mixture=mixture)
    training = found.examples["train"]
    shares = mix(tasks, mixture, Counter(one.task for one in training))
    draw = Draw.among([one.task for one in training], {one.task: one.per_epoch for one in shares}, seed=0)
    epochs = [draw.epoch(number) for number in range(EPOCHS)]
    return {
        "rows": found.health.rows_read,
        "training examples kept": len(training),
        "examples in an epoch": len(epochs[0]),
        "peak bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "seconds": round(time.monotonic() - begin, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="for the process that this script starts")
    options = parser.parse_args()
    if options.folder:
        print(json.dumps(measure(options.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        words = [sys.executable, __file__, "--folder", folder]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    measured = json.loads(done.stdout)
    found = {
        "question": "how much memory does it take to mix a million rows of ten tasks?",
        "goal": {"peak bytes": GOAL},
        "bytes of the tables": size,
        **measured,
    }
    if options.rows == 1_000_000:
        keep("mixture_memory", found, packages=("tunesmith", "numpy"))
    else:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
