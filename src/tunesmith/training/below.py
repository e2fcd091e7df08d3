"""What enters the lowest layer that learns, of every example: no step changes it, so it is computed once and kept.

That spares a method that tunes upper layers alone all of the layers under them but for the first pass; of an
encoder-decoder of which the decoder alone learns, the encoder.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tunesmith.data.encode import Encoded
from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.fused.ragged import Segments
from tunesmith.models.fused.stack import Packed
from tunesmith.progress import track
from tunesmith.training.batches import Below, split_step
from tunesmith.training.job import Job, tokens_per_batch

ROOM = 1 << 30  # bytes that it may take; examples beyond that are computed in every pass


def bytes_kept(tokens: int, width: int, size: int) -> int:
    """Return the bytes that the states of so many tokens take, ``size`` for each value; 0 where that is too much."""
    found = tokens * width * size
    return found if found <= ROOM else 0


def with_known(job: Job, *, passes: float, validations: int) -> Job:
    """Return the job with what enters the lowest layer that learns, where more than one pass makes use of it.

    The order in which it is computed depends on the examples alone, so that a training that goes on from a checkpoint
    goes on with the same numbers.

    Args:
        job: Ready to be trained, or to be validated.
        passes: Over the training examples, in the whole of the training.
        validations: Passes over the validation examples.
    """
    if job.stack is None or not job.stack.steady:
        return job
    train = _known(job, job.stack, job.train) if passes > 1 else None
    validation = _known(job, job.stack, job.validation) if validations > 1 else None
    return replace(job, below=train, below_validation=validation)


def _known(job: Job, stack: Packed, examples: Sequence[Encoded]) -> Below | None:
    sizes = [len(example.input_ids) for example in examples]
    width = stack.head.shape[1]
    if not bytes_kept(sum(sizes), width, stack.dtype.itemsize):
        return None
    batches = split_step(range(len(sizes)), sizes, tokens_per_batch(job))
    found: dict[int, Tensor] = {}
    stack.refresh()
    with torch.no_grad(), track(f"{job.name}: what lies under the layers that learn", len(batches)) as show:
        for number, indices in enumerate(batches, 1):
            row = _under(stack, [examples[index] for index in indices])
            parts = row.split([sizes[index] for index in indices])
            # a part of a row would keep the whole of it
            found.update((index, part.clone()) for index, part in zip(indices, parts, strict=True))
            show(number, "")
    return Below(tuple(found[index] for index in range(len(sizes))))


def _under(stack: Packed, examples: Sequence[Encoded]) -> torch.Tensor:
    """Return what enters the lowest layer that learns, of examples end to end, (T, width)."""
    lengths = tuple(len(example.input_ids) for example in examples)
    ids = torch.tensor([token for example in examples for token in example.input_ids], device=stack.device)
    if isinstance(stack, EncoderDecoder):
        return stack.encode(ids, lengths)
    positions = torch.tensor([place for length in lengths for place in range(length)], device=stack.device)
    return stack.below(ids, positions, Segments(lengths))
