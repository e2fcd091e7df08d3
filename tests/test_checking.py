import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.checking import check_methods
from tunesmith.errors import RecipeError
from tunesmith.methods import qlora
from tunesmith.recipe import recipe_from_text
from tunesmith.settings import Recipe


def recipe(**candidates: dict[str, Any]) -> Recipe:
    body = {"name": "r", "tasks": [{"name": "t", "source": "rows.csv"}], "candidates": candidates}
    return recipe_from_text(json.dumps(body))


def test_what_all_methods_refuse_is_said_at_once_and_by_candidate(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qlora, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = recipe(
        biases={"method": "bitfit"},
        low={"method": "qlora", "train": {"optimizer": "paged-adamw-8bit"}},
        few={"method": "sparse", "share": 1e-12},
        deep={"method": "last-layers", "layers": 3},
        fine={"method": "norms"},
    )
    with pytest.raises(RecipeError) as caught:
        check_methods(asked, tiny_causal)
    assert [problem[:60] for problem in caught.value.problems] == [
        "candidates.biases: bitfit: this model (LlamaForCausalLM) has",
        "candidates.low: train.optimizer: paged-adamw-8bit pages betw",
        "candidates.low: qlora: a base in four bits needs bitsandbyte",
        "candidates.few: sparse: share is 1e-12, which is less than o",
        "candidates.deep: last-layers: layers is 3, and this model ha",
    ]


def test_every_method_that_can_be_had_passes(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    asked = recipe(
        a={"method": "last-layers"}, b={"method": "norms"}, c={"method": "embeddings"}, d={"method": "head"},
        e={"method": "sparse"}, f={"method": "qlora"}, g={"method": "modules", "patterns": ["*norm*"]},
        h={"method": "lora", "dora": True, "train": {"optimizer": "adamw-8bit"}},
    )  # fmt: skip
    check_methods(asked, tiny_causal)
    check_methods(asked, tiny_seq2seq)
