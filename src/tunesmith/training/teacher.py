"""What the base says to general text, so that a model in training can be held near to it (``train.kl``).

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531, with the base as the
teacher; Li and Hoiem 2017, "Learning without Forgetting", arXiv 1606.09282. The base is asked once, before anything is
attached to it. Kept is the state before its output head at each token, which is small, and the head: what the base
would say follows from them in every step, and no second model stays in memory.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import linear

from tunesmith.data.encode import Coder, Encoded, encode_training
from tunesmith.data.replay import general_examples
from tunesmith.errors import RecipeError
from tunesmith.models.load import Loaded
from tunesmith.training.batches import IGNORED, make_batch
from tunesmith.training.loss import counted_logits

TOKENS = 256  # of general text that an optimizer step is held near to the base on


@dataclass(frozen=True, slots=True)
class Teacher:
    """General texts, and what the base says at each of their counted tokens."""

    texts: tuple[Encoded, ...]  # as the model in training reads them, virtual tokens first
    states: tuple[Tensor, ...]  # (N, width) for each text: what the base's output head reads there
    head: Tensor  # (V, width), a copy: the model's own may learn
    bias: Tensor | None  # (V,)
    weight: float  # of the divergence in the loss

    def logits(self, indices: Sequence[int]) -> Tensor:
        """Return what the base says at the counted tokens of some texts, one after the other: (N, V)."""
        return linear(torch.cat([self.states[index] for index in indices]), self.head, self.bias)


def drawn(sizes: Sequence[int], *, seed: int, step: int) -> list[int]:
    """Return which texts an optimizer step is compared on: about ``TOKENS`` of them, by seed and step alone.

    Args:
        sizes: Tokens of each text.
        seed: The recipe's.
        step: Counting from 0.
    """
    order = list(range(len(sizes)))
    random.Random(f"{seed}/kl/{step}").shuffle(order)
    found: list[int] = []
    for index in order:
        if found and sum(sizes[one] for one in found) + sizes[index] > TOKENS:
            break
        found.append(index)
    return found


def make_teacher(loaded: Loaded, *, weight: float, limit: int) -> Teacher:
    """Ask the base, as it was loaded, what it says to the general texts.

    Args:
        loaded: The base; nothing is attached yet.
        weight: Of the divergence in the loss.
        limit: Tokens of a text; longer ones are left out.

    Raises:
        RecipeError: The architecture changes what its output head says, or no text fits.
    """
    head = loaded.model.get_output_embeddings()
    coder = Coder(loaded.tokenizer, loaded.kind, limit)
    texts = general_texts(coder)
    caught: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, given: caught.append(given[0].detach()))
    states = []
    try:
        for text in texts:
            batch = make_batch(
                [text], kind=loaded.kind, pad_id=loaded.tokenizer.pad_token_id, device=loaded.model.device
            )
            with torch.no_grad():
                said, labels = counted_logits(loaded.model, batch, loaded.kind)
            states.append(caught.pop().flatten(0, -2)[labels != IGNORED])
    finally:
        handle.remove()
    head_copy = head.weight.detach().clone()
    bias = None if head.bias is None else head.bias.detach().clone()
    if not torch.allclose(linear(states[-1], head_copy, bias).float(), said[labels != IGNORED].float(), 0.02, 0.02):
        raise RecipeError(
            f"train.kl: {type(loaded.model).__name__} changes what its output head says, which is not provided for. "
            "Take train.replay or train.average instead."
        )
    return Teacher(tuple(texts), tuple(states), head_copy, bias, weight)


def read_by(teacher: Teacher, coder: Coder) -> Teacher:
    """Return the same teacher with its texts as the tuned model reads them: after virtual tokens, where it has some."""
    own = tuple(coder.virtual.get("", ()))
    if not own:
        return teacher
    unread = (False,) * len(own)
    texts = (
        replace(one, input_ids=(*own, *one.input_ids), trains=(*unread, *one.trains) if one.trains else ())
        for one in teacher.texts
    )
    return replace(teacher, texts=tuple(texts))


def general_texts(coder: Coder) -> list[Encoded]:
    """Return the general instructions with their answers as text of which every token counts.

    A causal model is compared at every token after the first, an encoder-decoder at those of the answer.

    Raises:
        RecipeError: None fits into the limit.
    """
    room = replace(coder, limit=10**6)
    found = [one for one in encode_training(general_examples(), room)[0] if one.tokens <= coder.limit]
    if not found:
        raise RecipeError(f"train.kl: no general text fits into {coder.limit} tokens. Raise train.max_tokens.")
    return found if coder.kind == "seq2seq" else [_whole(one) for one in found]


def _whole(one: Encoded) -> Encoded:
    return replace(one, target_ids=one.input_ids[1:], trains=(False, *(True,) * (len(one.input_ids) - 1)))


def divergence(base: Tensor, tuned: Tensor) -> Tensor:
    """Return KL(base || tuned), summed over positions, in nats: what it costs to take the tuned model for the base.

    Args:
        base: (N, V) logits, no gradient.
        tuned: (N, V) logits.

    >>> sure = torch.tensor([[0.0, float("-inf")]])
    >>> round(divergence(sure, torch.zeros(1, 2)).item(), 4)
    0.6931
    """
    p = base.float().log_softmax(-1)
    q = tuned.float().log_softmax(-1)
    return (p.exp() * (p.clamp_min(torch.finfo(p.dtype).min) - q)).sum()


def bytes_kept(counted: Sequence[int], *, width: int, vocabulary: int) -> int:
    """Return the bytes that a teacher takes, and those of a step's comparison beside them.

    Args:
        counted: Tokens of each text that are compared.
        width: Of the model.
        vocabulary: Rows of its output head.
    """
    kept = 4 * vocabulary * width + 4 * sum(counted) * width
    at_once = max(TOKENS, *counted)
    return kept + 6 * 4 * at_once * vocabulary  # what both models say, as probabilities, and their gradients
