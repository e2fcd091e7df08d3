"""A base whose linear layers are kept in four bits: NF4 with double quantisation, by bitsandbytes.

Dettmers and others 2023, "QLoRA: Efficient Finetuning of Quantized LLMs", arXiv 2305.14314. Each block of 64 weights is
divided by its largest absolute value and rounded to one of 16 levels, the quantiles of a normal distribution; the
divisors are quantised in turn, to 8 bits. A layer turns its weights back into the format that is computed in whenever
it is used. The output head, and in T5 the second matrix of each feed-forward layer, stay wide.
"""

from typing import Any

from tunesmith.environment import FOUR_BITS, without_bitsandbytes
from tunesmith.errors import RecipeError


def nf4(dtype: Any) -> Any:
    """Return the configuration that transformers quantises by while it loads.

    Args:
        dtype: torch dtype that layers compute in, and that everything but linear layers is kept in.

    Raises:
        RecipeError: bitsandbytes is not there.
    """
    if problems := without_bitsandbytes(FOUR_BITS):
        raise RecipeError(problems)
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_as_loaded(model: Any) -> None:
    """Keep the first answer from changing the weights.

    Where the processor multiplies bfloat16, bitsandbytes 0.50 would turn every layer into another layout when it first
    answers, with divisors rounded to 8 bits of mantissa: it is another model then, and cannot be trained on.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
