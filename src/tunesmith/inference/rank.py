"""Choices ranked by likelihood: a closed question answered without writing a word."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tunesmith.inference.branches import NAME, Question, Row, lay_out
from tunesmith.inference.reading import shared_prefix
from tunesmith.models.attention import attending, takes_ragged
from tunesmith.models.load import Loaded

TOKENS_AT_ONCE = 768  # bounds memory: each token that predicts one has a likelihood for every word of the vocabulary


def rank_all(
    loaded: Loaded, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[Sequence[int]]], *,
    show: Callable[[float, str], None] = lambda done, text: None,
) -> list[list[float]]:  # fmt: skip
    """Return for each prompt the log-likelihoods of its choices, in nats, summed over their tokens.

    Where the model allows it, many prompts are read in one row without padding, and what they begin with is read once.

    Args:
        loaded: Model and tokenizer.
        prompts: Token ids.
        choices: For each prompt the token ids of its choices, each with the token that ends an answer.
        show: Is told how many prompts are done.
    """
    if loaded.kind == "causal" and takes_ragged(loaded.model):
        return _in_rows(loaded, prompts, choices, show)
    found: list[list[float]] = []
    for prompt, own in zip(prompts, choices, strict=True):
        found.append(rank_choices(loaded, prompt, own))
        show(len(found), f"{len(found)}/{len(prompts)} questions")
    return found


@torch.inference_mode()
def _in_rows(
    loaded: Loaded, prompts: Sequence[Sequence[int]], choices: Sequence[Sequence[Sequence[int]]],
    show: Callable[[float, str], None],
) -> list[list[float]]:  # fmt: skip
    shared = shared_prefix([tuple(prompt) for prompt in prompts])
    laid = [
        lay_out(prompt, [loaded.after(prompt, choice) for choice in own], shared=shared)
        for prompt, own in zip(prompts, choices, strict=True)
    ]
    found: list[list[float]] = [[] for _ in laid]
    done = 0
    with attending(loaded.model, NAME):
        for places in _rows(laid):
            row = Row(tuple(prompts[0][:shared]), tuple(laid[place] for place in places))
            logprobs = _read_row(loaded.model, row)
            start = 0
            for place, question in zip(places, row.questions, strict=True):
                for choice, predicting in zip(choices[place], question.predicting, strict=True):
                    at, words = torch.tensor([predicting, choice], device=logprobs.device)
                    found[place].append(float(logprobs[at - question.start + start, words].sum()))
                start += len(question.ids) - question.start
            done += len(places)
            show(done, f"{done}/{len(prompts)} questions")
    return found


def _rows(laid: Sequence[Question]) -> list[list[int]]:
    """Cut questions, in their order, into rows of at most ``TOKENS_AT_ONCE`` tokens, or of one question."""
    rows: list[list[int]] = []
    filled = 0
    for place, question in enumerate(laid):
        if not rows or filled + len(question.ids) > TOKENS_AT_ONCE:
            rows.append([])
            filled = 0
        rows[-1].append(place)
        filled += len(question.ids)
    return rows


def _read_row(model: Any, row: Row) -> Tensor:
    """Return log-likelihoods (N, V) of what follows each place of the row that predicts something."""
    ids, positions, predicting = (tensor.to(model.device) for tensor in (row.ids(), row.positions(), row.predicting()))
    logits = model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=predicting, row=row).logits
    logprobs: Tensor = logits[0].float().log_softmax(-1)
    return logprobs


@torch.inference_mode()
def rank_choices(loaded: Loaded, prompt: Sequence[int], choices: Sequence[Sequence[int]]) -> list[float]:
    """Return the log-likelihood of each choice after the prompt, in nats, summed over its tokens.

    The prompt is read once; all choices are tried side by side on what was remembered of it.

    Args:
        loaded: Model and tokenizer.
        prompt: Token ids.
        choices: Token ids of each choice, with the token that ends an answer.
    """
    logits = predictions(loaded, prompt, choices)
    logprobs = logits.float().log_softmax(-1)
    return [
        float(logprobs[row, : len(choice)].gather(1, torch.tensor(choice, device=logits.device)[:, None]).sum())
        for row, choice in enumerate(choices)
    ]


def predictions(loaded: Loaded, prompt: Sequence[int], choices: Sequence[Sequence[int]]) -> Tensor:
    """Return logits (C, L, V) that predict the tokens of each choice after a prompt; L tokens has the longest.

    Args:
        loaded: Model and tokenizer.
        prompt: Token ids.
        choices: Token ids of each choice, at least one token each.
    """
    read = _after_encoder if loaded.kind == "seq2seq" else _after_prompt
    return read(loaded.model, prompt, choices)


def _after_prompt(model: Any, prompt: Sequence[int], choices: Sequence[Sequence[int]]) -> Tensor:
    """Return logits (C, L, V) that predict the tokens of each choice."""
    ids = torch.tensor([list(prompt)], device=model.device)
    read = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    first: Tensor = read.logits[:, -1:].expand(len(choices), 1, -1)
    if max(map(len, choices)) == 1:
        return first
    memory: Any = getattr(read, "past_key_values", None)
    if not all(hasattr(layer, "batch_repeat_interleave") for layer in getattr(memory, "layers", [None])):
        return _from_the_start(model, prompt, choices)
    memory.batch_repeat_interleave(len(choices))
    inputs = _padded([choice[:-1] for choice in choices], 0).to(model.device)
    rest = model(input_ids=inputs, past_key_values=memory, use_cache=True).logits
    return torch.cat([first, rest], 1)


def _from_the_start(model: Any, prompt: Sequence[int], choices: Sequence[Sequence[int]]) -> Tensor:
    """The same where what was read cannot be shared, as in recurrent models: the prompt is read for each choice."""
    inputs = _padded([[*prompt, *choice[:-1]] for choice in choices], 0).to(model.device)
    logits: Tensor = model(input_ids=inputs, use_cache=False).logits[:, len(prompt) - 1 :]
    return logits


def _after_encoder(model: Any, prompt: Sequence[int], choices: Sequence[Sequence[int]]) -> Tensor:
    ids = torch.tensor([list(prompt)], device=model.device)
    states = model.get_encoder()(input_ids=ids).last_hidden_state.expand(len(choices), -1, -1)
    start = model.config.decoder_start_token_id
    inputs = _padded([[start, *choice[:-1]] for choice in choices], model.config.pad_token_id or 0).to(model.device)
    mask = torch.ones(len(choices), ids.shape[1], dtype=torch.long, device=model.device)
    logits: Tensor = model(
        encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=inputs, use_cache=False
    ).logits
    return logits


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Tensor:
    """Pad on the right: what follows a choice cannot change the likelihood of its own tokens."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.long)
