"""Choices ranked by likelihood: a closed question answered without writing a word."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tunesmith.models.load import Loaded


@torch.inference_mode()
def rank_choices(loaded: Loaded, prompt: Sequence[int], choices: Sequence[Sequence[int]]) -> list[float]:
    """Return the log-likelihood of each choice after the prompt, in nats, summed over its tokens.

    The prompt is read once; all choices are tried side by side on what was remembered of it.

    Args:
        loaded: Model and tokenizer.
        prompt: Token ids.
        choices: Token ids of each choice, with the token that ends an answer.
    """
    if loaded.kind == "seq2seq":
        logits = _after_encoder(loaded.model, prompt, choices)
    else:
        logits = _after_prompt(loaded.model, prompt, choices)
    logprobs = logits.float().log_softmax(-1)
    return [
        float(logprobs[row, : len(choice)].gather(1, torch.tensor(choice, device=logits.device)[:, None]).sum())
        for row, choice in enumerate(choices)
    ]


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
