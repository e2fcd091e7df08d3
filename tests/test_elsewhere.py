"""Runs the cases of ``elsewhere/`` in a process of their own, where a second device is there from the start."""

import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "elsewhere" / "cases.py"


def test_everything_computes_where_the_model_is(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "pytest", str(CASES), "-q", "-x", "--no-cov", "-p", "no:cacheprovider"]
    done = subprocess.run([*words, "--basetemp", str(tmp_path / "cases")], capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    if "skipped" in last and "passed" not in last:
        pytest.skip("there is no C++ compiler")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in last
