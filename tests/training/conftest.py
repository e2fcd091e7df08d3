import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# the builders are plain modules beside the tests, whatever import mode pytest runs in
sys.path.insert(0, str(Path(__file__).parent))

from killing import Trainer


@pytest.fixture(scope="session", autouse=True)
def trainer() -> Iterator[Trainer]:
    """A process that trains in children which may be killed; begun early, since it takes seconds to be ready."""
    process = Trainer()
    yield process
    process.close()


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> Path:
    """Half as wide and deep as the one of the other tests: here models are not only asked but trained."""
    from tunesmith.models.tiny import write_tiny

    folder = tmp_path_factory.mktemp("models") / "causal"
    return write_tiny(folder, kind="causal", texts=texts, hidden=32, layers=1)


@pytest.fixture(scope="session")
def tiny_tall(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> Path:
    """A causal model with layers under the last one."""
    from tunesmith.models.tiny import write_tiny

    folder = tmp_path_factory.mktemp("models") / "tall"
    return write_tiny(folder, kind="causal", texts=texts, hidden=32, layers=3)


@pytest.fixture(scope="session")
def tiny_seq2seq(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> Path:
    """The same for an encoder-decoder."""
    from tunesmith.models.tiny import write_tiny

    folder = tmp_path_factory.mktemp("models") / "seq2seq"
    return write_tiny(folder, kind="seq2seq", texts=texts, hidden=32, layers=1)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk: without a power cut it makes no difference, and there would be thousands of waits."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture(params=["causal", "seq2seq"])
def tiny(request: pytest.FixtureRequest) -> Path:
    """The folder of each of the two tiny models in turn."""
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return folder
