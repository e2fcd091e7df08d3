"""Held near to the base while training: the gradient of the divergence on general text, in every optimizer step."""

import torch

from tunesmith.errors import ResourceError
from tunesmith.models.attention import takes_ragged
from tunesmith.models.load import plain
from tunesmith.training.batches import IGNORED, make_batch
from tunesmith.training.computing import computing
from tunesmith.training.halving import TooLarge, noticing
from tunesmith.training.job import Job
from tunesmith.training.loss import counted_logits
from tunesmith.training.teacher import divergence, drawn


def held_to_base(job: Job, step: int) -> float:
    """Add the gradient of the weighted divergence from the base; return the divergence in nats per token.

    Args:
        job: With a teacher.
        step: Counting from 0; decides which texts are taken.

    Raises:
        ResourceError: There is not enough memory for it.
    """
    teacher = job.teacher
    assert teacher is not None
    indices = drawn([text.tokens for text in teacher.texts], seed=job.seed, step=step)
    positions = sum(len(teacher.states[index]) for index in indices)
    together = job.kind == "seq2seq" or takes_ragged(plain(job.model))
    total = 0.0
    for batch in [indices] if together else [[index] for index in indices]:
        try:
            with noticing(tuple(batch)):
                total += _gradient(job, batch, positions)
        except TooLarge:
            raise ResourceError(
                f"training {job.name}: there is not enough memory to compare {positions} tokens with the base, as "
                "train.kl asks. Take train.replay or train.average instead, or end other programs and run the same "
                "command again."
            ) from None
    return total


def _gradient(job: Job, indices: list[int], positions: int) -> float:
    teacher = job.teacher
    assert teacher is not None
    texts = [teacher.texts[index] for index in indices]
    batch = make_batch(texts, kind=job.kind, pad_id=job.pad_id, device=job.model.device)
    with computing(job):
        logits, labels = counted_logits(job.model, batch, job.kind)
    with torch.no_grad():
        base = teacher.logits(indices)
    found = divergence(base, logits[labels != IGNORED]) / positions
    (teacher.weight * found).backward()
    return found.item()
