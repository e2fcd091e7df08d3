import json
from pathlib import Path

import pytest
from probing import PROGRAM, RATE, made_up

from tunesmith.errors import ResourceError
from tunesmith.models.load import skeleton
from tunesmith.planning import calibration as module
from tunesmith.planning import probe
from tunesmith.planning.calibration import calibration, extrapolated
from tunesmith.planning.fitting import dot
from tunesmith.planning.probe import Order
from tunesmith.planning.shapes import Shape, Stack, shape_of
from tunesmith.planning.work import batch_load, batch_memory, step_work

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
    monkeypatch.setattr(probe, "samples_of", measure)
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
    "changes", [{"settings": {"rank": 4}}, {"method": "full"}, {"half": True}, {"threads": 2}, {"what": "answer"}]
)
def test_it_is_measured_again_for_anything_else(asked: list[Order], changes: dict[str, object]) -> None:
    calibration(order(), DEEP)
    calibration(order(**changes), DEEP)
    assert asked == [order(), order(**changes)]


def test_it_is_measured_again_by_other_versions(asked: list[Order], monkeypatch: pytest.MonkeyPatch) -> None:
    calibration(order(), DEEP)
    monkeypatch.setattr(module, "version", lambda name: "99")
    calibration(order(), DEEP)
    assert len(asked) == 2


def test_what_is_linear_in_work_is_found_for_the_whole_depth(asked: list[Order]) -> None:
    found = calibration(order(), DEEP)
    load = batch_load([(100, 10)] * 5, "causal")
    assert dot(step_work(DEEP, [load], 0), found.seconds) == pytest.approx(RATE * 20 * 500, rel=0.1)
    assert dot(batch_memory(DEEP, load), found.memory) == pytest.approx(5_000_000 + 1000 * 20 * 500, rel=0.01)
    assert extrapolated(found, DEEP) == (1_000_000 + 100_000 * 20, 40_000 * 20)
    assert found.program == PROGRAM


def test_a_measurement_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, real_probing: None, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    with pytest.raises(ResourceError, match=r"^plan: the calibration did not succeed: .*OSError"):
        calibration(order(folder=str(tmp_path / "nothing")), DEEP)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_a_real_measurement(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, real_probing: None, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path))
    folder = request.getfixturevalue(f"tiny_{kind}")
    shape = shape_of(skeleton(folder))
    found = calibration(order(folder=str(folder), settings={"rank": 2}, depths=(1, 2)), shape)
    assert len(found.samples) == 2 * len(probe.STEPS)
    assert 100e6 < found.program < 2e9
    assert all(one.peak > one.start > 0 and one.seconds > 0 for one in found.samples)
    import torch

    from tunesmith.methods import lora

    model = lora.attach(lora.Settings(rank=2), probe.short_model(folder, 2, torch.float32), kind)
    whole = sum(one.numel() * one.element_size() for one in [*model.parameters(), *model.buffers()])
    learning = sum(one.numel() for one in model.parameters() if one.requires_grad)
    assert extrapolated(found, shape) == (whole, 4 * learning)
    assert found.samples[-1].trainable == learning
