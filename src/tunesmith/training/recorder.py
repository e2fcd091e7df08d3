"""Training steps on a graphics card, recorded once for each size and replayed.

Batches have all kinds of sizes, so they are filled up to a few: with tokens that nobody looks at, which are an example
of their own at the end of the row, and with counted positions among these, which weigh nothing in the loss. Loss and
gradients stay what they are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from tunesmith.models.fused.flash import Ends
from tunesmith.models.fused.layer import Row
from tunesmith.models.fused.ragged import Segments
from tunesmith.models.fused.recording import Work, recorded, shared_memory
from tunesmith.models.fused.stack import Stack

TOKENS, EXAMPLES = 512, 16  # sizes are multiples of these
PARTS = 4  # a quarter of the tokens is counted, or two quarters, or more
MOST = 12  # sizes that are recorded; each keeps its gradients on the card


@dataclass(frozen=True, slots=True)
class Size:
    """Of a batch that was filled up."""

    tokens: int
    counted: int
    examples: int
    first: int  # the layer that the row enters


@dataclass(frozen=True, slots=True)
class Entering:
    """A batch as it enters a layer: examples end to end, T tokens."""

    x: Tensor  # (T, width) embeddings, or what enters the layer ``first``
    positions: Tensor  # (T,) of each token in its example
    labels: Tensor  # (T,) the next token where the loss counts it, else -100
    lengths: Sequence[int]  # tokens of each example
    first: int = 0
    virtual: Tensor | None = None  # (T,) as ``Stack.virtual`` has it


@dataclass(slots=True)
class Recorder:
    """Of the steps of one training."""

    stack: Stack
    seen: Counter[Size] = field(default_factory=Counter)
    known: dict[Size, Work] = field(default_factory=dict)
    pool: Any = None

    def __post_init__(self) -> None:
        self.pool = shared_memory(self.stack.device)

    def add_gradients(self, row: Entering, *, share: float, alone: bool) -> float:
        """Add the gradients of a batch to those of the model; return its share of the loss.

        Args:
            row: The batch.
            share: What the summed loss is multiplied by.
            alone: Whether no other batch adds to the same gradients.
        """
        size, given = self._filled(row, share)
        self.seen[size] += 1
        if size not in self.known and self.seen[size] > 1 and len(self.known) < MOST:
            self.known[size] = recorded(self._work(size), given, pool=self.pool)
        work = self.known.get(size) or self._work(size)
        loss, dx, *gradients = work(*given)
        assert loss is not None
        for weight, gradient in zip(self.stack.parameters, gradients, strict=True):
            if gradient is None:
                continue
            if weight.grad is None:  # the next batch of this size overwrites what this one has found
                weight.grad = gradient if alone else gradient.clone()
            else:
                weight.grad.add_(gradient)
        if dx is not None:
            row.x.backward(dx[: len(row.x)])
        return loss.item()

    def _filled(self, row: Entering, share: float) -> tuple[Size, tuple[Tensor, ...]]:
        """Return a size, and the batch filled up to it; at least one token is nobody's."""
        x, labels, lengths = row.x, row.labels, row.lengths
        counted = (labels >= 0).nonzero().squeeze(1)
        tokens = -(-(len(x) + 1) // TOKENS) * TOKENS
        part = -(-PARTS * len(counted) // tokens)
        size = Size(tokens, tokens * part // PARTS, -(-(len(lengths) + 1) // EXAMPLES) * EXAMPLES, row.first)
        more, empty = tokens - len(x), size.counted - len(counted)
        all_lengths = [*lengths, more, *[0] * (size.examples - len(lengths) - 1)]
        places = torch.tensor([0, *all_lengths], device=x.device).cumsum(0).to(torch.int32)
        wide = pad(x.detach(), (0, 0, 0, more)).requires_grad_(x.requires_grad)
        weights = torch.full((size.counted,), share, device=x.device)
        weights[len(counted) :] = 0
        known, targets = pad(counted, (0, empty), value=tokens - 1), pad(labels[counted], (0, empty))
        virtual = labels[:0] if row.virtual is None else pad(row.virtual, (0, more), value=-1)
        return size, (wide, pad(row.positions, (0, more)), places, known, targets, weights, virtual)

    def _work(self, size: Size) -> Work:
        """Return what is done with a batch of a size: its share of the loss, and the gradients."""
        stack = self.stack
        learned = [weight.detach().requires_grad_() for weight in stack.parameters]

        def work(x: Tensor, *rest: Tensor) -> tuple[Tensor | None, ...]:
            positions, places, counted, labels, weights, virtual = rest
            stack.refresh()
            segments = Segments((), ends=Ends(places, size.tokens))
            row = Row(segments, *stack.angles(positions), counted, virtual if len(virtual) else None)
            with torch.enable_grad():
                loss = stack.loss_of(x, row, labels, first=size.first, weights=weights, learned=learned)
            wanted = [x, *learned] if x.requires_grad else learned
            found = torch.autograd.grad(loss, wanted, allow_unused=True)
            return (loss.detach(), *(found if x.requires_grad else (None, *found)))

        return work
