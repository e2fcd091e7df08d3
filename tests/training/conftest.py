import sys
from pathlib import Path

import pytest

# the builders are plain modules beside the tests, whatever import mode pytest runs in
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["causal", "seq2seq"])
def tiny(request: pytest.FixtureRequest) -> Path:
    """The folder of each of the two tiny models in turn."""
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return folder
