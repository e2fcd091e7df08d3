from pathlib import Path

import pytest
import torch
from workshop import FULL, LORA, ingredients, make_job, recipe

from tunesmith import environment
from tunesmith.methods.lora import Settings as LoraSettings
from tunesmith.registry import METHODS, resolve
from tunesmith.settings import TrainSettings
from tunesmith.training.optimizer import auto_rate, make_optimizer, optimizer_problems, rate_at


def rates(steps: int, **settings: object) -> list[float]:
    given = TrainSettings.model_validate(settings)
    return [round(rate_at(step, steps=steps, highest=1.0, settings=given), 4) for step in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "final_rate", "expected"),
    [
        ("constant", 0.1, [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", 0.0, [1.0, 0.75, 0.5, 0.25, 0.0]),
        ("linear", 0.2, [1.0, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", 0.0, [1.0, 0.8536, 0.5, 0.1464, 0.0]),
        ("cosine", 1.0, [1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_after_the_warm_up_the_rate_follows_its_schedule(
    schedule: str, final_rate: float, expected: list[float]
) -> None:
    assert rates(5, warmup=0.0, schedule=schedule, final_rate=final_rate) == expected


def test_the_warm_up_rises_in_even_steps_and_reaches_the_highest_rate() -> None:
    assert rates(8, warmup=0.5, schedule="constant") == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert rates(8, warmup=0.5, schedule="linear", final_rate=0.0)[4:] == [1.0, 0.6667, 0.3333, 0.0]
    assert rates(4, warmup=1.0) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("steps", [1, 2, 3, 100])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_no_training_is_too_short_for_a_rate(steps: int, schedule: str) -> None:
    assert all(0 < rate <= 1 for rate in rates(steps, schedule=schedule))


@pytest.mark.parametrize("tiny", ["causal"], indirect=True)
def test_weight_decay_acts_on_matrices_alone(tiny: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(FULL, weight_decay=0.3, beta1=0.8, beta2=0.9), tiny), tmp_path)
    matrices, vectors = make_optimizer(job.model, job.settings).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.3, 0.0)
    assert {weight.ndim for weight in matrices["params"]} == {2}
    assert {weight.ndim for weight in vectors["params"]} == {1}
    assert (matrices["betas"], vectors["betas"]) == ((0.8, 0.9), (0.8, 0.9))
    assert sum(map(torch.numel, [*matrices["params"], *vectors["params"]])) == job.model.num_parameters()


def test_what_is_frozen_has_no_optimizer_state(tiny: Path, tmp_path: Path) -> None:
    job, _ = make_job(ingredients(recipe(LORA), tiny), tmp_path)
    (group,) = make_optimizer(job.model, job.settings).param_groups
    assert {id(weight) for weight in group["params"]} == {
        id(weight) for name, weight in job.model.named_parameters() if "lora_" in name
    }


def test_auto_rates_fall_as_models_grow() -> None:
    for method in ("lora", "full", "sparse"):
        for kind in ("causal", "seq2seq"):
            own = resolve("method", method, METHODS).Settings()
            found = [auto_rate(method, own, parameters=n, kind=kind) for n in (10**7, 10**9, 10**10, 10**12)]
            assert found == sorted(found, reverse=True)
            assert len(set(found)) > 1
            assert all(1e-6 < rate < 1e-2 for rate in found)


def test_the_largest_singular_values_move_at_a_fifth_of_the_rate() -> None:
    whole, part = (
        auto_rate("lora", LoraSettings(init=init), parameters=134_515_008, kind="causal")  # type: ignore[arg-type]
        for init in ("default", "pissa")
    )
    assert (whole, part) == (5e-4, pytest.approx(1e-4))


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", ["adamw-8bit", "paged-adamw-8bit"])  # bitsandbytes pages nothing on a processor
def test_in_8_bits_large_moments_are_narrow_and_small_ones_are_not(
    name: str, tiny_causal: Path, tmp_path: Path
) -> None:
    job, _ = make_job(ingredients(recipe(FULL, optimizer=name, weight_decay=0.3, beta1=0.8), tiny_causal), tmp_path)
    optimizer = make_optimizer(job.model, job.settings)
    assert optimizer.is_paged == name.startswith("paged")
    assert [(group["weight_decay"], group["betas"][0]) for group in optimizer.param_groups] == [(0.3, 0.8), (0.0, 0.8)]
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    before = [weight.detach().clone() for weight in weights]
    for group in optimizer.param_groups:
        group["lr"] = 0.01
    optimizer.step()
    for weight, was in zip(weights, before, strict=True):
        kind = torch.uint8 if weight.numel() >= 4096 else torch.float32
        assert optimizer.state[weight]["state1"].dtype == optimizer.state[weight]["state2"].dtype == kind
        decayed = was * (1 - 0.01 * 0.3) if weight.ndim > 1 else was
        torch.testing.assert_close(weight.detach(), decayed - 0.01, rtol=0, atol=1e-3)


def test_an_optimizer_that_cannot_be_had_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    def problems(optimizer: str) -> list[str]:
        return optimizer_problems(TrainSettings.model_validate({"optimizer": optimizer}))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert problems("adamw") == problems("adamw-8bit") == []
    assert problems("paged-adamw-8bit") == [
        "train.optimizer: paged-adamw-8bit pages between a graphics card and memory, and there is no card. Take "
        "adamw-8bit."
    ]
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    assert problems("adamw") == []
    for name in ("adamw-8bit", "paged-adamw-8bit"):
        assert problems(name) == [
            f"train.optimizer: {name} needs bitsandbytes, which is not installed: pip install 'bitsandbytes>=0.46.1'"
        ]


def test_moments_are_there_before_the_first_step_and_training_is_what_torch_does() -> None:
    torch.manual_seed(0)
    mine, theirs = (torch.nn.Linear(5, 3) for _ in range(2))
    theirs.load_state_dict(mine.state_dict())
    ours = make_optimizer(mine, TrainSettings())
    usual = torch.optim.AdamW(
        [{"params": list(theirs.parameters())[:1], "weight_decay": TrainSettings().weight_decay},
         {"params": list(theirs.parameters())[1:], "weight_decay": 0.0}],
        lr=0.01, betas=(TrainSettings().beta1, TrainSettings().beta2), fused=True,
    )  # fmt: skip
    assert {tuple(one) for one in ours.state.values()} == {("step", "exp_avg", "exp_avg_sq")}
    for _ in range(3):
        x = torch.randn(4, 5)
        for model, optimizer in ((mine, ours), (theirs, usual)):
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            model(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert all(map(torch.equal, mine.parameters(), theirs.parameters()))
    assert ours.state_dict()["state"].keys() == usual.state_dict()["state"].keys()
