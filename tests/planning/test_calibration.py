import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from probing import PROGRAM, RATE, made_up

from tunesmith.errors import ResourceError
from tunesmith.models.skeleton import skeleton
from tunesmith.planning import calibration as module
from tunesmith.planning import probe
from tunesmith.planning.calibration import calibration, calibrations, extrapolated
from tunesmith.planning.fitting import dot
from tunesmith.planning.practice import short_model
from tunesmith.planning.probe import Order
from tunesmith.planning.shapes import Shape, Stack, shape_of
from tunesmith.planning.work import batch_load, batch_memory, step_work
from tunesmith.registry import METHODS

DEEP = Shape("causal", (Stack(20, 2_000_000),), 64, 500, 64, 32, 3_000_000, 1024, True)


def order(**changes: object) -> Order:
    given = {"folder": "somewhere", "what": "train", "method": "lora", "half": False, "threads": 1, "depths": (2, 6)}
    return Order.model_validate({**given, **changes})


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """A home of its own; fills with what is measured."""
    found: list[Order] = []

    def measure(given: Order) -> list[probe.Sample]:
        found.append(given)
        return made_up(given)

    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    monkeypatch.setattr(probe, "samples_of", lambda orders: map(measure, orders))
    monkeypatch.setattr(module, "_resident", lambda: 0)
    return found


def test_a_machine_is_measured_once(asked: list[Order], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first = calibration(order(), DEEP)
    assert calibration(order(folder="the same elsewhere"), DEEP) == first
    assert asked == [order()]
    said = capsys.readouterr().err
    assert said.count("plan: calibrating training by lora") == 1
    assert f"kept in {tmp_path / 'calibration'}" in said
    assert [json.loads(path.read_text())["day"] for path in (tmp_path / "calibration").iterdir()] == [first.day]


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"rank": 4}},
        {"method": "full"},
        {"half": True},
        {"threads": 2},
        {"what": "answer"},
        {"optimizer": "adamw-8bit"},
    ],
)
def test_it_is_measured_again_for_anything_else(asked: list[Order], changes: dict[str, object]) -> None:
    calibration(order(), DEEP)
    calibration(order(**changes), DEEP)
    assert asked == [order(), order(**changes)]


