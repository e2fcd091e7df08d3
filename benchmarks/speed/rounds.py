"""Programs that take turns: each turn a fresh process, round after round, so that a busy moment falls on all alike."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speed.environment import CALM

HERE = Path(__file__).parent


@dataclass
class Contender:
    """One program in one setting."""

    name: str
    script: str  # beside this file
    python: Path
    order: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    turns: list[dict[str, Any]] = field(default_factory=list)
    patience: float | None = None  # seconds after which a turn is ended, and has failed
    most: int | None = None  # turns that it takes at most
    slow: bool = False  # its time ran out: it is not asked again
    failed: str = ""  # the last line of what it said when it failed

    def take_turn(self, folder: Path) -> dict[str, Any] | None:
        """Run once, in a process of its own; return what it wrote, or None if it failed."""
        asked, out = folder / "order.json", folder / "found.json"
        out.unlink(missing_ok=True)
        asked.write_text(json.dumps({**self.order, "out": str(out)}), encoding="utf-8")
        words = [str(self.python), str(HERE / self.script), str(asked)]
        started = time.perf_counter()
        environment = {**os.environ, **CALM, **self.environment}
        try:
            done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=self.patience)
        except subprocess.TimeoutExpired:
            self.failed = f"it took longer than {self.patience:g} s"
            return None
        if done.returncode or not out.is_file():
            self.failed = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
            (folder / "failed.txt").write_text(f"{self.name}\n{done.stdout}\n{done.stderr}", encoding="utf-8")
            return None
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return {**found, "process_seconds": time.perf_counter() - started}


def play(contenders: Sequence[Contender], folder: Path, *, rounds: int, between: Callable[[], None]) -> None:
    """Let every contender take a turn in every round; one that failed or was too slow sits out the later rounds.

    Args:
        contenders: In the order in which they take turns.
        folder: For what is passed around.
        rounds: How many.
        between: Is called before every round.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(rounds):
        between()
        for one in contenders:
            if one.failed or one.slow or len(one.turns) == one.most:
                continue
            found = one.take_turn(folder)
            said = f"failed: {one.failed}"
            if found is not None:
                one.turns.append(found)
                one.slow = len(found["seconds"]) < found.get("wanted", len(found["seconds"]))
                said = f"{sum(counted(found)):.1f} s"
            print(f"round {number + 1}/{rounds}, {one.name}: {said}", file=sys.stderr, flush=True)


def counted(turn: Mapping[str, Any]) -> list[float]:
    """Return the seconds of the steps of a turn that count: all but the first, or the first few."""
    return list(turn["seconds"][turn.get("uncounted", 1) :])


def median(values: Sequence[float]) -> float:
    """Return the median, or not a number where there is nothing."""
    return statistics.median(values) if values else float("nan")


def spread(values: Sequence[float]) -> list[float]:
    """Return the smallest and the largest value."""
    return [round(min(values), 4), round(max(values), 4)] if values else []


def times(of: Mapping[str, float], name: str, than: str) -> float | None:
    """Return how many times the value of one name is that of another, or None if one is missing."""
    if not of.get(name) or not of.get(than):
        return None
    return round(of[name] / of[than], 3)
