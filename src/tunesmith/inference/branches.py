"""Several questions with their answers to choose from in one row of tokens: what they share is read once.

A row begins with what all prompts begin with. Then each question follows with its trunk (the rest of its prompt and
what all its choices begin with) and with one branch for each choice. A token of a branch sees the shared beginning, its
trunk, and what stands before it in its own branch: what it would see if the choice stood alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "tunesmith_branches"

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Question:
    """One question as it stands in a row, after what all questions share."""

    ids: tuple[int, ...]  # trunk, then branches; the last token of a choice is predicted and never read
    positions: tuple[int, ...]  # of each id in its own text
    visible: Tensor  # (T, T) bool: the token of a row of it sees the token of a column
    predicting: tuple[tuple[int, ...], ...]  # for each choice the places, within the ids, that predict its tokens
    start: int  # first place that predicts anything; what stands before it needs no logits


def lay_out(prompt: Ids, choices: Sequence[Ids], *, shared: int) -> Question:
    """Place one prompt and its choices.

    Args:
        prompt: Token ids.
        choices: Token ids of each choice, at least one token each.
        shared: How many tokens at its beginning the prompt shares with all others; less than its length.
    """
    common = _common(choices)
    trunk = [*prompt[shared:], *choices[0][:common]]
    last = len(trunk) - 1
    before = tuple(range(last - common, last))  # places that predict what all choices begin with
    ids, positions, ends = list(trunk), [shared + n for n in range(len(trunk))], [len(trunk)]
    predicting = []
    for choice in choices:
        read = choice[common:-1]
        predicting.append((*before, last, *range(len(ids), len(ids) + len(read))))
        ids += read
        positions += [shared + len(trunk) + n for n in range(len(read))]
        ends.append(len(ids))
    visible = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    visible[:, : len(trunk)] = True
    for start, end in pairwise(ends):
        visible[start:end, start:end] = True
    return Question(tuple(ids), tuple(positions), visible.tril(), tuple(predicting), last - common)


def _common(choices: Sequence[Ids]) -> int:
    """Return how many tokens all choices begin with, leaving each one of its own."""
    most = min(map(len, choices)) - 1
    return next((n for n in range(most) if len({choice[n] for choice in choices}) > 1), most)


@dataclass(frozen=True, slots=True)
class Row:
    """Several questions behind what their prompts share."""

    shared: tuple[int, ...]
    questions: tuple[Question, ...]

    def ids(self) -> Tensor:
        """Return all ids, (1, T)."""
        return torch.tensor([[*self.shared, *(token for question in self.questions for token in question.ids)]])

    def positions(self) -> Tensor:
        """Return where each token stands in its own text, (1, T)."""
        own = (place for question in self.questions for place in question.positions)
        return torch.tensor([[*range(len(self.shared)), *own]])

    def predicting(self) -> Tensor:
        """Return the places in the row whose logits are wanted, (N,)."""
        places: list[int] = []
        start = len(self.shared)
        for question in self.questions:
            places += range(start + question.start, start + len(question.ids))
            start += len(question.ids)
        return torch.tensor(places)


def branching_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention within the shared beginning, and from each question to that beginning and to its own tokens.

    Args:
        module: The attention layer (unused; part of the interface of transformers).
        query: (1, H, T, D).
        key: (1, K, T, D) with K dividing H (grouped queries).
        value: (1, K, T, D).
        attention_mask: None; the row says all.
        options: ``row``, ``scaling``, ``sliding_window``.

    Returns:
        (1, T, H, D), and no attention weights.
    """
    row: Row = options["row"]
    window: int | None = options.get("sliding_window")
    device = query.device
    common: dict[str, Any] = {"scale": options.get("scaling"), "enable_gqa": query.shape[1] != key.shape[1]}
    head = torch.arange(len(row.shared))
    out = []
    if row.shared:
        mask = _within(head, head, window) & torch.ones(len(head), len(head), dtype=torch.bool).tril()
        q, k, v = (tensor[:, :, : len(head)] for tensor in (query, key, value))
        out.append(scaled_dot_product_attention(q, k, v, attn_mask=mask.to(device), **common))
    start = len(head)
    for question in row.questions:
        end, places = start + len(question.ids), torch.tensor(question.positions)
        seen = torch.cat([torch.ones(len(places), len(head), dtype=torch.bool), question.visible], 1)
        mask = seen & _within(places, torch.cat([head, places]), window)
        q = query[:, :, start:end]
        k, v = (torch.cat([kept[:, :, : len(head)], kept[:, :, start:end]], 2) for kept in (key, value))
        out.append(scaled_dot_product_attention(q, k, v, attn_mask=mask.to(device), **common))
        start = end
    return torch.cat(out, 2).transpose(1, 2).contiguous(), None


def _within(asking: Tensor, asked: Tensor, window: int | None) -> Tensor:
    """Return which tokens stand near enough to each other for a layer that looks back only so far, (Q, K)."""
    if not window:
        return torch.ones(len(asking), len(asked), dtype=torch.bool)
    return asking[:, None] - asked[None] < window


def _no_mask(*_: Any, **__: Any) -> None:
    return None


AttentionInterface.register(NAME, branching_attention)
AttentionMaskInterface.register(NAME, _no_mask)
