"""The same prompts put to an adapter beside its base and to what came of merging the two: do they say the same?"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tunesmith.data.encode import Coder, encode_prompts
from tunesmith.data.rendering import render_prompts
from tunesmith.data.rows import Row
from tunesmith.data.support import SUPPORT
from tunesmith.data.templates import load_template
from tunesmith.exporting.sources import Source
from tunesmith.inference.answer import NO_LIMIT
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import predictions
from tunesmith.models.load import Loaded
from tunesmith.records import Example
from tunesmith.rundir import read_records
from tunesmith.settings import GenerateSettings, TaskSettings

PROMPTS = 32
T = TypeVar("T")
TOKENS = 16  # of each answer; their logits are kept: 100 MB for a vocabulary of 50,000


@dataclass(frozen=True, slots=True)
class Replay:
    """What one model said."""

    answers: tuple[tuple[int, ...], ...]  # greedy, with the token that ended each, if one did
    logits: tuple[Tensor, ...]  # (U, V) float32 for each prompt: what predicts each of the U tokens of its answer


def choose_prompts(source: Source) -> tuple[list[Example], str]:
    """Return 32 examples to replay, and in words where they are from.

    Test examples of the run, evenly taken; shipped chats where there are none, or to make up for those that lack.
    """
    path = source.run.examples("test") if source.run else None
    found = list(read_records(path, Example)) if path and path.is_file() else []
    own = _evenly(found, min(PROMPTS, len(found)))
    counts = {"test examples of the run": len(own), "shipped chats": PROMPTS - len(own)}
    return own + _shipped(PROMPTS - len(own)), " and ".join(f"{n} {what}" for what, n in counts.items() if n)


def _evenly(found: Sequence[T], count: int) -> list[T]:
    return [found[n * len(found) // count] for n in range(count)]


def _shipped(count: int) -> list[Example]:
    task = TaskSettings(source="support", template="dialogue-summary")
    template = load_template(task)
    rows = [json.loads(line) for line in _evenly(SUPPORT.read_text(encoding="utf-8").splitlines(), count)]
    prompts = render_prompts(template, [(0, Row(row, "support", n, None)) for n, row in enumerate(rows, 1)])
    return [
        Example(id=f"support/{n}", task=task.name, split="test", prompt=str(prompt), target="", references=())
        for n, prompt in enumerate(prompts)
    ]


def encode(examples: Sequence[Example], loaded: Loaded, *, max_tokens: int) -> list[list[int]]:
    """Return the ids of prompts, cut where training cut them.

    Args:
        examples: From ``choose_prompts``.
        loaded: Tokenizer and context.
        max_tokens: The limit of training.
    """
    room = (loaded.context or NO_LIMIT) - (TOKENS if loaded.kind == "causal" else 0)
    ids, _ = encode_prompts(examples, Coder(loaded.tokenizer, loaded.kind, min(room, max_tokens)))
    return ids


@torch.inference_mode()
def replay(loaded: Loaded, prompts: Sequence[Sequence[int]], after: Replay | None = None) -> Replay:
    """Answer prompts greedily, and keep the logits of every token.

    Args:
        loaded: Computes in float32.
        prompts: Token ids.
        after: Whose answers the logits are to predict; None = its own.
    """
    found = generate(loaded, prompts, settings=GenerateSettings(), max_new_tokens=TOKENS)
    end = loaded.tokenizer.eos_token_id
    answers = tuple((*one.ids, end) if one.finish == "stop" else one.ids for one in found)
    said = after.answers if after else answers
    logits = [predictions(loaded, ids, [answer])[0].float() for ids, answer in zip(prompts, said, strict=True)]
    return Replay(answers, tuple(logits))


def largest_difference(one: Replay, other: Replay) -> float:
    """Return how far any two logits of the same token, after the same prompt and answer, are apart."""
    return max(float((a - b).abs().max()) for a, b in zip(one.logits, other.logits, strict=True))


def equal_answers(one: Replay, other: Replay) -> int:
    """Return how many prompts have the same greedy answer, to the last token."""
    return sum(a == b for a, b in zip(one.answers, other.answers, strict=True))
