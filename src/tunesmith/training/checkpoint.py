"""Checkpoints that are whole or not there.

A checkpoint is a folder ``step-00000012``: tensors as safetensors, everything else as JSON, and a manifest with the
size and sha256 of each file, written last. It is staged under another name, flushed to the disk and renamed in one
step. Reading takes the newest whose manifest holds and sets damaged ones aside; nothing is ever unpickled.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from tunesmith.errors import ResourceError
from tunesmith.models.fetch import sha256
from tunesmith.progress import say
from tunesmith.rundir import flush_folder

MANIFEST = "MANIFEST.json"


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
        state: Anything JSON can hold.

    Returns:
        The folder of the checkpoint.

    Raises:
        ResourceError: The disk is full; earlier checkpoints are untouched.
    """
    staged, final = folder / f".tmp-{name}-{os.getpid()}", folder / name
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
        for path in [*files, staged / MANIFEST]:
            _flush(path)
        if final.exists():
            shutil.rmtree(final)
        staged.rename(final)
        flush_folder(folder)
    except OSError as error:
        shutil.rmtree(staged, ignore_errors=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(folder).free
            raise ResourceError(
                f"{folder}: the disk is full ({free / 1e9:.1f} GB free), checkpoint {name} was not written. Earlier "
                "ones are untouched: free some space and run the same command again."
            ) from None
        raise
    return final


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that verifies; damaged ones are renamed ``*.corrupt`` and named on stderr."""
    for path in sorted(folder.glob("step-????????"), reverse=True):
        problem = damage(path)
        if not problem:
            return read_checkpoint(path)
        aside = path.with_name(path.name + ".corrupt")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        say(f"{path}: {problem}; set aside as {aside.name}, going on from an older checkpoint.")
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
        return "it has no readable manifest"
    return "" if "state.json" in files else "its manifest names no state"


def remove_old(folder: Path, keep: int) -> None:
    """Delete all but the newest ``keep`` checkpoints and whatever was left half written."""
    for path in sorted(folder.glob("step-????????"))[:-keep]:
        shutil.rmtree(path)
    for path in folder.glob(".tmp-*"):
        shutil.rmtree(path, ignore_errors=True)
