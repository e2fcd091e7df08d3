"""How fast this machine multiplies matrices, and what share of that a training reaches."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

SIZE, SMALL, ON_CARD = 2048, 256, 8192
FORMATS = ("float32", "float32, medium", "bfloat16")


def matrix_products(threads: int, *, seconds: float = 0.7) -> dict[str, float]:
    """Return the best 1e12 operations a second of a square product in each number format.

    A format that would take longer than ``seconds`` for one large product, as bfloat16 without units for it, is told by
    a small one. A graphics card is filled by larger products only.

    Args:
        threads: That may be used.
        seconds: Spent on each format.
    """
    import torch

    from tunesmith.machine import compute_device

    card = compute_device().type != "cpu"
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = {}
    for name in FORMATS:
        torch.set_float32_matmul_precision("medium" if "medium" in name else "highest")
        dtype = getattr(torch, name.split(",")[0])
        if card:
            found[name] = rate(ON_CARD, dtype, seconds=seconds / 4)
            continue
        found[name] = rate(SMALL, dtype, seconds=0.0)
        if 2 * SIZE**3 / found[name] < seconds * 1e12:
            found[name] = max(found[name], rate(SIZE, dtype, seconds=seconds))
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(before)
    return found


def rate(size: int, dtype: Any, *, seconds: float) -> float:
    """Return the best 1e12 operations a second over some seconds, of three products at least."""
    import torch

    from tunesmith.machine import compute_device, finish

    a, times = torch.randn(size, size, device=compute_device()).to(dtype), list[float]()
    finish()
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, a)
        finish()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times) / 1e12


def medians(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of several measurements of each format."""
    return {name: round(statistics.median(one[name] for one in found), 4) for name in FORMATS}


def answering_work(model: Any, lengths: Sequence[tuple[int, int]], *, shared: int = 0) -> float:
    """Return the operations that greedy answers of a causal model cannot do without, in 1e12.

    Products of weights and tokens, attention over the tokens that may attend, and the output head where a token is
    chosen.

    Args:
        model: The transformers model.
        lengths: Tokens of prompt and of answer, for each answer.
        shared: Tokens that all prompts begin with, and that need to be read once.
    """
    from tunesmith.planning.shapes import shape_of

    shape = shape_of(model)
    (stack,) = shape.stacks

    def through(tokens: int) -> float:
        return 2 * stack.parameters * tokens + 4 * tokens**2 / 2 * shape.attention * stack.layers

    total = through(shared)
    for prompt, answer in lengths:
        total += through(prompt + answer) - through(shared)
        total += 2 * answer * shape.vocabulary * shape.width
    return total / 1e12


def work(model: Any, stream: dict[str, Any], *, lora: int) -> float:
    """Return the operations that one pass over a stream cannot do without, in 1e12.

    Products of weights and tokens, forward 2, backward 2 for the input and 2 for a weight that learns; attention over
    the tokens that may attend, forward and backward; the output head on counted positions. Padding, logits of other
    positions and everything computed twice are not counted, so that programs which do that reach a lower share.

    Args:
        model: The transformers model, before a method is attached.
        stream: Rows and steps.
        lora: Parameters that learn beside a frozen base; 0: everything learns.
    """
    from tunesmith.planning.shapes import shape_of

    shape = shape_of(model)
    everything = sum(stack.parameters for stack in shape.stacks)
    total = 0.0
    for row in (stream["rows"][index] for step in stream["steps"] for index in step):
        read, written = len(row["ids"]), sum(label != -100 for label in row["labels"])
        tokens = (read, written) if stream["seq2seq"] else (read,)
        pairs = (read**2, written**2 / 2 + read * written) if stream["seq2seq"] else (read**2 / 2,)
        for stack, count, attended in zip(shape.stacks, tokens, pairs, strict=True):
            across = 2 * shape.width * shape.keys * stack.layers  # a decoder makes keys and values of what was read
            multiplied = stack.parameters * count + across * (read - count)
            total += (4 if lora else 6) * multiplied + 6 * lora * multiplied / everything
            total += 4 * 3 * attended * shape.attention * stack.layers  # backward is twice the forward pass
        total += (4 if lora else 6) * written * shape.vocabulary * shape.width
    return total / 1e12
