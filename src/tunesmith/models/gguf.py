"""GGUF files to a safetensors folder: once, so that later loads take a second and the result can be saved.

transformers reads GGUF itself, slowly, and keeps the model marked as quantised. Here it reads once; the marks are
taken off, and the tokenizer gets what its reader leaves out: the splitting of digits that SmolLM tokenizers were
trained with, and the control tokens as special tokens.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.rundir import publish
from tunesmith.wording import first_line

CONTROL = 3  # token type of control tokens in GGUF


def convert(gguf: Path, folder: Path) -> None:
    """Write config, tokenizer, chat template and fp32 weights of ``gguf`` into ``folder``, all or nothing.

    Raises:
        RecipeError: The file is damaged, or transformers does not know its architecture.
    """
    import torch
    from transformers import AutoModelForCausalLM

    print(f"converting {gguf.name} to safetensors, once", file=sys.stderr)
    staged = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed; the caller holds the lock
    try:
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = read_tokenizer(gguf)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails in the reader in as many ways as it has bytes
        raise RecipeError(
            f"model: {gguf} cannot be read as GGUF: {first_line(error)} "
            "Is the download complete, and does transformers know this architecture?"
        ) from None
    del model.config.quantization_config  # the weights are plain fp32 now
    model.hf_quantizer = None
    model.is_quantized = False
    staged.mkdir(parents=True)
    model.config._name_or_path = ""
    model.save_pretrained(staged)
    tokenizer.save_pretrained(staged)
    publish(staged, folder)


def read_tokenizer(gguf: Path) -> Any:
    """Return the tokenizer of a GGUF file, with its digits and control tokens put right."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    fields = GGUFReader(gguf).fields
    pre = fields.get("tokenizer.ggml.pre")
    if pre is not None and pre.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    kinds, tokens = fields.get("tokenizer.ggml.token_type"), fields.get("tokenizer.ggml.tokens")
    if kinds is not None and tokens is not None:
        control = [token for token, kind in zip(tokens.contents(), kinds.contents(), strict=True) if kind == CONTROL]
        tokenizer.add_special_tokens({"additional_special_tokens": control})
    return tokenizer
