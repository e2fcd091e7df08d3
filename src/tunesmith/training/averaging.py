"""Between the base and what was tuned: weights averaged after training, their share searched on validation rows.

Wortsman and others 2021, "Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv 2109.01903: the weights are
(1 - a) base + a tuned. For LoRA that is the same as scaling its correction by a.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tunesmith.errors import DataError
from tunesmith.progress import track
from tunesmith.records import Averaged
from tunesmith.settings import Candidate, TrainSettings
from tunesmith.training.below import with_known
from tunesmith.training.computing import ready
from tunesmith.training.job import Job, trainable
from tunesmith.training.loop import validated

SHARES = tuple(n / 10 for n in range(11))  # that are tried; 0 is the base, and cannot be chosen
KEPT = 0.95  # of what tuning gained on the validation rows must stay


def averaging_problems(method: Any, candidate: Candidate, settings: TrainSettings) -> list[str]:
    """Return why the weights of a candidate cannot be averaged with the base's."""
    if settings.average is None:
        return []
    if not hasattr(method, "base_values"):
        return [
            f"train.average: what {candidate.method} learns is no change of the base's weights, so there is no average "
            "with them. Delete it, or take lora, full, ia3 or a part of the base."
        ]
    if hasattr(method, "averages") and not method.averages(candidate.settings):
        return [
            f"train.average: {candidate.method} with dora or init: pissa does not learn a change that can be scaled "
            "down. Delete one of the two."
        ]
    return []


def average(job: Job, method: Any, *, base: Callable[[], Any]) -> Averaged | None:
    """Take trained weights back towards the base's, as the recipe says; None where it says nothing.

    With ``auto`` the smallest share is taken that keeps 95 % of what tuning gained on the validation rows.

    Args:
        job: Trained; its model is changed in place.
        method: Module of the method.
        base: Loads the base model.

    Raises:
        DataError: A share is to be searched, and there are no validation rows.
    """
    wanted = job.settings.average
    if wanted is None:
        return None
    if wanted == "auto" and not job.validation:
        raise DataError(no_rows(job.name))
    tuned = {name: weight.detach().clone() for name, weight in trainable(job.model).items()}
    start = {name: value.detach() for name, value in method.base_values(job.model, base).items() if name in tuned}
    if wanted != "auto":
        mix(job.model, start, tuned, wanted)
        return Averaged(share=wanted)
    tried = []
    with ready(job) as inner, track(f"{job.name} is averaged with the base", len(SHARES)) as show:
        inner = with_known(inner, passes=0, validations=len(SHARES))
        for place, share in enumerate(SHARES):
            mix(job.model, start, tuned, share)
            tried.append((share, validated(inner).value))
            show(place + 1, f"{share:.0%} of what was tuned")
    share = chosen(tried)
    mix(job.model, start, tuned, share)
    sign = -1 if job.score else 1  # the loop takes less for better
    shown = tuple((one, round(sign * value, 6)) for one, value in tried)
    return Averaged(share=share, measure=job.settings.keep_best, tried=shown)


def mix(model: Any, start: dict[str, Tensor], tuned: dict[str, Tensor], share: float) -> None:
    """Put (1 - share) start + share tuned into the weights that learn; those without a start stay as tuned."""
    with torch.no_grad():
        for name, weight in trainable(model).items():
            if name in start and share < 1:
                weight.copy_(torch.lerp(start[name].to(tuned[name]), tuned[name], share))
            else:
                weight.copy_(tuned[name])


def chosen(tried: list[tuple[float, float]]) -> float:
    """Return the smallest share above 0 that keeps enough of the gain.

    Args:
        tried: Share -> what is to be small, from the base (0) to what was tuned (1).

    >>> chosen([(0.0, 3.0), (0.4, 2.2), (0.6, 2.04), (0.8, 1.98), (1.0, 2.0)])
    0.6
    """
    (_, before), *others = tried
    after = others[-1][1]
    limit = after + (1 - KEPT) * max(0.0, before - after)
    return next(share for share, value in others if value <= limit)


def no_rows(name: str) -> str:
    """Return what is said where there is nothing to search on."""
    return (
        f"candidates.{name}: train.average: auto is searched on validation rows, and there are none. Give "
        "split.validation a share, or name a share such as 0.5."
    )
