"""A small T5 learns sixty-four of the shipped chats' summaries by heart, with each method that the lecture compares."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.data.support import SUPPORT
from tunesmith.inference.answer import answer, load_tuned
from tunesmith.metrics.scoring import score_predictions
from tunesmith.models.load import load
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example
from tunesmith.rundir import CandidateDir
from tunesmith.training.tune import Ingredients, tune

pytestmark = pytest.mark.slow
TOKENS = 64  # of a prompt, which keeps its end, and of a summary


@pytest.fixture(scope="module")
def chats() -> list[dict[str, str]]:
    return [json.loads(line) for line in SUPPORT.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def small(chats: list[dict[str, str]], steady_torch: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 with a tokenizer of the chats."""
    from tunesmith.models.tiny import write_tiny

    texts = [chat["dialogue"] for chat in chats] + [chat["summary"] for chat in chats]
    folder = tmp_path_factory.mktemp("by-heart") / "t5"
    return write_tiny(folder, kind="seq2seq", texts=texts, hidden=96, vocabulary=2048)


@pytest.fixture(scope="module")
def wanted(chats: list[dict[str, str]], small: Path) -> list[dict[str, str]]:
    """The sixty-four chats with the shortest summaries."""
    tokenizer = load(small).tokenizer
    return sorted(chats, key=lambda chat: len(tokenizer(chat["summary"])["input_ids"]))[:64]


def examples(chats: list[dict[str, str]], *, before: str = "", target: str = "summary") -> list[Example]:
    return [
        Example(id=f"t/train/{target}:{n}", task="t", split="train", prompt=before + chat["dialogue"],
                target=chat[target], references=(chat[target],))
        for n, chat in enumerate(chats)
    ]  # fmt: skip


def learned(
    candidate: dict[str, Any], model: Path, rows: list[Example], where: Path, *, asked: list[Example] | None = None,
    **train: Any,
) -> float:  # fmt: skip
    """Tune on rows, answer what is asked (the rows), and return ROUGE-L from 0 to 1."""
    common = {"precision": "float32", "tokens_per_step": 1024, "tokens_per_batch": 4096, "max_tokens": TOKENS}
    template = {"prompt": "{{ dialogue }}", "target": "{{ summary }}"}
    task = {"name": "t", "source": "rows.csv", "max_new_tokens": TOKENS, "template": template}
    body = {
        "name": "heart", "model": "small", "tasks": [task], "train": {**common, "validations": 0, **train},
        "candidates": {"tuned": candidate},
    }  # fmt: skip
    recipe = recipe_from_text(json.dumps(body))
    tune(Ingredients(recipe, model, rows, []), "tuned", CandidateDir(where))
    loaded = load_tuned(candidate["method"], model, where / "adapter", dtype=torch.float32)
    asked = asked or rows
    found = answer(recipe, "tuned", loaded, examples=asked, training=[]).predictions["t"]
    return score_predictions(asked, found, candidate="tuned", task="t", metrics=("rougeL",)).scores[0].value / 100


METHODS = [
    ({"method": "full"}, {"learning_rate": 2e-3, "epochs": 25.0}),
    ({"method": "lora", "rank": 48}, {"learning_rate": 1e-2, "epochs": 30.0}),
    ({"method": "bottleneck", "width": 64}, {"learning_rate": 1e-2, "epochs": 30.0}),
]


@pytest.mark.parametrize(("candidate", "train"), METHODS, ids=["full", "lora", "bottleneck"])
def test_from_random_weights(
    candidate: dict[str, Any], train: dict[str, Any], small: Path, wanted: list[dict[str, str]], tmp_path: Path
) -> None:
    assert learned(candidate, small, examples(wanted), tmp_path, **train) > 0.95


def test_a_soft_prompt_finds_what_the_base_knows_under_another_instruction(
    small: Path, wanted: list[dict[str, str]], tmp_path: Path
) -> None:
    """A prompt cannot put sixty-four summaries into weights that are frozen, and random at that.

    So the base first learns both the summary and the intent of each chat, told by a word which of the two. Without the
    word it does not know what is asked; twenty virtual tokens, begun with noise, learn to say it.
    """
    rows = examples(wanted)
    both = examples(wanted, before="Summary: ") + examples(wanted, before="Intent: ", target="intent")
    before = learned({"method": "full"}, small, both, tmp_path / "base", asked=rows, learning_rate=2e-3, epochs=30.0)
    assert before < 0.9
    base = shutil.copytree(tmp_path / "base" / "adapter", tmp_path / "known")
    (base / "tunesmith.json").unlink()
    prompt = {"method": "soft-prompt", "tokens": 20, "init": "random"}
    assert learned(prompt, base, rows, tmp_path / "prompt", learning_rate=0.05, epochs=12.0) > 0.95
