"""A probe put to a loaded model: what it still knows, and what general prose costs it.

Prompts are put as any other, in the model's chat template, and answered greedily or by likelihood. Prose is text as it
is, without a template. Virtual tokens that all tasks share stand before both: what was tuned is asked as it answers.
A causal model is asked for every token of a paragraph after the first. An encoder-decoder reads the first half of the
words and is asked for the second, since that is how it meets text.
"""

from collections.abc import Callable, Sequence
from time import monotonic

from tunesmith.data.encode import Coder, encode_prompts
from tunesmith.inference.answer import NO_LIMIT, choose
from tunesmith.inference.generate import generate
from tunesmith.inference.rank import rank_all
from tunesmith.metrics.scoring import score_predictions
from tunesmith.models.load import Loaded
from tunesmith.probe_records import Paragraph, Probe, ProbeAnswer, ProbeResult, ProseLoss, Skill
from tunesmith.progress import counting_on, track
from tunesmith.records import Example, Prediction
from tunesmith.settings import GenerateSettings

Show = Callable[[float, str], None]


def take_probe(loaded: Loaded, probe: Probe, *, name: str, digest: str) -> ProbeResult:
    """Put a probe to a model.

    Args:
        loaded: Model and tokenizer.
        probe: What is asked.
        name: Of the candidate, for what is shown meanwhile.
        digest: Of the probe's file; kept with the result.
    """
    start = monotonic()
    total, what = len(probe.items) + len(probe.prose), "items and paragraphs"
    answers: list[ProbeAnswer] = []
    with track(f"{name} takes the probe", total) as show:
        for skill in probe.skills:
            asked = [item for item in probe.items if item.task == skill.name]
            answers += answer_items(loaded, skill, asked, show=counting_on(show, len(answers), total, what))
        prose = read_prose(loaded, probe.prose, show=counting_on(show, len(answers), total, what))
    return ProbeResult(probe=digest, seconds=round(monotonic() - start, 2), answers=tuple(answers), prose=tuple(prose))


def answer_items(loaded: Loaded, skill: Skill, items: Sequence[Example], *, show: Show) -> list[ProbeAnswer]:
    """Answer the items of one skill, and give every answer its value."""
    coder = Coder(loaded.tokenizer, loaded.kind, _room(loaded, skill), loaded.virtual)
    prompts, _ = encode_prompts(items, coder)
    predictions = (
        choose(loaded, items, prompts, coder, show=show)
        if items[0].choices
        else _write(loaded, skill, items, prompts, show)
    )
    sheet = score_predictions(items, predictions, candidate="", task=skill.name, metrics=(skill.metric,))
    values = sheet.per_example[skill.metric]
    return [
        ProbeAnswer(item=item.id, text=given.text, value=value, choice_logprobs=given.choice_logprobs)
        for item, given, value in zip(items, predictions, values, strict=True)
    ]


def read_prose(loaded: Loaded, prose: Sequence[Paragraph], *, show: Show) -> list[ProseLoss]:
    """Return what each paragraph costs the model."""
    halves = [_halves(loaded, paragraph.text) for paragraph in prose]
    found = rank_all(loaded, [first for first, _ in halves], [[rest] for _, rest in halves], show=show)
    return [
        ProseLoss(paragraph=paragraph.id, nats=-logprob, tokens=len(rest))
        for paragraph, (_, rest), [logprob] in zip(prose, halves, found, strict=True)
    ]


def _halves(loaded: Loaded, text: str) -> tuple[list[int], list[int]]:
    """Return the ids that are only read, and those whose likelihood is taken."""

    def ids(part: str) -> list[int]:
        found = loaded.tokenizer(part, add_special_tokens=True, split_special_tokens=True)["input_ids"]
        return list(found[: loaded.context or NO_LIMIT])

    virtual = list(loaded.virtual.get("", ()))
    if loaded.kind == "causal":
        return [*virtual, *ids(text)[:1]], ids(text)[1:]
    words = text.split()
    return [*virtual, *ids(" ".join(words[: len(words) // 2]))], ids(" ".join(words[len(words) // 2 :]))


def _write(
    loaded: Loaded, skill: Skill, items: Sequence[Example], prompts: Sequence[Sequence[int]], show: Show
) -> list[Prediction]:
    found = generate(loaded, prompts, settings=GenerateSettings(), max_new_tokens=skill.max_new_tokens, show=show)
    return [
        Prediction(
            example_id=item.id, text=given.text(loaded), prompt_tokens=len(prompt), new_tokens=len(given.ids),
            finish=given.finish,
        )
        for item, prompt, given in zip(items, prompts, found, strict=True)
    ]  # fmt: skip


def _room(loaded: Loaded, skill: Skill) -> int:
    context = loaded.context or NO_LIMIT
    return max(1, context - (skill.max_new_tokens if loaded.kind == "causal" else 0))
