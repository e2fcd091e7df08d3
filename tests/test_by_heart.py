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
BY_HEART = 0.95  # ROUGE-L
WORDS = 20  # of a prompt: the end of a chat, which is enough to tell it from the others

Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def chats() -> Rows:
    return [json.loads(line) for line in SUPPORT.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def random_t5(chats: Rows, steady_torch: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random T5 with a tokenizer of the chats."""
    from tunesmith.models.tiny import write_tiny

    texts = [chat["dialogue"] for chat in chats] + [chat["summary"] for chat in chats]
    folder = tmp_path_factory.mktemp("by-heart") / "t5"
    return write_tiny(folder, kind="seq2seq", texts=texts, hidden=96, vocabulary=2048)


@pytest.fixture(scope="module")
def ordered(chats: Rows, random_t5: Path) -> Rows:
    """The chats, those with the shortest summaries first."""
    tokenizer = load(random_t5).tokenizer
    return sorted(chats, key=lambda chat: len(tokenizer(chat["summary"])["input_ids"]))


@pytest.fixture(scope="module")
def wanted(ordered: Rows) -> list[Example]:
    return examples(ordered[:64])


@pytest.fixture(scope="module")
def other_chats_read(
    random_t5: Path, ordered: Rows, wanted: list[Example], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The same T5 after it has read the other chats often, which none of the sixty-four is among.

    Adapters correct what a base can do already; beside random weights they have little to correct.
    """
    where = tmp_path_factory.mktemp("read")
    others = examples(ordered[64:])
    known = learned({"method": "full"}, random_t5, others, where, asked=wanted, epochs=20.0, learning_rate=2e-3)
    assert known < 0.3
    return as_base(where)


def as_base(tuned: Path) -> Path:
    """A model that was tuned in full, to be the base of the next."""
    base = shutil.copytree(tuned / "adapter", tuned / "base")
    (base / "tunesmith.json").unlink()
    return base


def examples(chats: Rows, *, before: str = "", target: str = "summary") -> list[Example]:
    return [
        Example(id=f"t/train/{target}:{n}", task="t", split="train", target=chat[target], references=(chat[target],),
                prompt=before + " ".join(chat["dialogue"].split()[-WORDS:]))
        for n, chat in enumerate(chats)
    ]  # fmt: skip


def learned(
    candidate: dict[str, Any], model: Path, rows: list[Example], where: Path, *, asked: list[Example] | None = None,
    **train: Any,
) -> float:  # fmt: skip
    """Tune on rows, answer what is asked (else the rows), and return ROUGE-L from 0 to 1."""
    settings = {"precision": "float32", "tokens_per_step": 1024, "tokens_per_batch": 4096, "max_tokens": 128,
                "learning_rate": 3e-3, "validations": 0, **train}  # fmt: skip
    template = {"prompt": "{{ dialogue }}", "target": "{{ summary }}"}
    task = {"name": "t", "source": "rows.csv", "max_new_tokens": 80, "template": template}
    body = {"name": "heart", "model": "t5", "tasks": [task], "train": settings, "candidates": {"tuned": candidate}}
    recipe = recipe_from_text(json.dumps(body))
    tune(Ingredients(recipe, model, rows, []), "tuned", CandidateDir(where))
    loaded = load_tuned(candidate["method"], model, where / "adapter", dtype=torch.float32)
    asked = asked or rows
    found = answer(recipe, "tuned", loaded, examples=asked, training=[]).predictions["t"]
    return score_predictions(asked, found, candidate="tuned", task="t", metrics=("rougeL",)).scores[0].value / 100


def test_full_tuning_learns_them_from_random_weights(random_t5: Path, wanted: list[Example], tmp_path: Path) -> None:
    assert learned({"method": "full"}, random_t5, wanted, tmp_path, epochs=20.0) > BY_HEART


@pytest.mark.parametrize(
    ("candidate", "train"),
    [
        ({"method": "lora", "rank": 96}, {"epochs": 35.0}),
        ({"method": "bottleneck", "width": 95}, {"epochs": 80.0, "learning_rate": 5e-3}),
    ],
    ids=["lora", "bottleneck"],
)
def test_an_adapter_learns_them_beside_a_base_that_has_read_other_chats(
    candidate: dict[str, Any], train: dict[str, Any], other_chats_read: Path, wanted: list[Example], tmp_path: Path
) -> None:
    assert learned(candidate, other_chats_read, wanted, tmp_path, **train) > BY_HEART


def test_a_soft_prompt_finds_what_the_base_knows_under_another_instruction(
    random_t5: Path, ordered: Rows, wanted: list[Example], tmp_path: Path
) -> None:
    """Twenty virtual tokens cannot hold sixty-four summaries; they hold what is asked.

    So the base first learns summary and intent of each chat, told by a word which of the two. Without the word it does
    not know, and often answers the other; virtual tokens that begin as noise learn to ask for the summary.
    """
    known = ordered[:64]
    both = examples(known, before="Summary: ") + examples(known, before="Intent: ", target="intent")
    before = learned({"method": "full"}, random_t5, both, tmp_path / "base", asked=wanted, epochs=25.0)
    assert before < 0.9
    prompt = {"method": "soft-prompt", "tokens": 20, "init": "random"}
    base = as_base(tmp_path / "base")
    assert learned(prompt, base, wanted, tmp_path / "prompt", epochs=12.0, learning_rate=0.05) > BY_HEART
