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


def cell(**changes: Any) -> dict[str, Any]:
    found = {"method": "lora", "learning rate": 5e-4, "cures": [], "tasks": 1, "examples": 100, "steps": 32}
    return {**found, **changes}


def test_what_is_said_of_pairs_follows_from_their_figures(forgotten: Any) -> None:
    lora = pair("lora", change=-1.0, p=0.3, prose=(-0.02, -0.01))
    prompt = pair("soft-prompt", change=-5.9, p=0.016, prose=(0.6, 0.9))
    unsure = pair("ia3", change=0.1, p=1.0, prose=(-0.1, 0.1))
    assert forgotten.told_apart([lora, unsure]) == "The items tell none of these 2 pairs apart."
    assert forgotten.told_apart([lora, prompt]) == (
        "Of these 2 pairs, the items can tell 1 apart: `soft-prompt` kept fewer than `full`."
    )
    assert forgotten.by_prose([unsure]) == "Prose tells none of them apart either."
    said = "Prose costs `lora` less, and `soft-prompt` more than the other of the pair"
    assert forgotten.by_prose([lora, prompt, unsure]).startswith(said)
    told = forgotten.pairs({"pairs": [lora]}, lambda header, rows: "\n".join(" | ".join(row) for row in rows))
    assert told.startswith("`lora` | `full` | 4 / 7 | p = 0.300 | -0.015 (-0.020 to -0.010) | +1.0 (-1.0 to 3.0)\n")


def test_more_tasks_that_were_trained_in_more_steps_are_said_to_be_so(forgotten: Any) -> None:
    several = cell(tasks=5, examples=500, steps=155)
    cells = {"lora": cell(), "slow": cell(**{"learning rate": 1e-4}), "lora-multi-task": several}
    assert forgotten.steps({"cells": cells}, None).startswith(
        "The number of tasks is not all that differs: `lora-multi-task` learned from 500 examples in 155 steps, `lora` "
        "from 100 in 32, at the same rate. So the loss may come from more tasks or just from more steps"
    )
    assert forgotten.steps({"cells": {"lora": cell()}}, None).startswith("No candidate of several tasks has a twin")
