"""The tables and sentences that a page shows of the benchmark of forgetting."""

import sys
from typing import Any

import pytest
from pages import ROOT


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.delitem(sys.modules, "forgotten", raising=False)
    return __import__("forgotten")


def pair(name: str, *, change: float, p: float, prose: tuple[float, float]) -> dict[str, Any]:
    return {
        "candidate": name, "than": "full", "items": {"change": change, "won": 4, "lost": 7, "p_holm": p},
        "prose": {"change": sum(prose) / 2, "low": prose[0], "high": prose[1]},
        "gain": {"difference": 1.0, "low": -1.0, "high": 3.0},
    }  # fmt: skip


def test_what_is_said_of_pairs_follows_from_their_figures(forgotten: Any) -> None:
    lora = pair("lora", change=-1.0, p=0.3, prose=(-0.02, -0.01))
    prompt = pair("soft-prompt", change=-5.9, p=0.016, prose=(0.6, 0.9))
    unsure = pair("ia3", change=0.1, p=1.0, prose=(-0.1, 0.1))
    assert forgotten.told_apart([lora, unsure]) == "The items tell none of these 2 pairs apart."
    assert forgotten.told_apart([lora, prompt]) == (
        "Of these 2 pairs, the items can tell 1 apart: `soft-prompt` kept fewer than `full`."
    )
    assert forgotten.by_prose([unsure]) == "Prose tells none of them apart either."
    longer = {**pair("lora-long", change=-1.0, p=0.3, prose=(0.1, 0.2)), "than": "full-long"}
    said = "Prose costs `lora` less and `soft-prompt` more than `full`; `lora-long` more than `full-long` ("
    assert forgotten.by_prose([lora, prompt, longer, unsure]).startswith(said)
    told = forgotten.pairs({"pairs": [lora]}, lambda header, rows: "\n".join(" | ".join(row) for row in rows))
    assert told.startswith("`lora` | `full` | 4 / 7 | p = 0.300 | -0.015 (-0.020 to -0.010) | +1.0 (-1.0 to 3.0)\n")


def test_several_tasks_stand_beside_one_that_took_as_many_steps(forgotten: Any) -> None:
    found = {
        "cells": {"lora": {"steps": 155}, "full": {"steps": 160}},
        "several tasks beside as many steps of one": [pair("lora", change=-1.0, p=0.016, prose=(-0.02, -0.01))],
    }
    told = forgotten.steps(found, lambda header, rows: "\n".join(" | ".join(row) for row in rows))
    assert told.splitlines()[0] == "`lora` | 155 | `full` | 160 | 4 / 7 | p = 0.016 | -0.015 (-0.020 to -0.010)"
    assert "the items can tell 1 apart: `lora` kept fewer than `full`. Prose costs `lora` less than" in told
    found["several tasks beside as many steps of one"] = []
    assert forgotten.steps(found, None) == "Five tasks are not set beside as many steps of one task yet."
