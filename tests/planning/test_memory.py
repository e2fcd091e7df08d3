from typing import Any

import pytest
from probing import moments_of

from tunesmith.planning.calibration import Calibration
from tunesmith.planning.memory import PARTS, answering_memory, checkpoint_bytes, training_memory, while_loading
from tunesmith.planning.probe import Order, Sample
from tunesmith.planning.shapes import Shape, Stack
from tunesmith.planning.work import Load, decoding

SHAPE = Shape("causal", (Stack(10, 1_000_000),), 64, 500, 64, 32, 1_032_000, 1024, True)
SMALL, LARGE = Load((100,), (5000,), 20), Load((400,), (90_000,), 50)


def calibration(
    memory: tuple[float, ...], *, moved: int = 0, what: Any = "train", optimizer: str = "adamw"
) -> Calibration:
    order = Order(folder="", what=what, half=False, threads=1, depths=(2, 6), optimizer=optimizer)
    samples = tuple(
        Sample(depth=depth, number=0, seconds=1.0, peak=0, start=300, weights=1000 + 10 * depth, moved=moved * depth,
               **moments_of(optimizer, moved * depth))
        for depth in (2, 6)
    )  # fmt: skip
    return Calibration(
        order=order, machine={}, day="2026-11-25T10:00:00Z", busy=0.0, samples=samples, program=300, seconds=(),
        memory=memory,
    )  # fmt: skip


def test_the_parts_are_those_of_the_largest_batch() -> None:
    parts, moment = training_memory(
        calibration((7.0, 4.0, 0.25, 0.5, 12.0), moved=100), SHAPE, [[SMALL, LARGE], [SMALL]], saving=False
    )
    assert parts == {
        "program": 300,
        "weights": 1100,
        "gradients": 1000,
        "optimizer": 2000,
        "activations": 4 * 10 * 64 * 400 + 64 * 400 // 4 + 10 * 90_000 // 2,
        "logits": 12 * 50 * 500,
        "temporary": 7,
    }
    assert moment == "the largest batch"
    assert set(parts) <= set(PARTS)


def test_gradients_of_one_batch_grow_while_its_activations_go() -> None:
    found = calibration((0.0, 40.0, 0.0, 0.0, 0.0), moved=1_000_000)
    alone, _ = training_memory(found, SHAPE, [[LARGE], [SMALL]], saving=False)
    both, _ = training_memory(found, SHAPE, [[LARGE], [SMALL, SMALL]], saving=False)
    assert both["gradients"] == 10_000_000
    assert alone["gradients"] == 0, "the activations are more than all gradients"
    little, _ = training_memory(found, SHAPE, [[SMALL]], saving=False)
    assert little["gradients"] + little["activations"] == 10_000_000


@pytest.mark.parametrize(("saving", "copies"), [(True, 3), (False, 1)])
def test_the_copies_for_a_checkpoint_can_be_the_highest(saving: bool, copies: int) -> None:
    found = calibration((9.0, 0.0, 0.0, 0.0, 0.0), moved=1000)
    parts, moment = training_memory(found, SHAPE, [[SMALL, SMALL]], saving=saving)
    assert sum(parts.values()) == 300 + 1100 + 3 * 10_000 + 9 + max(0, copies - 1) * 10_000
    assert moment == ("writing a checkpoint" if saving else "the largest batch")


@pytest.mark.parametrize(("optimizer", "kept", "copied"), [("adamw-8bit", 500, 1500), ("paged-adamw-8bit", 0, 1500)])
def test_moments_of_8_bits_take_a_quarter_and_pages_leave_the_card(optimizer: str, kept: int, copied: int) -> None:
    found = calibration((0.0, 0.0, 0.0, 0.0, 0.0), moved=1000, optimizer=optimizer)
    parts, _ = training_memory(found, SHAPE, [[SMALL, SMALL]], saving=True)
    assert parts["optimizer"] == 10 * kept
    assert parts["gradients"] + parts["temporary"] == 10 * copied, "a checkpoint copies pages, too"
    assert checkpoint_bytes(found, SHAPE, 250) == 2500, "weights, moments and the best weights"
    assert checkpoint_bytes(calibration((), moved=1000), SHAPE, 250) == 4000


def test_answering_holds_the_keys_and_values_that_are_written() -> None:
    writing = decoding([50, 40, 30], [10, 10, 10], slots=2)
    parts = answering_memory(calibration((5.0, 4.0, 2.0, 8.0), what="answer"), SHAPE, [writing])
    assert parts == {
        "program": 300,
        "weights": 1100,
        "cache": 4 * 2 * (60 + 50) * 10 * 32,
        "activations": 2 * 120 * 64,
        "logits": 8 * 2 * 500,
        "temporary": 5,
    }
    assert set(parts) <= set(PARTS)


def test_files_count_where_nothing_later_takes_more() -> None:
    parts = {"program": 300, "weights": 100, "activations": 50}
    assert while_loading(parts, "the longest prompts", 50) == (parts, "the longest prompts")
    found, moment = while_loading(parts, "the longest prompts", 200)
    assert sum(found.values()) == 300 + 100 + 200
    assert moment == "reading the weights"
    assert set(found) <= set(PARTS)
