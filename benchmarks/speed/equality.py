"""The gate before any speed is told: the same tokens, the same losses, the same validation loss."""

from collections.abc import Mapping, Sequence
from typing import Any

TOLERANCE = {"float32": {"step": 1e-3, "validation": 1e-3}, "bfloat16": {"step": 2e-2, "validation": 1e-2}}
"""Largest relative difference from the plain float32 loop, by the format in which a program computes."""


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


def tied(model: Any, prompt: Sequence[int], one: Sequence[int], other: Sequence[int], *, half: bool) -> bool:
    """Tell whether two greedy answers part at two tokens between which rounding decides.

    Args:
        model: A transformers model, whose own logits decide.
        prompt: Token ids.
        one: An answer.
        other: Another one.
        half: Whether they were computed in bfloat16.
    """
    import torch

    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    ids = torch.tensor([[*prompt, *one[:same]]], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, -1].float()
    wanted = [answer[same] for answer in (one, other) if same < len(answer)]
    best = logits.topk(2)
    if len(wanted) < 2:  # one of them ended here
        wanted = best.indices.tolist()
    gap = float((logits[wanted[0]] - logits[wanted[1]]).abs())
    close = gap <= (2**-6 if half else 1e-4) * float(logits.abs().max())
    return close and float(best.values[0] - logits[wanted].max()) <= gap + 1e-3
