"""A loaded model as lm-evaluation-harness wants to be answered.

Texts become tokens as the harness's own class for transformers makes them. What is computed from the tokens is ours:
likelihoods without padding, with what prompts begin with read once, and greedy answers that leave their place to the
next as soon as they have ended. Virtual tokens that all tasks share stand before every prompt.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.inference.decode import decode
from tunesmith.inference.generate import generate, writes_itself
from tunesmith.inference.rank import rank_all
from tunesmith.machine import available_memory
from tunesmith.models.load import Loaded
from tunesmith.planning.shapes import shape_of
from tunesmith.progress import counting_on, track
from tunesmith.settings import GenerateSettings
from tunesmith.suites.hush import hushed
from tunesmith.suites.kept import Kept

HEAD = 48  # tokens that prompts must begin with alike to be read together
MEMORY = 4  # the part of what is free that keys and values may take: 1 / MEMORY
TAIL = 8  # tokens at the end of an answer in which a word that ends it is looked for
USUAL_NEW_TOKENS = 256  # of an answer, where a task does not say; the harness has the same
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Bare:
    """What the harness asks of a model besides answers."""

    device: Any
    config: Any


class Answering:
    """The part of a language model of the harness that computes; mixed into its class for transformers."""

    loaded: Loaded
    title = ""  # what runs, for what is shown meanwhile
    kept: Kept  # what it has answered before
    backend: str
    max_length: int
    tok_batch_encode: Callable[..., tuple[Any, Any]]

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation; whether it is the likeliest one, no suite of ours asks."""
        questions, places = _questions(requests, self.max_length, apart=self.backend != "causal")
        virtual = self.loaded.virtual.get("", ())
        prompts = [(*virtual, *prompt) for prompt, _ in questions]
        asked = [(prompt, tuple(map(tuple, choices))) for prompt, (_, choices) in zip(prompts, questions, strict=True)]
        found = self.kept.find(asked)
        left = [question for question in asked if question not in found]
        with track(self.title, len(asked)) as show:
            for own in alike([prompt for prompt, _ in left]):
                lot = [left[n] for n in own]
                ranked = rank_all(
                    self.loaded, [prompt for prompt, _ in lot], [choices for _, choices in lot],
                    show=counting_on(show, len(found), len(asked), "prompts ranked"),
                )  # fmt: skip
                new = dict(zip(lot, ranked, strict=True))
                self.kept.keep(new)
                found |= new
        return [(found[asked[question]][choice], False) for question, choice in places]

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return greedy answers, each up to the first of the words that end it."""
        texts: dict[int, str] = {}
        numbered = sorted(enumerate(request.args for request in requests), key=lambda one: str(one[1][1]))
        for _, group in groupby(numbered, key=lambda one: str(one[1][1])):
            asked = list(group)
            settings = asked[0][1][1]
            answers = self._write([context for _, (context, _) in asked], settings)
            texts |= {number: text for (number, _), text in zip(asked, answers, strict=True)}
        return [texts[number] for number in range(len(requests))]

    def room(self, settings: Mapping[str, Any]) -> int:
        """Return how many tokens a prompt may have before an answer is written by some settings of a task.

        Raises:
            RecipeError: The answer is to be sampled, or the model's context has no room for it.
        """
        if settings.get("do_sample") or settings.get("temperature"):
            raise RecipeError(
                "this suite wants sampled answers, and tunesmith gives the likeliest ones. Leave the suite out, or "
                "take the version of lm-evaluation-harness that constraints.txt names."
            )
        new = _new_tokens(settings)
        room = self.max_length - new if self.backend == "causal" else self.max_length
        if room < 1:
            raise RecipeError(
                f"the answers of this suite may have {new} tokens, and the model's context has {self.max_length}. "
                "Leave the suite out (bbh-direct has shorter answers), or take another model."
            )
        return room

    def _write(self, contexts: Sequence[str], settings: dict[str, Any]) -> list[str]:
        """Answer texts that all end in the same way."""
        new, room = _new_tokens(settings), self.room(settings)
        until = [words for words in settings.get("until", ()) if words]
        virtual = self.loaded.virtual.get("", ())
        prompts = [
            (*virtual, *self.tok_batch_encode([context], left_truncate_len=room)[0][0].tolist()) for context in contexts
        ]
        with track(self.title, len(set(prompts))) as show:
            answers = self._greedy(prompts, new, until, show)
        return [_up_to(text, until) for text in answers]

    def _greedy(
        self, prompts: Sequence[Ids], new: int, until: Sequence[str], show: Callable[[float, str], None]
    ) -> list[str]:
        settings, tokenizer = GenerateSettings(), self.loaded.tokenizer

        def text(ids: Sequence[int]) -> str:
            return str(tokenizer.decode(list(ids), skip_special_tokens=True))

        def ends(answer: Sequence[int]) -> bool:
            tail = text(answer[-TAIL:])
            return any(words in tail for words in until)

        if not writes_itself(self.loaded, settings):
            answers = generate(self.loaded, prompts, settings=settings, max_new_tokens=new, show=show)
            return [text(answer.ids) for answer in answers]
        asked = {prompt: (prompt, new, *until) for prompt in sorted(set(prompts), key=lambda ids: (-len(ids), ids))}
        found = self.kept.find(asked.values())
        left = [prompt for prompt, question in asked.items() if question not in found]
        for own in alike(left):  # each lot has worked examples of its own, which are read once
            lot = [left[n] for n in own]
            written = decode(
                self.loaded, lot, max_new_tokens=new, tokens_in_memory=_positions(self.loaded, settings), ends=ends,
                show=counting_on(show, len(found), len(asked), "prompts"),
            )  # fmt: skip
            texts = {asked[ids]: text(answer) for ids, (answer, _) in zip(lot, written, strict=True)}
            self.kept.keep(texts)
            found |= texts
        return [found[asked[prompt]] for prompt in prompts]


def language_model(loaded: Loaded) -> Any:
    """Return a model as the harness takes it, with the harness's own way from texts to tokens."""
    from lm_eval.models.huggingface import HFLM

    class Model(Answering, HFLM):  # type: ignore[misc]
        pass

    room = loaded.context - len(loaded.virtual.get("", ())) if loaded.context else None
    bare = _Bare(loaded.model.device, loaded.model.config)  # so that the harness cannot tie or move weights
    with hushed():
        model = Model(pretrained=bare, tokenizer=loaded.tokenizer, max_length=room)
    model.loaded, model.kept = loaded, Kept()
    return model