def test_what_is_missing_is_measured_together(
    asked: list[Order], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def together(orders: Sequence[Order]) -> Iterator[list[probe.Sample]]:
        times.append(list(orders))
        return map(made_up, orders)

    times: list[list[Order]] = []
    monkeypatch.setattr(probe, "samples_of", together)
    known, answer, narrow = order(), order(what="answer", method=""), order(optimizer="adamw-8bit")
    first = calibration(known, DEEP)
    found = calibrations([answer, known, narrow, answer], DEEP)
    assert times == [[known], [answer, narrow]]
    assert [one.order for one in found] == [answer, known, narrow, answer]
    assert found[1] == first
    said = "calibrating answering, training by lora with adamw-8bit with a few steps"
    assert capsys.readouterr().err.count(said) == 1


def test_what_was_measured_before_one_failed_is_kept(asked: list[Order], monkeypatch: pytest.MonkeyPatch) -> None:
    def until_full(orders: Sequence[Order]) -> Iterator[list[probe.Sample]]:
        for one in orders:
            if one.method == "full":
                raise ResourceError("plan: no")
            asked.append(one)
            yield made_up(one)

    monkeypatch.setattr(probe, "samples_of", until_full)
    for _ in range(2):
        with pytest.raises(ResourceError):
            calibrations([order(), order(method="full"), order(method="ia3")], DEEP)
    assert asked == [order()]


def test_it_is_measured_again_by_other_versions(asked: list[Order], monkeypatch: pytest.MonkeyPatch) -> None:
    calibration(order(), DEEP)
    monkeypatch.setattr(module, "version", lambda name: "99")
    calibration(order(), DEEP)
    assert len(asked) == 2


def test_what_is_linear_in_work_is_found_for_the_whole_depth(asked: list[Order]) -> None:
    found = calibration(order(), DEEP)
    load = batch_load([(100, 10)] * 5, DEEP)
    assert dot(step_work(DEEP, [load], 0), found.seconds) == pytest.approx(RATE * 20 * 500, rel=0.1)
    assert dot(batch_memory(DEEP, load), found.memory) == pytest.approx(5_000_000 + 1000 * 20 * 500, rel=0.01)
    assert extrapolated(found, DEEP) == (1_000_000 + 100_000 * 20, 40_000 * 20, 80_000 * 20, 0)
    assert found.program == PROGRAM


def test_the_program_is_at_least_what_this_process_has_in_memory(
    asked: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration(order(), DEEP)
    monkeypatch.setattr(module, "_resident", lambda: PROGRAM + 1)
    assert calibration(order(), DEEP).program == PROGRAM + 1
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('a warning\n"OSError: there is no config.json"\n', '"OSError: there is no config.json"'),
        ("", "it was ended from outside"),
        (
            "tunesmith.errors.ResourceError: there is not enough memory. Close other programs.\n",
            "there is not enough memory. Close other programs",
        ),
    ],
)
def test_a_measurement_that_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, real_probing: None, tmp_path: Path, said: str, why: str
) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    ended = SimpleNamespace(returncode=1, stderr=said, stdout="")
    monkeypatch.setattr(probe.subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(ResourceError) as caught:
        calibration(order(), DEEP)
    assert str(caught.value) == f"plan: the calibration did not succeed: {why}."
    assert not list(tmp_path.rglob("*.json"))


def test_a_real_measurement_of_training(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch, real_probing: None, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    shape = shape_of(skeleton(tiny_causal))
    found = calibration(order(folder=str(tiny_causal), settings={"rank": 2}, depths=(1, 2)), shape)
    assert [(one.depth, one.number) for one in found.samples] == [
        (depth, number) for depth in (1, 2) for number in range(len(probe.STEPS))
    ]
    assert 100e6 < found.program < 2e9
    assert all(one.peak > one.start > 0 and one.seconds > 0 for one in found.samples)
    from tunesmith.methods import lora
    from tunesmith.models.fused.packing import fused
    from tunesmith.models.load import plain

    model = lora.attach(lora.Settings(rank=2), short_model(tiny_causal, 2, torch.float32), "causal")
    with fused(plain(model), dtype=torch.float32) as stack:
        whole = probe.held(SimpleNamespace(model=model, stack=stack))
    learning = sum(one.numel() for one in model.parameters() if one.requires_grad)
    counted = 4 * sum(one.requires_grad for one in model.parameters())  # torch counts the steps of each weight
    assert extrapolated(found, shape) == (whole, 4 * learning, 8 * learning + counted, 0)
    assert found.samples[-1].trainable == learning


def test_moments_of_8_bits_are_measured_as_what_they_are(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STEPS", probe.STEPS[:2])

    def first(optimizer: str) -> probe.Sample:
        return next(probe.train_samples(order(folder=str(tiny_causal), method="full", optimizer=optimizer), 2))

    narrow, wide = first("adamw-8bit"), first("adamw")
    assert wide.moments == pytest.approx(2 * wide.moved, rel=0.01)
    model = short_model(tiny_causal, 2, torch.float32)
    large = sum(one.numel() for one in model.parameters() if one.numel() >= 4096)
    small = sum(one.numel() for one in model.parameters()) - large
    tables = 2 * 256 * 4  # of what 8 bits stand for, one for each moment
    assert narrow.moments == pytest.approx(2 * large + 2 * 4 * large / 256 + 8 * small + tables, rel=0.001)
    assert narrow.paged == 0


def test_what_is_held_counts_each_piece_of_memory_once_and_copies_too(tiny_causal: Path) -> None:
    from tunesmith.models.fused.packing import fused

    model = short_model(tiny_causal, 2, torch.float32)
    buffers = sum(one.nbytes for one in model.buffers())
    learning = sum(one.numel() for one in model.parameters())
    with fused(model, dtype=torch.float32) as stack:
        assert probe.held(SimpleNamespace(model=model, stack=stack)) == 4 * learning + buffers
    multiplied = sum(one.numel() for one in model.model.layers.parameters() if one.ndim == 2)
    with fused(model, dtype=torch.bfloat16) as stack:
        copied = probe.held(SimpleNamespace(model=model, stack=stack))
    assert copied == 4 * learning + buffers + 2 * multiplied
    assert probe.held(SimpleNamespace(model=model, stack=None)) == 4 * learning + buffers


def test_a_step_alone_says_nothing_of_activations_beside_gradients(
    asked: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(given: Order) -> list[probe.Sample]:
        alone = {one for one, step in enumerate(probe.STEPS) if len(step) == 1}
        return [
            one.model_copy(update={"peak": one.peak - one.moved}) if one.number in alone else one
            for one in made_up(given)
        ]

    monkeypatch.setattr(probe, "samples_of", lambda orders: map(measure, orders))
    found = calibration(order(), DEEP)
    load = batch_load([(100, 10)] * 5, DEEP)
    assert dot(batch_memory(DEEP, load), found.memory) == pytest.approx(5_000_000 + 1000 * 20 * 500, rel=0.01)


def test_what_the_first_step_takes_more_goes_by_the_bytes_that_it_touches_first(
    asked: list[Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    def more(one: probe.Sample) -> float:
        touched = one.peak - one.start - one.weights - one.moments
        return 0.5 + 1e-6 * touched if one.number == len(probe.STEPS) - 1 else 9.0

    def measure(given: Order) -> list[probe.Sample]:
        return [one.model_copy(update={"once": more(one)}) for one in made_up(given)]

    monkeypatch.setattr(probe, "samples_of", lambda orders: map(measure, orders))
    assert dot((1, 200_000), calibration(order(), DEEP).once) == pytest.approx(0.7)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"none", "qlora", "bitfit"}))
def test_every_method_can_be_measured(method: str, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "STEPS", probe.STEPS[:2])
    settings = {"modules": {"patterns": ("*.v_proj",)}, "bottleneck": {"width": 8}}.get(method, {})
    found = list(probe.train_samples(order(folder=str(tiny_causal), method=method, settings=settings), 2))
    assert all(one.trainable > 0 for one in found)


@pytest.mark.parametrize("what", ["train", "answer"])
def test_what_is_tried_of_an_encoder_decoder(tiny_seq2seq: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.training import loop

    taken: list[list[int]] = []
    real = loop.optimizer_step

    def step(job: Any, batches: Any, *others: Any) -> Any:
        taken.append([len(batch) for batch in batches])
        return real(job, batches, *others)

    monkeypatch.setattr(loop, "optimizer_step", step)
    asked = order(folder=str(tiny_seq2seq), what=what, method="full" if what == "train" else "")
    found = list(probe.train_samples(asked, 1) if what == "train" else probe.answer_samples(asked, 1))
    assert [one.number for one in found] == list(range(len(probe.STEPS if what == "train" else probe.WRITINGS)))
    if what == "train":
        assert found[0].weights >= found[0].moved == 4 * found[0].trainable > 0
        steps = [[len(batch) for batch in one] for one in probe.STEPS]
        assert taken == [steps[-1]] + steps * probe.ROUNDS
    else:
        assert found[0].moved == 0
