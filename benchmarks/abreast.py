"""Candidates side by side, each tuned by a process of its own in a run folder of its own. Not a benchmark itself.

Two processes cannot share a run folder. So a candidate is lent out: its folder, as far as it has come, moves into a run
folder that begins as a copy of the shared one without the other candidates, and moves back when its process has ended,
however that was. The shared folder is then as if the candidate had been run there, and can go on one by one as well.
"""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any, TypeVar

from tunesmith.machine import usable_cores
from tunesmith.plan_records import Plan
from tunesmith.recipe import ZERO_SHOT
from tunesmith.records import RunRecord
from tunesmith.rundir import RunDir, read_record, write_record

REFUSED, STOPPED = 3, (75, 130)  # exit codes: of a recipe that cannot be, and of a process that was told to stop
THREADS = "OMP_NUM_THREADS"

J = TypeVar("J")


def add_option(parser: argparse.ArgumentParser) -> None:
    """Let a script be told how many candidates run at a time."""
    said = "candidates at a time, for a graphics card or many cores; the seconds of each are then not those of it alone"
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help=f"{said}; without it 1")


def side_by_side(
    jobs: Iterable[J], work: Callable[[J], int], finish: Callable[[J, int], None], *, at_once: int
) -> bool:
    """Do some jobs at a time.

    Args:
        jobs: The first begin first.
        work: Does a job, in a thread of its own, and returns an exit code.
        finish: Takes a job that has ended and its exit code, in this thread: one at a time.
        at_once: How many jobs run together.

    Returns:
        Whether all were done; after one was stopped, those that run come to their end, and no other begins.
    """
    left, running, stopped = iter(jobs), dict[Future[int], J](), False
    with _shared_cores(at_once), ThreadPoolExecutor(at_once) as pool:
        while True:
            while not stopped and len(running) < at_once and (job := next(left, None)) is not None:
                running[pool.submit(work, job)] = job
            if not running:
                return not stopped
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, code = running.pop(future), future.result()
                stopped = stopped or code in STOPPED
                finish(job, code)


@contextmanager
def _shared_cores(at_once: int) -> Iterator[None]:
    """Give each process its share of the cores: with all of them for each, threads wait for threads."""
    before = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, str(max(1, usable_cores() // at_once)))
    try:
        yield
    finally:
        if before is None:
            del os.environ[THREADS]


# Run folders


def lent(shared: Path, name: str) -> Path:
    """Return where a candidate is while it is lent out."""
    return shared.parent / "abreast" / shared.name / name


def lend(shared: Path, name: str) -> Path:
    """Return a run folder for one candidate: with the data, the record and the answers of the base that all share."""
    bring_back(shared, name)
    own, source = RunDir(lent(shared, name)), RunDir(shared)
    shutil.copytree(source.health.parent, own.health.parent)  # byte for byte: the probe is known by its hash
    for file in (source.recipe, source.resolved, source.record, source.plan):
        if file.exists():
            shutil.copy(file, own.root)
    shutil.copytree(source.candidate(ZERO_SHOT).root, own.candidate(ZERO_SHOT).root)
    if source.candidate(name).root.exists():  # last: what is half copied has no candidate in it
        source.candidate(name).root.rename(own.candidate(name).root)
    return own.root


def bring_back(shared: Path, name: str) -> None:
    """Move a candidate that was lent out into the shared run folder, with its plan and its part of the record."""
    own, target = RunDir(lent(shared, name)), RunDir(shared)
    if not own.root.exists():
        return
    with _unused(own):
        if own.candidate(name).root.exists():
            _bring_plan(own, target, name)
            _bring_record(own, target, name)
            own.candidate(name).root.rename(target.candidate(name).root)
        shutil.rmtree(own.root)


@contextmanager
def _unused(own: RunDir) -> Iterator[None]:
    """Make sure that no process works in a run folder: one may be left there by a script that was killed."""
    with own.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"{own.root}: a process still works here. Wait for it, or stop it.") from None
        yield


def _bring_plan(own: RunDir, target: RunDir, name: str) -> None:
    if not own.plan.exists():
        return
    found = read_record(own.plan, Plan)
    known = read_record(target.plan, Plan).candidates if target.plan.exists() else ()
    mine = [one for one in found.candidates if one.name == name]
    others = [one for one in known if one.name != name]
    if mine:
        write_record(target.plan, found.model_copy(update={"candidates": (*others, *mine)}))


def _bring_record(own: RunDir, target: RunDir, name: str) -> None:
    known, found = (read_record(run.record, RunRecord) for run in (target, own))
    steps = [step for step in found.finished if step.split()[1:2] == [name]]  # "train NAME", "predict NAME after TASK"
    update = {
        "finished": {**known.finished, **{step: found.finished[step] for step in steps}},
        "seconds": {**known.seconds, **{step: found.seconds[step] for step in steps}},
    }
    write_record(target.record, known.model_copy(update=update))


# Processes


def explain(code: int, log: Path, places: Sequence[Path]) -> str:
    """Return how a process ended and the last line that it wrote, without the places of its files."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    last = text.splitlines()[-1] if text else "it said nothing"
    for place in places:
        last = last.replace(f"{place}/", "")
    end = f"killed by signal {-code}" if code < 0 else "refused" if code == REFUSED else f"exit code {code}"
    return f"{end}: {last}"


class Children:
    """The processes of a script, which are told to stop when it is."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        # between a process that begins and a stop that comes; a signal may interrupt the thread that holds it
        self._guard = threading.RLock()
        self._told = threading.Event()

    def tunesmith(self, words: Sequence[str | Path], log: Path | None = None) -> int:
        """Call tunesmith and return its exit code.

        Args:
            words: The command and what it is told.
            log: Gets all that is said; without it that goes to stderr.
        """
        command = [sys.executable, "-m", "tunesmith", *map(str, words)]
        if log is None:
            return self.run(command, sys.stderr)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            return self.run(command, file)

    def run(self, command: Sequence[str], out: IO[Any]) -> int:
        """Run a command and return its exit code; that of a stop where one was asked for, even before it began."""
        with self._guard:
            if self._told.is_set():
                return STOPPED[0]
            # a session of its own: Ctrl-C in a terminal would reach it twice, and the second stop does not save
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
            self._running.add(process)
        if self._told.is_set():  # while it began
            process.terminate()
        code = int(process.wait())
        with self._guard:
            self._running.discard(process)
        return STOPPED[0] if code and self._told.is_set() else code

    @contextmanager
    def told_to_stop(self) -> Iterator[None]:
        """Pass Ctrl-C and SIGTERM on: a training saves and ends, everything else ends; once more stops at once."""
        self._told.clear()
        wanted = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._pass_on) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _pass_on(self, _number: int, _frame: FrameType | None) -> None:
        os.write(2, b"stopping when all that runs has saved; once more stops at once\n")
        with self._guard:
            self._told.set()
            for process in self._running:
                process.terminate()  # not SIGINT: what runs in the background may ignore that


CHILDREN = Children()
