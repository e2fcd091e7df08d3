"""Examples to token ids: the model's chat template around the prompt, and which tokens the loss counts.

What is too long loses the oldest part of its prompt, never its target; every cut is counted and named. The tokenizer
is handed in, so that this file needs no torch.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jinja2 import TemplateError

from tunesmith.errors import DataError, RecipeError
from tunesmith.records import Cut, EncodingHealth, Example, Message


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example as token ids."""

    example_id: str
    input_ids: tuple[int, ...]  # causal: prompt and target, T tokens; seq2seq: the encoder's input
    target_ids: tuple[int, ...]  # the target and its end token, U tokens
    trains: tuple[bool, ...]  # causal: for each of the T tokens, True = the loss counts it; seq2seq: empty

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model."""
        return len(self.input_ids) + (0 if self.trains else len(self.target_ids))


@dataclass(frozen=True, slots=True)
class Coder:
    """What is needed to encode for one model."""

    tokenizer: Any
    kind: Literal["causal", "seq2seq"]
    limit: int  # tokens of prompt + target (causal), or of the prompt and of the target apart (seq2seq)
    virtual: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Task -> ids of the virtual tokens that its prompts begin with; "" = of all tasks. They are never cut."""

    def ids(self, example: Example, prompt: str | None = None, history: int = 0) -> list[int]:
        """Return the ids of a prompt as the model expects it, virtual tokens first, up to where its answer begins.

        Args:
            example: Where prompt and earlier turns come from.
            prompt: Replaces the example's own, when it was cut.
            history: How many of the oldest turns (the system message not counted) to leave out.

        Raises:
            RecipeError: The model's chat template refuses such a conversation.
        """
        own = self.virtual.get(example.task, self.virtual.get("", ()))
        return [*own, *self._words(example, example.prompt if prompt is None else prompt, history)]

    def _words(self, example: Example, text: str, history: int) -> list[int]:
        system = [m for m in example.history if m.role == "system"]
        turns = [m for m in example.history if m.role != "system"][history:]
        if self.tokenizer.chat_template is not None and self.kind == "causal":
            return self._conversation(example.id, [*system, *turns, Message(role="user", content=text)])
        text = "\n".join([*(m.content for m in (*system, *turns)), text])
        if self.kind == "causal":
            text += "\n"
        return list(self.tokenizer(text, add_special_tokens=True, split_special_tokens=True)["input_ids"])

    def target(self, example: Example) -> list[int]:
        """Return the ids of the target and the token that ends it."""
        return [*self._plain(example.target), self.tokenizer.eos_token_id]

    def _conversation(self, example_id: str, messages: list[Message]) -> list[int]:
        """Return the ids of a conversation in the model's chat template.

        What people wrote is text: a control token spelt out in it stays letters, and only the template's are control.
        """
        contents = [message.content for message in messages]
        special = any(token in content for content in contents for token in self.tokenizer.all_special_tokens)
        marks = [f"\ue000{place}\ue001" for place in range(len(messages))] if special else contents
        turns = [{"role": m.role, "content": mark} for m, mark in zip(messages, marks, strict=True)]
        try:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise RecipeError(
                f"{example_id}: the chat template of this model refuses the turns {roles}: {error}. "
                "Leave the system message out of the template, or take another model."
            ) from None
        if not special:
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        ids: list[int] = []
        for place, part in enumerate(re.split("\ue000(\\d+)\ue001", text)):
            odd = place % 2
            ids += (
                self._plain(contents[int(part)]) if odd else self.tokenizer(part, add_special_tokens=False)["input_ids"]
            )
        return ids

    def _plain(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def fit_prompt(example: Example, coder: Coder, room: int) -> tuple[list[int], Cut | None]:
    """Encode a prompt into at most ``room`` tokens.

    The oldest turns go first, then the beginning of the prompt's own text.

    Returns:
        The ids, and what was cut, if anything; ids are empty if even the empty prompt does not fit.
    """
    ids = coder.ids(example)
    before = len(ids)
    if before <= room:
        return ids, None
    roles = [message.role for message in example.history if message.role != "system"]
    turns = len(roles)
    for dropped in range(1, turns + 1):
        if dropped < turns and roles[dropped] == "assistant":
            continue  # a conversation begins with a question; some chat templates insist
        ids = coder.ids(example, history=dropped)
        if len(ids) <= room:
            return ids, Cut(example_id=example.id, tokens_before=before, tokens_after=len(ids))
    offsets = coder.tokenizer(example.prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    drop = 0
    while len(ids) > room and drop < len(offsets):
        drop = min(len(offsets), drop + max(1, len(ids) - room))
        start = offsets[drop][0] if drop < len(offsets) else len(example.prompt)
        ids = coder.ids(example, prompt=example.prompt[start:], history=turns)
    if len(ids) > room:
        return [], None
    return ids, Cut(example_id=example.id, tokens_before=before, tokens_after=len(ids))


def encode_training(examples: Sequence[Example], coder: Coder) -> tuple[list[Encoded], EncodingHealth]:
    """Encode examples for training.

    Raises:
        DataError: Nothing is left to train on; with the reason and the first examples concerned.
    """
    encoded: list[Encoded] = []
    cuts: list[Cut] = []
    too_long: list[str] = []
    for example in examples:
        target = coder.target(example)
        room = coder.limit - (len(target) if coder.kind == "causal" else 0)
        if len(target) > coder.limit or room < 1:
            too_long.append(example.id)
            continue
        prompt, cut = fit_prompt(example, coder, room)
        if not prompt:
            too_long.append(example.id)
            continue
        if cut:
            cuts.append(cut)
        encoded.append(_join(example.id, prompt, target, coder.kind))
    if not encoded:
        raise DataError(_nothing(examples, coder))
    health = EncodingHealth(
        limit=coder.limit,
        cut=tuple(cuts),
        too_long=tuple(too_long),
        prompt_tokens=sum(e.tokens - len(e.target_ids) for e in encoded),
        target_tokens=sum(len(e.target_ids) for e in encoded),
    )
    return encoded, health


def encode_prompts(examples: Sequence[Example], coder: Coder) -> tuple[list[list[int]], EncodingHealth]:
    """Encode prompts for answering.

    Raises:
        DataError: A prompt of which nothing fits; all of them are named.
    """
    ids: list[list[int]] = []
    cuts: list[Cut] = []
    too_long: list[str] = []
    for example in examples:
        prompt, cut = fit_prompt(example, coder, coder.limit)
        ids.append(prompt)
        if cut:
            cuts.append(cut)
        if not prompt:
            too_long.append(example.id)
    if too_long:
        raise DataError(
            f"{len(too_long)} prompts do not fit: the room for a prompt is {coder.limit} tokens{named(too_long)}. "
            "Raise train.max_tokens, or lower max_new_tokens if the model's context is too small for its template and "
            "the answer."
        )
    total = sum(map(len, ids))
    return ids, EncodingHealth(limit=coder.limit, cut=tuple(cuts), too_long=(), prompt_tokens=total, target_tokens=0)


def _nothing(examples: Sequence[Example], coder: Coder) -> str:
    if not examples:
        return "there is nothing to train on: there are no training examples. Look at the split of the recipe."
    ids = [example.id for example in examples]
    own = max(map(len, coder.virtual.values()), default=0)
    return (
        f"there is nothing to {'validate' if examples[0].split == 'validation' else 'train'} on: none of the "
        f"{len(ids)} {examples[0].split} examples has a target that fits beside its prompt into {coder.limit} "
        f"tokens{f', {own} of which are virtual' if own else ''}{named(ids)}. Raise train.max_tokens or shorten the "
        f"targets{', or take fewer virtual tokens' if own else ''}."
    )


def _join(example_id: str, prompt: list[int], target: list[int], kind: str) -> Encoded:
    if kind == "seq2seq":
        return Encoded(example_id, tuple(prompt), tuple(target), ())
    trains = (False,) * len(prompt) + (True,) * len(target)
    return Encoded(example_id, (*prompt, *target), tuple(target), trains)


def named(ids: Sequence[str]) -> str:
    """Return the first ids in brackets, and how many there are beyond them; an empty text for none."""
    if not ids:
        return ""
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f" ({', '.join(ids[:3])}{more})"
