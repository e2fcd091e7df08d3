"""How much faster is a whole experiment, from the command to the report, than with an earlier commit?

    python benchmarks/experiment_speed.py --data FOLDER [--before COMMIT]

The experiment is DialogSum with SmolLM2-135M: the base, LoRA and full tuning, 600 rows, two epochs, 500 answers each.
FOLDER holds train_small.jsonl and dev.jsonl, whose licence (CC BY-NC-SA 4.0) keeps them out of this repository.

Both commits run at once but never side by side: one is stopped while the other one computes, in turns of a minute, so
that a slow hour of the machine falls on both. What counts is the time that a program was not stopped. Each finds the
base model and its compiled code where they were; this machine is calibrated anew, and that time counts. An hour and a
half on two cores.
"""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from dialogsum import RECIPE
from keeping import keep, report_without_texts

from tunesmith.models.catalog import home

ROOT = Path(__file__).parents[1]
BEFORE = "fd58a6d"  # the last one that trained and answered with the layers of transformers
NOW = "now"
TURNS = {NOW: 60.0, "before": 180.0}  # seconds; so that both end at about the same time
FIRST = 120.0  # seconds of the first turn, in which this machine is calibrated without being stopped
GOAL = 3.0
PARTS = ("plan: calibrated", "zero-shot answers", "training lora", "lora answers", "training full", "full answers")
"""How the last line of each part begins, in their order."""


class Program:
    """A program that is stopped and goes on, with the seconds that it was not stopped."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
        self.lines: list[tuple[float, str]] = []  # seconds until then, and what was said
        self._counted, self._since = 0.0, time.monotonic()
        self.process = subprocess.Popen(
            command, env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def seconds(self) -> float:
        """How long it was not stopped."""
        return self._counted + (time.monotonic() - self._since if self._since else 0.0)

    def turn(self, longest: float) -> None:
        """Let it go on for so many seconds, or to its end."""
        self._since = self._since or time.monotonic()
        os.killpg(self.process.pid, signal.SIGCONT)
        try:
            self.process.wait(longest)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGSTOP)
        self._counted, self._since = self.seconds, 0.0
        if self.ended:
            self._reader.join()
            if self.process.returncode:
                raise SystemExit("".join(line for _, line in self.lines[-20:]))

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.process.returncode is not None

    def end(self) -> None:
        """Leave nothing behind, stopped or not."""
        if not self.ended:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.lines.append((self.seconds, line))

    def parts(self) -> dict[str, float]:
        """Return the seconds from the end of each part to the end of the next one."""
        found, before = {}, 0.0
        for part in PARTS:
            if ends := [seconds for seconds, line in self.lines if line.startswith(part)]:
                found[part], before = round(ends[-1] - before, 1), ends[-1]
        return {**found, "the rest": round(self.seconds - before, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--before", default=BEFORE)
    parser.add_argument("--rows", type=int, default=600, help="to train and validate, fewer for a try")
    parser.add_argument("--answers", type=int, default=500)
    options = parser.parse_args()
    if options.data is None:
        print("experiment_speed: skipped, it needs --data FOLDER with train_small.jsonl and dev.jsonl")
        return
    with TemporaryDirectory() as folder, checked_out(options.before, Path(folder) / "source") as before:
        where = Path(folder)
        put_data(options.data, where, rows=options.rows, answers=options.answers)
        programs = alternating(where, {NOW: ROOT / "src", "before": before / "src"})
        found = {
            "question": "how much faster is a whole experiment than with an earlier commit?",
            "goal": GOAL,
            "commit before": options.before,
            "rows": options.rows,
            "answers": options.answers,
            "times faster": round(programs["before"].seconds / programs[NOW].seconds, 2),
            **{name: outcome(one, where / f"run-{name}") for name, one in programs.items()},
        }
    keep("experiment_speed", found, packages=("tunesmith", "torch", "transformers", "peft"))


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out beside this one, for a while."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def put_data(source: Path, folder: Path, *, rows: int, answers: int) -> None:
    """Write the rows, and a recipe for each commit; the earlier one knows no checks of what was forgotten."""
    for name, count in (("train_small.jsonl", rows), ("dev.jsonl", answers)):
        lines = (source / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / name).write_text("".join(lines[:count]), encoding="utf-8")
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    del recipe["candidates"]["two-shot"]
    recipe["train"]["checkpoint_minutes"] = 1000  # by the clock, which goes on while a program is stopped
    for name, more in ((NOW, {"forgetting": "off"}), ("before", {})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**recipe, **more}, sort_keys=False), encoding="utf-8")


def alternating(folder: Path, sources: dict[str, Path]) -> dict[str, Program]:
    """Run both, in turns; return them when both have ended."""
    programs: dict[str, Program] = {}
    try:
        for name, source in sources.items():
            cache = folder / f"home-{name}"
            cache.mkdir()
            for kept in ("models", "kernels", "wheels"):
                if (home() / kept).exists():
                    (cache / kept).symlink_to(home() / kept)
            code = "from tunesmith.cli import main; main()"
            command = [sys.executable, "-c", code, "run", folder / f"{name}.yaml", "--out", folder / f"run-{name}"]
            programs[name] = Program(command, {"PYTHONPATH": str(source), "TUNESMITH_HOME": str(cache)})
            programs[name].turn(FIRST)
        while not all(one.ended for one in programs.values()):
            for name, one in programs.items():
                if not one.ended:
                    one.turn(TURNS[name])
                print(f"{name}: {one.seconds:.0f} s; {one.lines[-1][1].strip()}", file=sys.stderr, flush=True)
    finally:
        for one in programs.values():
            one.end()
    return programs


def outcome(program: Program, run: Path) -> dict[str, Any]:
    """Return what a program took, in all and in parts, and what came of it: both are to learn the same."""
    report = report_without_texts(run / "report.json")
    trained = {one["name"]: one["train"] for one in report["candidates"] if one["train"]}
    return {
        "seconds": round(program.seconds, 1),
        "in parts": program.parts(),
        "candidates": {
            name: {
                **{one["metric"]: {key: round(one[key], 2) for key in ("value", "low", "high")} for one in scores},
                **{key: trained[name][key] for key in ("steps", "tokens", "validation_loss") if name in trained},
            }
            for name, scores in report["tasks"][0]["scores"].items()
        },
    }


if __name__ == "__main__":
    main()
