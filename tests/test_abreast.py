"""Candidates side by side: so many at a time, told to stop when the script is, and never two in one run folder."""

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pages import ROOT

TOLD = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: exit({code}))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def abreast(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "abreast", raising=False)
    return __import__("abreast")


def test_so_many_run_at_a_time_the_first_first_and_ends_are_taken_one_by_one(abreast: ModuleType) -> None:
    began, ended, both = [], [], threading.Barrier(2, timeout=20)

    def work(job: int) -> int:
        began.append(job)
        both.wait()  # a third beside them, or one alone, would break it
        return job

    def finish(job: int, code: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        ended.append((job, code))

    assert abreast.side_by_side(range(6), work, finish, at_once=2) is True
    assert sorted(began) == [0, 1, 2, 3, 4, 5]
    assert sorted(ended) == [(n, n) for n in range(6)]


def test_after_a_stop_no_other_begins_and_those_that_run_end(abreast: ModuleType) -> None:
    ended = []

    def work(job: int) -> int:
        time.sleep(0.2 * job)
        return 0 if job else 130

    assert abreast.side_by_side(range(5), work, lambda *end: ended.append(end), at_once=2) is False
    assert ended == [(0, 130), (1, 0)]


def test_cores_are_shared_unless_the_user_has_said_otherwise(
    abreast: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def work(_: int) -> int:
        seen.append(os.environ["OMP_NUM_THREADS"])
        return 0

    monkeypatch.setattr(abreast, "usable_cores", lambda: 16)
    for given in ("3", ""):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        if not given:
            monkeypatch.delenv("OMP_NUM_THREADS")
        abreast.side_by_side([1], work, lambda *_: None, at_once=5)
    assert seen == ["3", "3"]
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.fixture
def heard() -> Iterator[None]:
    """Let Ctrl-C be heard also where a shell runs the tests in the background, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on_once_and_what_has_not_begun_does_not_begin(
    abreast: ModuleType, tmp_path: Path, number: signal.Signals
) -> None:
    children, codes = abreast.Children(), []

    def said(code: int) -> Path:
        return tmp_path / f"{code}.txt"

    def work(code: int) -> int:
        with said(code).open("wb") as file:
            return int(children.run([sys.executable, "-c", TOLD.format(code=code)], file))

    def stop() -> None:
        while not all(said(code).exists() and said(code).stat().st_size for code in (3, 75)):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with children.told_to_stop():
        threading.Thread(target=stop).start()
        assert abreast.side_by_side([3, 75, 9], work, lambda *end: codes.append(end), at_once=2) is False
        with said(0).open("wb") as file:
            assert children.run([sys.executable, "-c", "print(1)"], file) == 75
    assert sorted(codes) == [(3, 75), (75, 75)]
    assert said(0).read_bytes() == b""
    assert signal.getsignal(number) is before


def test_a_run_folder_in_which_a_process_still_works_is_left_alone(abreast: ModuleType, tmp_path: Path) -> None:
    own = abreast.lent(tmp_path / "run", "low")
    (own / "candidates" / "low").mkdir(parents=True)
    with (own / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match=r"low: a process still works here\. Wait for it, or stop it\.$"):
            abreast.bring_back(tmp_path / "run", "low")
    assert (own / "candidates" / "low").is_dir()
