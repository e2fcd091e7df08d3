"""Compile the C++ files of this folder once for this processor, and keep them.

There is no build step to fail: without a compiler, or where anything goes wrong, ``library`` returns None after one
line, and torch's own functions do the work.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tunesmith.models.catalog import home
from tunesmith.progress import say

NAMES = ("kernels.cpp", "attending.cpp", "biased.cpp", "answering.cpp", "products.cpp", "learning.cpp", "stepping.cpp")
SOURCES = tuple(Path(__file__).with_name(name) for name in NAMES)
HEADERS = tuple(Path(__file__).with_name(name) for name in ("numbers.h", "multiply.h", "panels.h"))
# No -ffast-math: it would also switch off denormal numbers in the whole process.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC")
COMPILERS = ("c++", "g++", "clang++")
PATIENCE = 120  # seconds


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or None where they cannot be had; said once."""
    if os.environ.get("TUNESMITH_KERNELS") == "off":
        return None
    compiler = os.environ.get("CXX") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        say("training without compiled kernels, some percent slower: there is no C++ compiler (c++, g++, clang++).")
        return None
    try:
        path = home() / "kernels" / f"{_identity(compiler)}.so"
        if not path.is_file():
            _compile(compiler, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        last = next((line for line in output.splitlines() if "error" in line.lower()), output.strip()[:200])
        say(f"training without compiled kernels, some percent slower: {compiler} could not make them: {last}")
        return None


def _identity(compiler: str) -> str:
    """Return a name that changes with the source, the flags, the compiler, the processor and torch's OpenMP."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=PATIENCE)
    texts = [path.read_text("utf-8") for path in (*SOURCES, *HEADERS)]
    parts = (texts, FLAGS, version.stdout, _processor(), str(_openmp()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _processor() -> str:
    """Return what the processor can do: a home folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))


def _openmp() -> Path | None:
    """Return the OpenMP that torch brings along, if it does.

    Two of them in one process would each keep their threads spinning while the other's are at work.
    """
    import torch

    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return found[0] if found else None


def _compile(compiler: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = {source: str(Path(folder) / f"{source.stem}.o") for source in SOURCES}
        finished, openmp = Path(folder) / "kernels.so", _openmp()
        for command in (
            *([compiler, *FLAGS, "-c", str(source), "-o", part] for source, part in made.items()),
            [compiler, "-shared", *made.values(), *([str(openmp)] if openmp else ["-fopenmp"]), "-o", str(finished)],
        ):
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        finished.replace(path)  # at once, so that another process never loads half of it
