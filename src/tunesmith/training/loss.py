"""The loss: negative log-likelihood, summed over the target tokens. Labels are shifted here and nowhere else.

A sum, because the optimizer step divides once by all its target tokens: then it does not matter into how many
batches a step was cut. The output head works on the positions that the loss counts, and on no others.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.fused.flash import ends_of
from tunesmith.models.fused.ragged import Segments
from tunesmith.models.fused.stack import Packed
from tunesmith.training.batches import IGNORED, Batch


def shifted(labels: Tensor) -> Tensor:
    """Return for each position the label of the next one: position t predicts token t + 1.

    Examples lie end to end; their first token is never counted, so that no example predicts its neighbour's.

    Args:
        labels: (1, T).

    >>> shifted(torch.tensor([[-100, -100, 7, 8, 2]]))
    tensor([[-100,    7,    8,    2, -100]])
    """
    out = torch.full_like(labels, IGNORED)
    out[:, :-1] = labels[:, 1:]
    return out


def loss_sum(
    model: Any, batch: Batch, kind: str, *, stack: Packed | None = None, below: Tensor | None = None
) -> Tensor:
    """Return the summed negative log-likelihood of a batch's target tokens, in nats, as a scalar of at least float32.

    Args:
        model: A transformers model, or one wrapped by peft.
        batch: What ``make_batch`` made.
        kind: "causal" (the model is inside ``models.attention.ragged``, or the batch holds one example) or "seq2seq".
        stack: The model as fused layers, if it could be had; without it nothing may be shared in the batch.
        below: What lies under the layers of a stack that learn, where it is known; see ``training.below``.
    """
    if isinstance(stack, EncoderDecoder):
        assert batch.attention_mask is not None
        before = decoder_inputs(model, batch.labels)
        return stack.loss_sum(batch.input_ids, batch.attention_mask, before, batch.labels, below)
    if stack is not None:
        assert batch.position_ids is not None
        segments = Segments(batch.lengths, batch.shared)
        return stack.loss_sum(batch.input_ids[0], batch.position_ids[0], shifted(batch.labels)[0], segments, below)
    logits, labels = counted_logits(model, batch, kind)
    return cross_entropy(_wide(logits), labels, reduction="sum")


def counted_logits(model: Any, batch: Batch, kind: str) -> tuple[Tensor, Tensor]:
    """Return what a model says where the loss counts, (N, V), and the tokens that are right there, (N,).

    Args:
        model: A transformers model, or one wrapped by peft.
        batch: What ``make_batch`` made, with nothing shared.
        kind: "causal" or "seq2seq"; the rows of the latter hold padding too, whose label is IGNORED.
    """
    if kind == "seq2seq":
        # Ids that the loss ignores still enter the decoder as input; any valid id will do there.
        logits = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=None,
            decoder_input_ids=decoder_inputs(model, batch.labels), use_cache=False,
        ).logits  # fmt: skip
        return logits.flatten(0, 1), batch.labels.flatten()
    labels = shifted(batch.labels)[0]
    counted = (labels != IGNORED).nonzero().squeeze(1)
    logits = model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, segment_lengths=list(batch.lengths),
        segment_ends=ends_of(batch.lengths, labels.device), logits_to_keep=counted, use_cache=False,
    ).logits[0]  # fmt: skip
    return logits, labels[counted]


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def decoder_inputs(model: Any, labels: Tensor) -> Tensor:
    """Return what the decoder reads to predict ``labels``: the start token, then all labels but the last.

    Args:
        model: Its config names the start and padding tokens.
        labels: (B, U).
    """
    config = model.config
    start = config.decoder_start_token_id
    inputs = torch.full_like(labels, config.pad_token_id if start is None else start)
    inputs[:, 1:] = labels[:, :-1]
    return inputs.masked_fill(inputs == IGNORED, config.pad_token_id or 0)
