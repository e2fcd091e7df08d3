"""The highest memory of training and of answering, by part."""

from collections.abc import Sequence

from tunesmith.planning.calibration import Calibration, extrapolated
from tunesmith.planning.fitting import dot
from tunesmith.planning.shapes import Shape
from tunesmith.planning.work import Load, Writing, batch_memory, writing_memory

PARTS = {
    "program": "Python, the libraries and the data, before a model is there; measured",
    "weights": "bytes of every parameter and buffer, in the format in which they are held, and of bfloat16 copies for "
    "products where weights learn in float32",
    "gradients": "4 bytes for each parameter that learns, where more than one batch makes a step",
    "optimizer": "measured bytes of AdamW's moments: 8 for each parameter that learns, 2 if they have 8 bits; what is "
    "in pages does not count, since it leaves the card when something else needs the room",
    "activations": "measured bytes x layers x width x tokens of the largest batch, x width x tokens for the layer that "
    "computes, and x pairs of tokens that attend",
    "logits": "measured bytes x counted positions of that batch x vocabulary",
    "cache": "bytes of a value (encoder-decoders: measured) x 2 x layers x width of keys x positions written at once",
    "temporary": "measured: what is there beside all of this at the highest moment, copies for a checkpoint among it",
    "files": "where nothing later takes more: what the files of the weights take while they are read; the system can "
    "have it back, so that it does not count for what fits",
}
"""Part of the memory -> how it is found."""


def training_memory(
    found: Calibration, shape: Shape, steps: Sequence[Sequence[Load]], *, saving: bool, asked: int = 0
) -> tuple[dict[str, int], str]:
    """Return bytes by part, and when the highest memory is reached.

    Args:
        found: Calibration of the method.
        shape: Of the whole model.
        steps: The distinct steps, or at least those with the largest batches.
        saving: Whether a checkpoint is written before the end.
        asked: Bytes that answers for validations take beside the weights.
    """
    weights, moved, moments, paged = extrapolated(found, shape)
    rows = [batch_memory(shape, load) for step in steps for load in step]
    largest = max(rows, key=lambda row: dot(row, found.memory))
    parts = [coefficient * value for coefficient, value in zip(found.memory, largest, strict=True)]
    inside = round(sum(parts[1:]))
    gradients = moved if any(len(step) > 1 for step in steps) else max(0, moved - inside)
    working = gradients + inside
    # A checkpoint copies what learns and its moments before it writes them; the best weights are copied alone.
    copies = moved + moments + paged if saving else moved
    other = max(copies, asked)
    more = max(0, other - working)
    kept = {
        "program": found.program,
        "weights": weights,
        "gradients": gradients,
        "optimizer": moments,
        "activations": round(sum(parts[1:-1])),
        "logits": round(parts[-1]),
        "temporary": round(parts[0]) + more,
    }
    moment = "the largest batch" if not more else "writing a checkpoint" if copies == other else "validating by answers"
    return kept, moment


def checkpoint_bytes(found: Calibration, shape: Shape, trainable: int) -> int:
    """Return what a checkpoint takes on the disk: weights that learn, their moments, and the best weights."""
    kept = extrapolated(found, shape)
    return round(4 * trainable * (2 + (kept.moments + kept.paged) / max(1, kept.moved)))


def answering_memory(found: Calibration, shape: Shape, writings: Sequence[Writing]) -> dict[str, int]:
    """Return bytes by part of answering.

    Args:
        found: Calibration of answering.
        shape: Of the whole model.
        writings: All that is written, one after the other.
    """
    weights = extrapolated(found, shape).weights
    rows = [writing_memory(shape, writing) for writing in writings]
    largest = max(rows, key=lambda row: dot(row, found.memory))
    parts = [round(coefficient * value) for coefficient, value in zip(found.memory, largest, strict=True)]
    return {
        "program": found.program,
        "weights": weights,
        "cache": parts[1],
        "activations": parts[2],
        "logits": parts[3],
        "temporary": parts[0],
    }


def while_loading(parts: dict[str, int], moment: str, stored: int) -> tuple[dict[str, int], str]:
    """Return parts and moment of the highest memory, which is perhaps when the weights are read.

    Pages of the files stay beside the weights until all are read.

    Args:
        parts: Of what comes later, in bytes.
        moment: When these are reached.
        stored: Bytes of the files.
    """
    more = parts["program"] + parts["weights"] + stored - sum(parts.values())
    return (parts, moment) if more <= 0 else ({**parts, "files": more}, "reading the weights")
