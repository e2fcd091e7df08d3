"""Written answers: many prompts at once, each distinct prompt once.

Greedy answers come from our own ``decode``, of causal models and of T5; beams, sampling, other encoder-decoders, models
with attention of their own kind and those whose makers want more than the likeliest token from transformers'
``generate``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tunesmith.errors import ResourceError
from tunesmith.inference.decode import decode, limits_of
from tunesmith.machine import out_of_memory
from tunesmith.models.attention import takes_ragged
from tunesmith.models.fused.packing import takes_fused
from tunesmith.models.load import Loaded
from tunesmith.settings import GenerateSettings

BENDING: dict[str, float | None] = {
    "repetition_penalty": 1.0,
    "guidance_scale": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "bad_words_ids": None,
    "sequence_bias": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "exponential_decay_length_penalty": None,
}
"""Fields of a generation config by which a model's maker changes what is written -> the value that changes nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The new tokens of one prompt, without the token that ended them."""

    ids: tuple[int, ...]
    finish: Literal["stop", "length"]

    def text(self, loaded: Loaded) -> str:
        """Return the answer in words, without control tokens and surrounding space."""
        words: str = loaded.tokenizer.decode(list(self.ids), skip_special_tokens=True)
        return words.strip()


def generate(
    loaded: Loaded,
    prompts: Sequence[Sequence[int]],
    *,
    settings: GenerateSettings,
    max_new_tokens: int | Sequence[int],
    seed: int = 0,
    show: Callable[[float, str], None] = lambda done, text: None,
) -> list[Answer]:
    """Answer prompts; greedy unless the settings say otherwise.

    Prompts are sorted by length, so that a batch wastes little on padding, and equal ones are answered once.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids, as ``data.encode`` made them.
        settings: Beams, temperature, tokens in memory at once.
        max_new_tokens: Longest answer; one number for all prompts, or one for each.
        seed: For sampling.
        show: Is told how many distinct prompts are answered.

    Returns:
        One answer for each prompt, in their order.
    """
    asked = list(zip(map(tuple, prompts), limits_of(max_new_tokens, len(prompts)), strict=True))
    distinct = sorted(set(asked), key=lambda one: (-len(one[0]), one))
    answers: dict[tuple[tuple[int, ...], int], Answer] = {}
    if distinct and writes_itself(loaded, settings):
        ids, limits = zip(*distinct, strict=True)
        found = decode(loaded, ids, max_new_tokens=limits, tokens_in_memory=settings.tokens_per_batch, show=show)
        for one, (new, stopped) in zip(distinct, found, strict=True):
            answers[one] = Answer(tuple(new), "stop" if stopped else "length")
        return [answers[one] for one in asked]
    with torch.random.fork_rng():  # a training that asks for answers on its way keeps its own random state
        torch.manual_seed(seed)
        for limit in sorted({limit for _, limit in distinct}):
            alike = [ids for ids, own in distinct if own == limit]
            for batch in batches_of(alike, settings.tokens_per_batch // settings.beams, limit):
                for ids, answer in zip(batch, _fitting(loaded, batch, settings, limit), strict=True):
                    answers[ids, limit] = answer
                show(len(answers), f"{len(answers)}/{len(distinct)} prompts")
    return [answers[one] for one in asked]


def writes_itself(loaded: Loaded, settings: GenerateSettings) -> bool:
    """Tell whether our own ``decode`` writes the answers, or transformers' ``generate``."""
    greedy = settings.beams == 1 and settings.temperature == 0
    can = takes_ragged if loaded.kind == "causal" else takes_fused
    return greedy and can(loaded.model) and _unbent(loaded.model)


def _unbent(model: Any) -> bool:
    """Tell whether the likeliest token is the next one, or the model's generation config changes the odds first."""
    config = getattr(model, "generation_config", None)
    return all((getattr(config, name, None) or neutral) == neutral for name, neutral in BENDING.items())


def batches_of(prompts: list[tuple[int, ...]], tokens: int, new: int) -> list[list[tuple[int, ...]]]:
    """Cut prompts, longest first, into batches whose padded size with the answers stays within ``tokens``."""
    batches: list[list[tuple[int, ...]]] = []
    for prompt in prompts:
        if batches and (len(batches[-1]) + 1) * (len(batches[-1][0]) + new) <= tokens:
            batches[-1].append(prompt)
        else:
            batches.append([prompt])
    return batches


def _fitting(loaded: Loaded, prompts: list[tuple[int, ...]], settings: GenerateSettings, new: int) -> list[Answer]:
    """Answer a batch, in halves where memory runs out.

    Raises:
        ResourceError: A prompt alone does not fit.
    """
    try:
        return _answer(loaded, prompts, settings, new)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if len(prompts) == 1:
        raise ResourceError(
            f"there is not enough memory to answer a single prompt of {len(prompts[0])} tokens. Lower "
            "train.max_tokens, max_new_tokens or generate.beams, or end other programs and run again."
        )
    half = len(prompts) // 2
    return [answer for part in (prompts[:half], prompts[half:]) for answer in _fitting(loaded, part, settings, new)]


@torch.inference_mode()
def _answer(loaded: Loaded, prompts: list[tuple[int, ...]], settings: GenerateSettings, new: int) -> list[Answer]:
    pad = loaded.tokenizer.pad_token_id
    width = max(map(len, prompts))
    left = loaded.kind == "causal"  # an encoder reads from the left, a decoder must end where the answer begins
    ids, mask = [], []
    for prompt in prompts:
        blank = width - len(prompt)
        ids.append([*[pad] * blank, *prompt] if left else [*prompt, *[pad] * blank])
        mask.append([0] * blank + [1] * len(prompt) if left else [1] * len(prompt) + [0] * blank)
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if settings.temperature > 0:
        sampling = {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    out = loaded.model.generate(
        **_inputs(loaded, torch.tensor(ids, device=loaded.model.device)),
        attention_mask=torch.tensor(mask, device=loaded.model.device),
        max_new_tokens=new,
        num_beams=settings.beams,
        pad_token_id=pad,
        eos_token_id=sorted(loaded.stop_ids),
        **sampling,
    )
    skip = width if left else 1  # a decoder of its own begins with a start token
    return [_until_stop(row[skip:].tolist(), loaded.stop_ids) for row in out]


def _inputs(loaded: Loaded, ids: Tensor) -> dict[str, Tensor]:
    """Return what the model reads, (B, T).

    Virtual tokens go in as embeddings: what counts tokens, such as a penalty of repetition, would look up their ids
    among those of the vocabulary.
    """
    embedding = loaded.model.get_input_embeddings()
    if loaded.kind == "seq2seq" or not hasattr(embedding, "known"):
        return {"input_ids": ids}
    return {"input_ids": embedding.known(ids), "inputs_embeds": embedding(ids)}


def _until_stop(ids: list[int], stops: frozenset[int]) -> Answer:
    for place, token in enumerate(ids):
        if token in stops:
            return Answer(tuple(ids[:place]), "stop")
    return Answer(tuple(ids), "length")
