import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # small_suites.py is a plain module, however pytest imports

from small_suites import write_suites


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few items of every suite, in the layout of docs/benchmarks.md. Read it, do not write into it."""
    return write_suites(tmp_path_factory.mktemp("suites"))
