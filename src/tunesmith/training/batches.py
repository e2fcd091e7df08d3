"""Which examples make an optimizer step, which of them are in memory at once, and how they become tensors.

The order is a function of (seed, epoch) alone, so that a run that was interrupted sees what it would have seen.
An optimizer step is fixed by the number of real tokens; how a step is cut into batches changes nothing but speed.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tunesmith.data.encode import Encoded
from tunesmith.data.mixture import Draw
from tunesmith.machine import compute_device
from tunesmith.settings import TrainSettings

AT_ONCE = 2048 * 30 * 576  # tokens x layers x width: 2,048 tokens, an optimizer step, for SmolLM2-135M
FEWEST, MOST = 256, 4096  # tokens; with more the products of small models get no faster
ON_A_CARD = 8  # times as many, for which it has memory; few take it almost as long
IGNORED = -100  # label of a token that the loss does not count
PROCESSOR = torch.device("cpu")
SHORT_BEGINNING = 8  # tokens below which sharing is not worth its copies


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples as tensors. Labels are not shifted."""

    input_ids: Tensor  # causal: (1, T) int64, what all share and then the examples end to end; seq2seq: (B, T) padded
    labels: Tensor  # causal: (1, T); seq2seq: (B, U); IGNORED = not counted
    position_ids: Tensor | None  # causal: (1, T), beginning again at each example
    attention_mask: Tensor | None  # seq2seq: (B, T), 1 = a real token
    lengths: tuple[int, ...]  # tokens of each example, without the shared ones
    tokens: int  # real tokens of all examples
    target_tokens: int  # tokens that the loss counts
    shared: int = 0  # causal: tokens that every example begins with, and that stand in the row once


Step = tuple[tuple[int, ...], ...]
"""One optimizer step: batches of indices into the training examples."""


def epoch_steps(
    sizes: Sequence[int], *, seed: int, epoch: int, tokens_per_step: int, tokens_per_batch: int, ragged: bool = True
) -> list[Step]:
    """Return the optimizer steps of one epoch; every example stands in exactly one of them.

    Args:
        sizes: Tokens of each example.
        seed: The recipe's.
        epoch: Counting from 0.
        tokens_per_step: A step is full when one more example would go beyond this many tokens.
        tokens_per_batch: The same for a batch; counted with padding where ``ragged`` is False.
        ragged: Whether examples may share a row without padding.
    """
    order = list(range(len(sizes)))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    steps: list[list[int]] = [[]]
    filled = 0
    for index in order:
        if steps[-1] and filled + sizes[index] > tokens_per_step:
            steps.append([])
            filled = 0
        steps[-1].append(index)
        filled += sizes[index]
    return [split_step(step, sizes, tokens_per_batch, ragged=ragged) for step in steps]


def all_steps(
    sizes: Sequence[int], settings: TrainSettings, *, seed: int, tokens_per_batch: int, ragged: bool = True,
    draw: Draw | None = None,
) -> list[tuple[float, Step]]:  # fmt: skip
    """Return every optimizer step of a whole training, each with the epochs that are done after it.

    Args:
        sizes: Tokens of each example.
        settings: Of the training.
        seed: The recipe's.
        tokens_per_batch: Tokens in memory at once.
        ragged: Whether examples may share a row without padding.
        draw: Which examples stand in which epoch; None: each has all of them.
    """
    steps: list[tuple[float, Step]] = []
    for epoch in range(math.ceil(settings.epochs)):
        chosen = draw.epoch(epoch) if draw else range(len(sizes))
        found = epoch_steps(
            [sizes[place] for place in chosen], seed=seed, epoch=epoch, tokens_per_step=settings.tokens_per_step,
            tokens_per_batch=tokens_per_batch, ragged=ragged,
        )  # fmt: skip
        share = min(1.0, settings.epochs - epoch)
        count = math.ceil(round(share * len(found), 6))  # 2.1 epochs leave a share of 0.10000000000000009
        steps += [(epoch + (n + 1) / len(found), _among(chosen, step)) for n, step in enumerate(found[:count])]
    return steps[: settings.max_steps]


def _among(chosen: Sequence[int], step: Step) -> Step:
    """Return a step with the indices of all examples in place of those among the chosen ones."""
    return tuple(tuple(chosen[index] for index in batch) for batch in step)


