"""Measurements of a machine that does not exist: quick to have, and the same everywhere."""

from collections.abc import Iterator

import pytest

from tunesmith.planning import probe
from tunesmith.planning.probe import STEPS, WRITINGS, Order, Sample

PROGRAM = 300_000_000  # bytes
RATE = 1e-4  # seconds for each token and layer
REAL = probe.samples_of


def moments_of(optimizer: str, moved: int) -> dict[str, int]:
    """What an optimizer keeps for weights that learn and have so many bytes."""
    if optimizer == "adamw":
        return {"moments": 2 * moved}
    return {"paged" if optimizer.startswith("paged") else "moments": moved // 2}


def made_up(order: Order) -> list[Sample]:
    """What a machine would measure that takes RATE seconds for each token and layer, and keeps 1000 bytes."""
    found = []
    for depth in order.depths:
        numbers = range(len(STEPS if order.what == "train" else WRITINGS))
        for number in numbers:
            if order.what == "train":
                tokens = sum(n for batch in STEPS[number] for n, _ in batch)
                kept = max(sum(n for n, _ in batch) for batch in STEPS[number])
            else:
                rows, prompt, new = WRITINGS[number]
                tokens = kept = rows * (prompt + new)
            weights, moved = 1_000_000 + 100_000 * depth, 40_000 * depth if order.what == "train" else 0
            moments = moments_of(order.optimizer, moved)
            peak = PROGRAM + weights + moved + moments.get("moments", 0) + 5_000_000 + 1000 * depth * kept
            found.append(
                Sample(depth=depth, number=number, seconds=RATE * depth * tokens, peak=peak, start=PROGRAM,
                       trainable=moved // 4, weights=weights, moved=moved, **moments)
            )  # fmt: skip
    return found


@pytest.fixture(scope="session", autouse=True)
def no_probing() -> Iterator[None]:
    """Runs plan without measuring this machine, which takes seconds; tests of the measuring itself ask for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe, "samples_of", lambda orders: map(made_up, orders))
        yield


@pytest.fixture
def real_probing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure this machine after all."""
    monkeypatch.setattr(probe, "samples_of", REAL)
