from types import SimpleNamespace
from typing import Any

import flashing
import pytest
import torch

from tunesmith.models.fused import flash as flashes
from tunesmith.models.fused.flash import takes_flash

CPU: Any = torch.device("cpu")
CARD: Any = SimpleNamespace(type="cuda")


@pytest.fixture
def ampere(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A card of the first generation that will do, whose tensors are those of the processor; return what is said."""
    said: list[str] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(flashes, "_try", lambda device, dtype, size, trial=flashes._try: trial(CPU, dtype, size))
    monkeypatch.setattr(flashes, "say", said.append)
    monkeypatch.setattr(flashes, "_works", flashes._works.__wrapped__)
    return said


def test_it_wants_a_card_half_precision_and_heads_that_fit(ampere: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = flashing.stand_in(monkeypatch)
    assert not takes_flash(CPU, torch.bfloat16, 64)
    assert not takes_flash(CARD, torch.float32, 64)
    assert not takes_flash(CARD, torch.bfloat16, 264)
    assert not takes_flash(CARD, torch.bfloat16, 60)
    assert not calls
    assert takes_flash(CARD, torch.bfloat16, 64)
    assert calls == ["read", "backward", "remembered"], "what the layers will ask is tried once"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not takes_flash(CARD, torch.bfloat16, 64)
    assert not ampere


def test_kernels_that_refuse_leave_it_to_other_layers_and_that_is_said(
    ampere: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flashing.stand_in(monkeypatch)
    monkeypatch.setattr(flashes, "_backward", lambda *_, **__: torch.ones(2) + torch.ones(3))
    assert not takes_flash(CARD, torch.bfloat16, 64)
    assert ampere == [
        "without FlashAttention, which is slower: torch says The size of tensor a (2) must match the size of tensor b "
        "(3) at non-singleton dimension 0"
    ]