def _positions(loaded: Loaded, settings: GenerateSettings) -> int:
    """Return how many positions answers may have in memory at once: no plan was made, so as many as are free."""
    shape = shape_of(loaded.model)
    one: int = 2 * shape.stacks[-1].layers * shape.keys * loaded.model.dtype.itemsize
    return max(settings.tokens_per_batch, available_memory() // MEMORY // one)


def _new_tokens(settings: Mapping[str, Any]) -> int:
    return int(settings.get("max_gen_toks", USUAL_NEW_TOKENS))


def alike(prompts: Sequence[Ids]) -> list[list[int]]:
    """Return places of prompts that are read together: those that begin alike, and all others in one lot.

    >>> shared = tuple(range(HEAD))
    >>> alike([(*shared, 1), (7, 8), (*shared, 2), (9,)])
    [[0, 2], [1, 3]]
    """
    by_head: dict[Ids, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_head.setdefault(prompt[:HEAD], []).append(place)
    lots = [places for head, places in by_head.items() if len(places) > 1 and len(head) == HEAD]
    grouped = {place for places in lots for place in places}
    alone = [place for place in range(len(prompts)) if place not in grouped]
    return [*lots, *([alone] if alone else [])]


def _questions(
    requests: Sequence[tuple[Any, list[int], list[int]]], limit: int, *, apart: bool
) -> tuple[list[tuple[Ids, list[list[int]]]], list[tuple[int, int]]]:
    """Put continuations of the same prompt together; what is too long loses its beginning.

    Args:
        requests: Texts, tokens of the prompt, tokens of the continuation.
        limit: Longest input in tokens.
        apart: Whether prompt and continuation are read apart, as by an encoder and a decoder.

    Returns:
        Prompts with their continuations, and for each request its prompt and its place among the continuations.
    """
    numbers: dict[Ids, int] = {}
    questions: list[tuple[Ids, list[list[int]]]] = []
    places = []
    for _, context, continuation in requests:
        free = limit if apart else limit + 1 - len(continuation)  # the last token is predicted and never read
        prompt = tuple(context[-free:])
        number = numbers.setdefault(prompt, len(questions))
        if number == len(questions):
            questions.append((prompt, []))
        questions[number][1].append(continuation)
        places.append((number, len(questions[number][1]) - 1))
    return questions, places


def _up_to(text: str, until: Sequence[str]) -> str:
    for words in until:
        text = text.partition(words)[0]
    return text
