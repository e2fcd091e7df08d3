import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# the run builder and the browser client are plain modules beside the tests, whatever import mode pytest runs in
sys.path.insert(0, str(Path(__file__).parent))

from chromium import Chromium, find_chromium
from run_folder import write_run

from tunesmith.reporting.contents import Report
from tunesmith.reporting.gather import gather
from tunesmith.reporting.html import render
from tunesmith.rundir import RunDir


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: needs Chromium on PATH; skips without one")


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A finished run with hostile text; tests that change files use ``run`` instead."""
    return write_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def run(finished_run: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the finished run that a test may change."""
    shutil.copytree(finished_run.root, tmp_path / "run")
    return RunDir(tmp_path / "run")


@pytest.fixture(scope="session")
def report(finished_run: RunDir) -> Report:
    return gather(finished_run)


@pytest.fixture(scope="session")
def page(report: Report) -> str:
    return render(report)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: chromium, chromium-browser and google-chrome are not on PATH")
    with Chromium(program, tmp_path_factory.mktemp("chromium")) as browser:
        yield browser
