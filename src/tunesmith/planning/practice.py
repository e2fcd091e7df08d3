"""What a calibration computes with: a shortened model, and examples that are made up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.machine import compute_device

SHORT = 48  # tokens of a short example

Lengths = Sequence[Sequence[Sequence[tuple[int, int]]]]
"""Steps of batches of examples: (input, target) tokens."""


def short_model(folder: Path, depth: int, dtype: Any) -> Any:
    """Return a model with the shapes of a folder's, at most ``depth`` layers, and random weights, ready to compute."""
    import torch
    from transformers import AutoConfig

    from tunesmith.models.skeleton import built
    from tunesmith.planning.shapes import shorten

    config = AutoConfig.from_pretrained(folder)
    shorten(config, depth)
    torch.manual_seed(0)
    return built(folder, config, dtype=dtype).eval().to(compute_device())


def attached(method: Any, settings: Any, model: Any, kind: Any) -> Any:
    """Attach a method; one that looks at examples first is given made-up ones."""
    from types import SimpleNamespace

    from tunesmith.models.load import Loaded
    from tunesmith.training.preparing import Losses

    if not hasattr(method, "prepare"):
        return method.attach(settings, model, kind)
    loaded = Loaded(model, SimpleNamespace(pad_token_id=0), kind, Path(), 0)
    losses = Losses(loaded, [made_up(SHORT, 8, kind, first=number) for number in range(2)], seed=0)
    return method.attach(settings, model, kind, prepared=method.prepare(settings, model, losses))


def practice_job(
    model: Any, kind: str, tried: Lengths, *, autocast: bool, optimizer: str
) -> tuple[Any, list[tuple[tuple[int, ...], ...]]]:
    """Return a job on made-up examples, and the steps that are to be tried as indices into them."""
    from tunesmith.data.encode import Encoded
    from tunesmith.settings import TrainSettings
    from tunesmith.training.job import Job

    examples: list[Encoded] = []
    steps = []
    # what is counted are the tokens of the rows; what virtual ones take beside them is in what is measured
    virtual = next(iter(getattr(model.get_input_embeddings(), "virtual", {}).values()), ())
    for step in tried:
        batches = []
        for batch in step:
            batches.append(tuple(range(len(examples), len(examples) + len(batch))))
            first = len(examples)
            examples += [made_up(n, u, kind, first=first + place, before=virtual) for place, (n, u) in enumerate(batch)]
        steps.append(tuple(batches))
    settings = TrainSettings.model_validate({"optimizer": optimizer})
    job = Job("probe", model, kind, 0, examples, (), settings, 1e-6, 0, autocast, Path(), Path(), "")
    return job, steps


def made_up(tokens: int, target: int, kind: str, *, first: int, before: tuple[int, ...] = ()) -> Any:
    """Return an example of so many tokens; which ones does not matter, if no two begin alike: that would be shared.

    Args:
        tokens: Of its input.
        target: Of its target; of a causal model the last ones of the input.
        kind: "causal" or "seq2seq".
        first: Tells it from others.
        before: Virtual tokens that it begins with.
    """
    from tunesmith.data.encode import Encoded

    ids = tuple(5 + (first + place) % 200 for place in range(tokens))
    trains = () if kind == "seq2seq" else (False,) * (len(before) + tokens - target) + (True,) * target
    return Encoded("probe", (*before, *ids), ids[:target], trains)
