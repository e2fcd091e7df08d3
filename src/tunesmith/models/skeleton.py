"""The architecture of a model folder, without its weights."""

from pathlib import Path
from typing import Any

from tunesmith.models.catalog import check_folder
from tunesmith.models.load import explained

HEAD, WORDS = "lm_head.weight", ("shared.weight", "model.embed_tokens.weight")
"""Names of the output head, and of the embedding of words, in the files of the usual families."""


def skeleton(folder: Path) -> Any:
    """Return the model of a folder without its weights: every layer has its shape, and takes no memory."""
    import torch
    from transformers import AutoConfig

    check_folder(folder)
    with explained(folder), torch.device("meta"):
        return built(folder, AutoConfig.from_pretrained(folder))


def built(folder: Path, config: Any, **given: Any) -> Any:
    """Return a model as a config says, with random weights, and with an output head of its own if a folder has one.

    Whether it has is in its weights, whatever its config says of tied ones: T5 in its version 1.1 is such a model.
    transformers goes by the weights too when it loads them.

    Args:
        folder: Of a model.
        config: Its config, or one with fewer layers.
        **given: For ``from_config`` of transformers, as ``dtype``.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = auto.from_config(config, **given)
    head, words = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is words.weight and _heads_differ(folder):
        head.weight = torch.nn.Parameter(words.weight.detach().clone())
    return model


def _heads_differ(folder: Path) -> bool:
    import torch
    from safetensors import safe_open

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with explained(folder), torch.device("cpu"), safe_open(path, "pt") as file:
            names = [name for name in file.keys() if name in (HEAD, *WORDS)]  # noqa: SIM118
            found |= {"head" if name == HEAD else "words": file.get_slice(name)[:1] for name in names}
    return len(found) == 2 and not bool((found["head"] == found["words"]).all())
