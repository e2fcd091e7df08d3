"""QLoRA: LoRA beside a base whose linear layers are kept in four bits.

Dettmers and others 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314: NF4 with double
quantisation, by bitsandbytes. The corrections learn in float32, and learn to answer with the rounded base.
"""

from copy import copy
from typing import Any

from tunesmith.environment import FOUR_BITS, quiet_peft, without_bitsandbytes
from tunesmith.errors import RecipeError
from tunesmith.methods import lora
from tunesmith.methods.lora import RATES as RATES  # the same corrections learn
from tunesmith.methods.lora import averages as averages
from tunesmith.methods.lora import base_values as base_values
from tunesmith.methods.lora import join as join
from tunesmith.methods.lora import load as load
from tunesmith.methods.lora import save as save
from tunesmith.methods.lora import saved as saved

ABOUT = "LoRA beside a base in four bits, NF4 with double quantisation (arXiv 2305.14314)"
ON_DISK = "adapter"  # a folder in peft's format
QUANTIZE = True
TRANSPOSED = "qlora: the linear layers of this model are Conv1D, which cannot be turned back from four bits. Take lora."


class Settings(lora.LowRank):
    """What QLoRA can be told."""


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn: those of LoRA. The base has as many as ever, in fewer bits.

    Raises:
        RecipeError: bitsandbytes is not there, the model is one like GPT-2, and whatever LoRA refuses.
    """
    problems = without_bitsandbytes(FOUR_BITS)
    try:
        found = lora.count(settings, model)
        if any(map(lora.transposed, lora.target_layers(settings, model).values())):
            problems.append(TRANSPOSED)
    except RecipeError as error:
        problems += [problem.replace("lora: ", "qlora: ", 1) for problem in error.problems]
    if problems:
        raise RecipeError(problems)
    return found


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Wrap the chosen layers with peft's LoRA, as ``lora.attach`` does.

    Args:
        settings: Rank, alpha, dropout, targets, and the switches.
        model: transformers model, quantised.
        kind: "causal" or "seq2seq".
    """
    return lora.attach(settings, model, kind)


def merge(model: Any) -> Any:
    """Turn the base back from four bits, and add every correction into its layer; return the plain model.

    The weights that come out are the rounded ones plus what was learned, in the format that was computed in: merging
    brings the memory of the base back, not what rounding took from it. Merged into the base as it was before rounding,
    or rounded again, the model would answer differently from how it was trained.
    """
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    config = copy(model.peft_config["default"])
    config.base_model_name_or_path = None  # the same base, which has another name here than where it was saved
    learned = get_peft_model_state_dict(model, save_embedding_layers=False)  # else peft asks the hub for the base
    with quiet_peft():
        plain = get_peft_model(model.unload().dequantize(), config)
        set_peft_model_state_dict(plain, learned)
        return plain.merge_and_unload()
