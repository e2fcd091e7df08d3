"""Counted work: what a batch, a step or a set of prompts asks of the machine.

Each function returns a row of numbers. Time and memory are linear in such rows, with coefficients that ``calibration``
finds by measuring. The terms are those of a transformer: products with weights (parameters x tokens), attention (pairs
of tokens x width), the output head (positions x vocabulary x width), and what each call costs however small it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from tunesmith.inference.reading import pace
from tunesmith.machine import compute_device
from tunesmith.planning.shapes import Shape

Length = tuple[int, int]
"""Tokens of one example: of its input (causal: prompt and target), of its target."""


@dataclass(frozen=True, slots=True)
class Load:
    """One batch, as the model sees it."""

    tokens: tuple[int, ...]  # through each stack, padding included
    pairs: tuple[int, ...]  # of tokens that attend to each other, in each stack
    labelled: int  # positions that get logits


def batch_load(lengths: Sequence[Length], shape: Shape) -> Load:
    """Return what one batch asks for: end to end, attention within each example, where the model takes it so.

    Encoder-decoders that fused layers do not take are padded to the longest.

    Args:
        lengths: Of its examples.
        shape: Of the model.
    """
    if shape.kind == "seq2seq" and not shape.own:
        lengths = [(max(n for n, _ in lengths), max(u for _, u in lengths))] * len(lengths)
    read, written = sum(n for n, _ in lengths), sum(u for _, u in lengths)
    within = sum(n * n for n, _ in lengths)
    if shape.kind == "causal":
        return Load((read,), (within,), written)
    return Load((read, written), (within, sum(u * (u + n) for n, u in lengths)), written)


def products(shape: Shape, tokens: Sequence[int]) -> float:
    """Return parameters x tokens, over all stacks."""
    return float(sum(stack.parameters * count for stack, count in zip(shape.stacks, tokens, strict=True)))


def layers(shape: Shape) -> int:
    """Return the layers of all stacks."""
    return sum(stack.layers for stack in shape.stacks)


def attended(shape: Shape, pairs: Sequence[int]) -> float:
    """Return pairs x layers x width of attention, over all stacks."""
    return float(shape.attention * sum(s.layers * count for s, count in zip(shape.stacks, pairs, strict=True)))


def step_work(shape: Shape, loads: Sequence[Load], trainable: int) -> list[float]:
    """Return what the time of an optimizer step is linear in.

    Args:
        shape: Of the model.
        loads: The batches of the step.
        trainable: Parameters that the optimizer moves.
    """
    return [
        len(loads),
        len(loads) * layers(shape),
        sum(products(shape, load.tokens) for load in loads),
        sum(attended(shape, load.pairs) for load in loads),
        sum(load.labelled for load in loads) * float(shape.vocabulary * shape.width),
        trainable,
        len(loads) * trainable,
    ]


def batch_memory(shape: Shape, load: Load) -> list[float]:
    """Return what the memory of a batch is linear in, in values.

    These are 1, what layers keep, what a layer works with, what attention keeps, the logits.
    """
    kept = [stack.layers * shape.width * count for stack, count in zip(shape.stacks, load.tokens, strict=True)]
    heads = sum(stack.layers * count for stack, count in zip(shape.stacks, load.pairs, strict=True))
    working = sum(load.tokens) * shape.width
    return [1.0, *map(float, kept), float(working), float(heads), float(load.labelled * shape.vocabulary)]


@dataclass(frozen=True, slots=True)
class Writing:
    """Answers that are written together, as the model sees them."""

    read: tuple[int, ...]  # tokens of prompts through each stack
    pairs: tuple[int, ...]  # attended to while reading and writing, in each stack
    steps: int  # calls of the model for a next token
    written: int  # tokens through the last stack while writing
    rows: int  # prompts
    at_once: int  # answers in memory at once
    cached: int  # positions whose keys and values are written, in memory at once
    reading: int  # tokens of prompts that are read in one call


def decoding(
    prompts: Sequence[int], new: Sequence[int], *, slots: int, kind: str = "causal", shared: int = 0, kept_once: int = 0
) -> Writing:
    """Return the work of our own ``inference.decode``: a slot that is done takes the next prompt.

    Args:
        prompts: Tokens of each, the longest first: so the first ones decide how much of a slot is ever written.
        new: Tokens of each answer.
        slots: Answers written at once.
        kind: "causal" or "seq2seq", whose prompts pass through the encoder alone.
        shared: Tokens that all prompts begin with, less than the shortest: read once.
        kept_once: How many of them are in memory once, and not in every slot.
    """
    busy: list[int] = []
    for _, count in sorted(zip(prompts, new, strict=True), reverse=True):
        heappush(busy, (heappop(busy) if len(busy) >= slots else 0) + count)
    tokens = shared + sum(p - shared for p in prompts)
    within = shared**2 + sum(p * p - shared**2 for p in prompts)
    more = sum(n * (p + n) for p, n in zip(prompts, new, strict=True))
    read, pairs = ((tokens,), (within + more,)) if kind == "causal" else ((tokens, 0), (within, more))
    reading = min(tokens, pace(compute_device(), slots).tokens + max(prompts))
    cached = kept_once + sum(p - kept_once for p in prompts[:slots]) + sum(new[:slots])
    return Writing(read, pairs, max(busy), sum(new), len(prompts), min(slots, len(prompts)), cached, reading)


def padded_writing(prompts: Sequence[int], new: Sequence[int], kind: str) -> Writing:
    """Return the work of one batch of transformers' ``generate``: padded, and as long as its longest answer."""
    rows, width, steps = len(prompts), max(prompts), max(new)
    reading, written, cached = rows * width, rows * steps, rows * (width + steps)
    more = written * (width + steps)
    if kind == "causal":
        return Writing((reading,), (reading * width + more,), steps, written, rows, rows, cached, reading)
    return Writing((reading, 0), (reading * width, more), steps, written, rows, rows, cached, reading)


def writing_work(shape: Shape, writing: Writing) -> list[float]:
    """Return what the time of answering is linear in."""
    last = shape.stacks[-1]
    return [
        writing.steps,
        writing.steps * last.layers,
        products(shape, writing.read),
        float(last.parameters) * writing.written,
        attended(shape, writing.pairs),
        (writing.written + writing.rows) * float(shape.vocabulary * shape.width),
    ]


def writing_memory(shape: Shape, writing: Writing) -> list[float]:
    """Return what the memory of answering is linear in, in values: 1, keys and values, reading, logits."""
    return [
        1.0,
        2.0 * writing.cached * shape.stacks[-1].layers * shape.keys,
        float(writing.reading * shape.width),
        float(writing.at_once * shape.vocabulary),
    ]
