"""The loss that a trained model has on the validation rows: the same plain code for whoever trained it.

transformers' own layers, one row at a time, no padding: nothing of what is measured takes part in it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

Row = dict[str, list[int]]
"""One example: ids and labels. Causal: of the same length, -100 = not counted, not shifted. Else: labels of its own."""


@torch.no_grad()
def validation_loss(model: Any, rows: Sequence[Row]) -> float:
    """Return nats per counted token, computed in float32 whatever the model was trained in.

    What was learned is judged: in bfloat16 plain layers would add an error of their own, 2 % of the loss.
    """
    if "_original_forward" in vars(model):  # Trainer leaves its own number format around the model
        model.forward = model._original_forward
    model.float().eval()
    total, count = 0.0, 0
    for loss, counted in map(lambda row: row_loss(model, row), rows):
        total, count = total + loss.item(), count + counted
    return total / count


def row_loss(model: Any, row: Row) -> tuple[torch.Tensor, int]:
    """Return the summed loss of one row, and how many tokens count in it."""
    ids, labels = (torch.tensor([row[key]], device=model.device) for key in ("ids", "labels"))
    if model.config.is_encoder_decoder:
        start = torch.full_like(labels[:, :1], model.config.decoder_start_token_id)
        before = torch.cat([start, labels[:, :-1]], 1)
        logits = model(input_ids=ids, decoder_input_ids=before, use_cache=False).logits[0]
        return cross_entropy(logits.float(), labels[0], reduction="sum"), labels.shape[1]
    logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
    wanted = labels[0, 1:]
    loss = cross_entropy(logits.float(), wanted, ignore_index=-100, reduction="sum")
    return loss, int((wanted != -100).sum())


def tokens_of(row: Row, seq2seq: bool) -> int:
    """Return how many real tokens pass through a model."""
    return len(row["ids"]) + (len(row["labels"]) if seq2seq else 0)


def chosen(stream: dict[str, Any]) -> Iterator[list[Row]]:
    """Yield the rows of every optimizer step."""
    for step in stream["steps"]:
        yield [stream["rows"][index] for index in step]