def split_step(step: Sequence[int], sizes: Sequence[int], tokens_per_batch: int, *, ragged: bool = True) -> Step:
    """Cut one step into batches of similar lengths that fit ``tokens_per_batch``, or hold a single example."""
    batches: list[list[int]] = [[]]
    filled = 0
    for index in sorted(step, key=lambda i: (-sizes[i], i)):
        cost = sizes[index] if ragged or not batches[-1] else sizes[batches[-1][0]]  # padded to the longest, the first
        if batches[-1] and filled + cost > tokens_per_batch:
            batches.append([])
            filled, cost = 0, sizes[index]
        batches[-1].append(index)
        filled += cost
    return tuple(tuple(batch) for batch in batches)


def make_batch(
    examples: Sequence[Encoded], *, kind: str, pad_id: int, share: bool = False, device: torch.device = PROCESSOR
) -> Batch:
    """Turn examples into tensors: end to end for a causal model, padded for an encoder-decoder.

    Args:
        examples: At least one.
        kind: "causal" or "seq2seq".
        pad_id: Fills the padding of an encoder-decoder's batch.
        share: Let tokens that all examples of a causal batch begin with stand in the row once.
        device: Where the model is.
    """
    if kind == "seq2seq":
        return _padded(examples, pad_id, device)
    shared = common_beginning(examples) if share else 0
    rests = [example.input_ids[shared:] for example in examples]
    start = list(examples[0].input_ids[:shared])
    labels = [
        token if counts else IGNORED
        for example in examples
        for token, counts in zip(example.input_ids[shared:], example.trains[shared:], strict=True)
    ]
    positions = [shared + position for rest in rests for position in range(len(rest))]
    return Batch(
        torch.tensor([start + [token for rest in rests for token in rest]], device=device),
        torch.tensor([[IGNORED] * shared + labels], device=device),
        torch.tensor([[*range(shared), *positions]], device=device),
        None,
        tuple(len(rest) for rest in rests),
        sum(len(example.input_ids) for example in examples),
        sum(sum(example.trains) for example in examples),
        shared,
    )


@dataclass(frozen=True, slots=True)
class Below:
    """What enters the lowest layer that learns, for examples; see ``training.below``."""

    states: tuple[Tensor, ...]  # (T, width) of each example

    def row(self, indices: Sequence[int], shared: int) -> Tensor:
        """Return what belongs to the row that ``make_batch`` makes of some examples, (T, width).

        Args:
            indices: Of the examples.
            shared: Tokens that all of them begin with, and that stand in the row once.
        """
        return torch.cat([self.states[indices[0]][:shared], *(self.states[index][shared:] for index in indices)])


def common_beginning(examples: Sequence[Encoded]) -> int:
    """Return how many tokens all examples begin with, such as a system message and an instruction.

    Each keeps at least one token of its own before the first one that the loss counts: the position that predicts it.
    0 where it would not be worth the trouble.
    """
    if len(examples) < 2:
        return 0
    first, last = min(e.input_ids for e in examples), max(e.input_ids for e in examples)
    same = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    same = min(same, *(example.trains.index(True) - 1 for example in examples))
    return same if same >= SHORT_BEGINNING else 0


def tokens_at_once(settings: TrainSettings, *, layers: int, width: int) -> int:
    """Return the tokens in memory at once: as the settings say, or as many as leave a model's activations small.

    Args:
        settings: ``tokens_per_batch``.
        layers: Of the model, of encoder and decoder together.
        width: Of its hidden states.

    >>> [tokens_at_once(TrainSettings(), layers=n, width=d) for n, d in ((30, 576), (16, 512), (32, 4096))]
    [2048, 4096, 270]
    """
    if settings.tokens_per_batch != "auto":
        return settings.tokens_per_batch
    more = 1 if compute_device().type == "cpu" else ON_A_CARD
    return more * min(MOST, max(FEWEST, AT_ONCE // (layers * width)))


def _padded(examples: Sequence[Encoded], pad_id: int, device: torch.device) -> Batch:
    width = max(len(example.input_ids) for example in examples)
    depth = max(len(example.target_ids) for example in examples)
    ids = [[*e.input_ids, *[pad_id] * (width - len(e.input_ids))] for e in examples]
    mask = [[1] * len(e.input_ids) + [0] * (width - len(e.input_ids)) for e in examples]
    labels = [[*e.target_ids, *[IGNORED] * (depth - len(e.target_ids))] for e in examples]
    return Batch(
        torch.tensor(ids, device=device),
        torch.tensor(labels, device=device),
        None,
        torch.tensor(mask, device=device),
        tuple(len(example.input_ids) for example in examples),
        sum(example.tokens for example in examples),
        sum(len(example.target_ids) for example in examples),
    )
