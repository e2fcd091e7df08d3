import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunesmith.models.fused import build


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A home without kernels, and nothing remembered."""
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    build.library.cache_clear()
    yield
    build.library.cache_clear()


def test_without_a_compiler_there_is_one_line_and_no_kernels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    assert build.library() is None
    assert capsys.readouterr().err == (
        "training without compiled kernels, some percent slower: there is no C++ compiler (c++, g++, clang++).\n"
    )


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; print('kernels.cpp:1: error: no luck', file=sys.stderr); sys.exit('--version' not in sys.argv)",
         "kernels.cpp:1: error: no luck"),
        ("print('it says it is done, and leaves nothing')", "No such file or directory"),
    ],
)  # fmt: skip
def test_a_compiler_that_fails_costs_one_line(
    script: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text(f"#!{sys.executable}\n{script}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert build.library() is None
    error = capsys.readouterr().err
    assert error.startswith(f"training without compiled kernels, some percent slower: {compiler} could not make them: ")
    assert said in error
    assert error.count("\n") == 1
    assert list((tmp_path / "home").rglob("*.so")) == []


def test_they_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TUNESMITH_KERNELS", "off")
    assert build.library() is None
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not any(map(build.shutil.which, build.COMPILERS)), reason="there is no C++ compiler")
def test_they_are_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert build.library() is not None
    (made,) = (tmp_path / "home" / "kernels").iterdir()
    assert made.suffix == ".so"
    build.library.cache_clear()
    monkeypatch.setattr(build, "_compile", lambda *given: pytest.fail("compiled again"))
    assert build.library() is not None


@pytest.mark.skipif(not any(map(build.shutil.which, build.COMPILERS)), reason="there is no C++ compiler")
def test_there_is_one_openmp_in_the_process() -> None:
    script = (
        "import torch\nfrom tunesmith.models.fused.build import library\nassert library()\ntorch.ones(2) + 1\n"
        "print(len({line.split()[-1] for line in open('/proc/self/maps') if 'gomp' in line or 'omp5' in line}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("0", "1")
