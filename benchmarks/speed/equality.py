"""The gate before any speed is told: the same tokens, the same losses, the same validation loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

TOLERANCE = {"float32": {"step": 1e-3, "validation": 1e-3}, "bfloat16": {"step": 2e-2, "validation": 1e-2}}
"""Largest relative difference from the plain float32 loop, by the format in which a program computes."""

LIKELIEST = 100  # tokens whose logits tell how far rounding moves them; the deviation of ten is itself off by a fifth
CHANCE = 0.01  # that rounding alone has a program refused
TIE_IN_FLOAT32 = 1e-4  # share of the largest logit


def training_gate(found: Mapping[str, Any], plain: Mapping[str, Any], *, half: bool) -> dict[str, Any]:
    """Compare one training with the plain float32 loop over the same stream.

    A program whose time ran out is compared over the steps that it took.

    Args:
        found: Losses of every step, tokens, validation loss.
        plain: Those of the plain loop.
        half: Whether it computed in bfloat16.

    Returns:
        The differences, and under "passed" whether all are within ``TOLERANCE``.
    """
    limit = TOLERANCE["bfloat16" if half else "float32"]
    whole = len(found["losses"]) == len(plain["losses"])
    step = max(abs(a - b) / b for a, b in zip(found["losses"], plain["losses"], strict=False))
    told: dict[str, Any] = {"steps compared": len(found["losses"]), "largest difference of a step's loss": step}
    passed = step <= limit["step"]
    if whole:
        validation = abs(found["validation"] - plain["validation"]) / plain["validation"]
        told |= {"difference of the validation loss": validation, "same tokens": found["tokens"] == plain["tokens"]}
        passed = passed and validation <= limit["validation"] and told["same tokens"]
    return {key: round(v, 6) if isinstance(v, float) else v for key, v in told.items()} | {"passed": passed}


def same_answers(found: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> list[int]:
    """Return the places at which two lists of answers differ."""
    return [place for place, (a, b) in enumerate(zip(found, expected, strict=True)) if list(a) != list(b)]


def reach(tokens: int) -> float:
    """Return how many standard deviations rounding goes at most, at any of so many tokens, but for ``CHANCE``.

    >>> [round(reach(tokens), 2) for tokens in (1, 2_000, 20_000)]
    [2.33, 4.42, 4.89]
    """
    return NormalDist().inv_cdf(1 - CHANCE / tokens)


@dataclass(frozen=True, slots=True)
class Referee:
    """Tells whether two greedy answers part at two tokens between which rounding decides.

    How far rounding moves logits is not the same everywhere, so it is measured at the very token: by how much the
    likeliest ones of transformers' own layers in the program's format are off. Two logits may change places if they
    are no further apart than ``reach`` times what is usual for the difference of two such errors.

    Attributes:
        exact: A transformers model in float32.
        rounded: The same in the format of the program; None if that is float32 too.
        stops: Tokens that end an answer and are not part of it.
        reach: Standard deviations; every token of every answer was a chance to part, so it grows with their number.
    """

    exact: Any
    rounded: Any | None
    stops: Sequence[int]
    reach: float

    def tied(self, prompt: Sequence[int], one: Sequence[int], other: Sequence[int]) -> bool:
        """Judge two answers to a prompt, all of them token ids."""
        same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        ids = [*prompt, *one[:same]]
        logits = next_logits(self.exact, ids)
        best = logits.topk(min(LIKELIEST, len(logits)))
        stop = max(self.stops, key=lambda token: float(logits[token]))
        wanted = [answer[same] if same < len(answer) else stop for answer in (one, other)]
        if self.rounded is None:
            limit = TIE_IN_FLOAT32 * float(logits.abs().max())
        else:
            compared = sorted({*wanted, *best.indices.tolist()})
            errors = (next_logits(self.rounded, ids) - logits)[compared]
            limit = self.reach * 2**0.5 * float(errors.std())
        return float(best.values[0] - logits[wanted].min()) <= limit


def next_logits(model: Any, ids: list[int]) -> Any:
    """Return a transformers model's logits of the token that comes next, in float32."""
    import torch

    with torch.no_grad():
        tokens = torch.tensor([ids], device=model.device)
        return model(input_ids=tokens, use_cache=False, logits_to_keep=1).logits[0, -1].float()
