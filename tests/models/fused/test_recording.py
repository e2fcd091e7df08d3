from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tunesmith.models.fused import recording
from tunesmith.models.fused.recording import recorded


def run(*given: Any) -> tuple[Any, ...]:
    return given


class OnCard:
    """A tensor as far as ``recorded`` looks at it before it records."""

    device = SimpleNamespace(type="cuda")
    requires_grad = False

    def detach(self) -> "OnCard":
        return self

    clone = detach

    def requires_grad_(self, _: bool) -> "OnCard":
        return self


def refusing(monkeypatch: pytest.MonkeyPatch, error: RuntimeError) -> list[str]:
    said: list[str] = []

    def record(*_: Any) -> None:
        raise error

    monkeypatch.setattr(recording, "_record", record)
    monkeypatch.setattr(recording, "say", said.append)
    recording._tell.cache_clear()
    return said


def test_on_a_processor_nothing_is_recorded() -> None:
    assert recorded(run, (torch.ones(1),)) is run


def test_a_card_that_cannot_record_computes_step_by_step_and_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = refusing(monkeypatch, RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore"))
    given: Any = (OnCard(),)
    assert recorded(run, given) is run
    assert recorded(run, given) is run
    assert said == [
        "without recorded steps, which is slower: the card says CUDA error: operation not permitted when stream is "
        "capturing"
    ]


def test_memory_that_runs_out_is_not_taken_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusing(monkeypatch, RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    given: Any = (OnCard(),)
    with pytest.raises(RuntimeError, match="out of memory"):
        recorded(run, given)
    assert not said
