"""Checkpoints that are whole or not there.

A checkpoint is a folder ``step-00000012``: tensors as safetensors, everything else as JSON, and a manifest with the
size and sha256 of each file, written last. It is staged under another name, flushed to the disk and renamed in one
step. Reading takes the newest whose manifest holds and sets damaged ones aside; nothing is ever unpickled.

The best weights so far are a folder of the same build, ``best-00000008``. The state of a checkpoint names the one it
needs, and a checkpoint is only as good as that.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.errors import ResourceError
from tunesmith.models.fetch import sha256
from tunesmith.progress import say
from tunesmith.rundir import publish
from tunesmith.wording import size

MANIFEST = "MANIFEST.json"
STEPS, BESTS = "step-????????", "best-????????"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was read back."""

    folder: Path
    tensors: dict[str, dict[str, Tensor]]  # file name without ending -> name -> tensor
    state: dict[str, Any]


def write_checkpoint(folder: Path, name: str, tensors: Mapping[str, Mapping[str, Tensor]], state: Any) -> Path:
    """Write one checkpoint.

    Args:
        folder: Where checkpoints live.
        name: Of this one.
        tensors: File name without ending -> name -> tensor.
        state: Anything JSON can hold; ``needs`` names folders beside this one without which it is of no use.

    Returns:
        The folder of the checkpoint.

    Raises:
        ResourceError: The disk is full; earlier checkpoints are untouched.
    """
    staged, final = folder / f".tmp-{name}-{os.getpid()}", folder / name
    with full_disk_explained(folder, f"checkpoint {name}"):
        try:
            shutil.rmtree(staged, ignore_errors=True)
            staged.mkdir(parents=True)
            for part, content in tensors.items():
                save_file({key: value.detach().contiguous().clone() for key, value in content.items()},
                          staged / f"{part}.safetensors")  # fmt: skip
            (staged / "state.json").write_text(json.dumps(state), encoding="utf-8")
            files = sorted(staged.iterdir())
            manifest = {path.name: {"size": path.stat().st_size, "sha256": sha256(path)} for path in files}
            (staged / MANIFEST).write_text(json.dumps({"files": manifest}), encoding="utf-8")
            publish(staged, final)
        except (OSError, SafetensorError):
            shutil.rmtree(staged, ignore_errors=True)
            raise
    return final


@contextmanager
def full_disk_explained(folder: Path, what: str) -> Iterator[None]:
    """Raise a ResourceError in place of the system's word for a full disk.

    Args:
        folder: Where it is written, in a folder that exists.
        what: Is written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors writes by itself, and has the number in its text alone
        found = re.search(r"os error (\d+)", str(error)) if isinstance(error, SafetensorError) else None
        number = int(found[1]) if found else getattr(error, "errno", None)
        if number not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
        raise ResourceError(
            f"{folder}: the disk is full ({size(free)} free), {what} was not written. What was written before "
            "is untouched: free some space and run the same command again."
        ) from None


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that verifies; damaged ones are renamed ``*.corrupt`` and named on stderr."""
    for path in sorted(folder.glob(STEPS), reverse=True):
        problem = damage(path)
        if not problem:
            found = read_checkpoint(path)
            missing = [f"{name}/{text}" for name in found.state.get("needs", ()) if (text := damage(folder / name))]
            if not missing:
                return found
            problem = f"it needs {missing[0]}"
        aside = path.with_name(path.name + ".corrupt")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        say(f"{path}: {problem}; set aside as {aside.name}. An older checkpoint is taken, or the start.")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that was verified."""
    tensors = {file.stem: load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return Checkpoint(path, tensors, json.loads((path / "state.json").read_text(encoding="utf-8")))


def damage(path: Path) -> str:
    """Say what is wrong with a checkpoint folder; an empty text means that every file is as it was written."""
    try:
        files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, expected in files.items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["size"] or sha256(file) != expected["sha256"]:
                return f"{name} is not as it was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is missing or cannot be read"
    return "" if "state.json" in files else f"{MANIFEST} names no state.json"


def remove_old(folder: Path, keep: int, needed: Collection[str]) -> None:
    """Delete what nothing will read again.

    Args:
        folder: Where checkpoints live.
        keep: So many checkpoints stay, the newest ones, and whatever they need.
        needed: Stays as well.
    """
    steps = sorted(folder.glob(STEPS))
    for path in steps[:-keep]:
        shutil.rmtree(path)
    wanted = {*needed, *(name for path in steps[-keep:] for name in _needs(path))}
    for path in folder.glob(BESTS):
        if path.name not in wanted:
            shutil.rmtree(path)
    for path in folder.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _needs(path: Path) -> list[str]:
    try:
        found: list[str] = json.loads((path / "state.json").read_text(encoding="utf-8"))["needs"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # damaged: nobody goes on from it
    return found
