"""What only a graphics card can show: FlashAttention's own kernels, recorded answers, bfloat16 beside float32.

python -m pytest -m gpu tests/test_on_a_card.py tests/elsewhere/cases.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flashing
import pytest
import torch
from torch import Tensor
from ways import moved, virtual_of

from tunesmith.data.encode import Encoded
from tunesmith.inference.decode import decode
from tunesmith.inference.fused_reading import CardReader
from tunesmith.machine import compute_device
from tunesmith.methods import full, lora, prefix
from tunesmith.models.attention import NAME, attending
from tunesmith.models.fused.flash import Ends, Filled, attend_apart, ends_of, flash_remember
from tunesmith.models.fused.packing import fused
from tunesmith.models.load import load, plain
from tunesmith.settings import TrainSettings
from tunesmith.training.batches import make_batch
from tunesmith.training.computing import ready
from tunesmith.training.job import Job, Progress
from tunesmith.training.loop import optimizer_step
from tunesmith.training.loss import loss_sum
from tunesmith.training.optimizer import as_kept, make_optimizer, moment_bytes

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no graphics card")]
LENGTHS = (5, 1, 130, 64, 17)
WAYS: dict[str, Callable[[Any], Any]] = {
    "full": lambda model: full.attach(full.Settings(), model, "causal"),
    "lora": lambda model: lora.attach(lora.Settings(rank=8), model, "causal"),
    "prefix": lambda model: prefix.attach(prefix.Settings(tokens=3), model, "causal"),
}


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def off(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().float(), expected.detach().float()
    return float((found - expected).norm() / expected.norm())


def test_attention_and_its_gradients_are_those_of_plain_torch() -> None:
    torch.manual_seed(0)
    row = drawn(sum(LENGTHS), 15 * 64).requires_grad_()  # nine queries, three keys, three values, side by side
    ends, dout = ends_of(LENGTHS, torch.device("cuda")), drawn(sum(LENGTHS), 9, 64)
    q, k, v = row.unflatten(1, (15, 64)).split((9, 3, 3), 1)
    found = attend_apart(q, k, v, ends, scale=0.125)
    (gradient,) = torch.autograd.grad(found, row, dout)
    wide = row.detach().float().requires_grad_()
    q, k, v = wide.unflatten(1, (15, 64)).split((9, 3, 3), 1)
    places = ends.places
    parts = [flashing.attended(q[rows], k[rows], v[rows], 0.125) for rows, _ in flashing.spans(places, places, places)]
    expected = torch.cat(parts)
    (wanted,) = torch.autograd.grad(expected, wide, dout.float())
    assert off(found, expected) < 1e-2
    assert off(gradient, wanted) < 1e-2


@pytest.mark.parametrize("new", [(1, 1, 1, 1), (3, 1, 40, 7)], ids=["a token each", "prompts"])
def test_new_tokens_look_at_all_that_their_slots_remember(new: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    rooms, lengths = (200, 64, 90, 70), (150, 60, 41, 7)
    kept = drawn(3, sum(rooms), 64), drawn(3, sum(rooms), 64)
    starts = torch.tensor([0, 200, 264, 354, 0], dtype=torch.int32, device="cuda")
    count = torch.tensor(lengths, dtype=torch.int32, device="cuda")
    asked: Ends = ends_of(new, torch.device("cuda"))
    query = drawn(sum(new), 9, 64)
    found = flash_remember(query, kept, asked, Filled(starts, count, max(rooms)), scale=0.125)
    keys, values = (part.transpose(0, 1).float() for part in kept)
    expected = torch.cat(
        [
            flashing.attended(query[rows].float(), keys[there], values[there], 0.125)
            for rows, there in flashing.spans(asked.places, starts, count)
        ]
    )
    assert off(found, expected) < 1e-2


def examples(model: Any) -> list[Encoded]:
    draw = torch.Generator().manual_seed(3)
    made = []
    for number, length in enumerate((40, 12, 77, 25)):
        ids = (*virtual_of(model), *torch.randint(20, 300, (length,), generator=draw).tolist())
        made.append(Encoded(f"e/{number}", ids, ids[-6:], (False,) * (len(ids) - 6) + (True,) * 6))
    return made


@pytest.mark.parametrize("way", WAYS)
def test_in_bfloat16_the_gradient_points_where_that_of_float32_does(way: str, tiny_causal: Path) -> None:
    torch.manual_seed(0)
    model = moved(WAYS[way](load(tiny_causal).model))
    batch = make_batch(examples(model), kind="causal", pad_id=0, device=compute_device())
    with attending(plain(model), NAME):
        expected = learned(model, loss_sum(model, batch, "causal"))
    with fused(plain(model), dtype=torch.bfloat16) as stack:
        assert stack is not None
        stack.refresh()
        found = learned(model, loss_sum(model, batch, "causal", stack=stack))
    assert torch.nn.functional.cosine_similarity(found, expected, 0) > 0.999


def learned(model: Any, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.float().flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("prefix", [0, 12])
def test_recorded_answers_are_those_of_one_step_at_a_time(
    prefix: int, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tiny_causal, dtype=torch.bfloat16)
    draw = torch.Generator().manual_seed(1)
    start = torch.randint(20, 300, (prefix,), generator=draw).tolist()
    lengths = sorted(torch.randint(3, 60, (40,), generator=draw).tolist(), reverse=True)
    prompts = [tuple(start + torch.randint(20, 300, (n,), generator=draw).tolist()) for n in lengths]
    used: list[int] = []
    usual = CardReader.write

    def counted(self: CardReader, *given: Any) -> Tensor:
        used.append(self.slots)
        return usual(self, *given)

    monkeypatch.setattr(CardReader, "write", counted)
    limits = [5 + number % 16 for number in range(len(prompts))]  # so that answers end one after the other
    found = decode(loaded, prompts, max_new_tokens=limits, tokens_in_memory=16 * 90)
    assert len(set(used)) > 1, "slots were let go of, and the step was recorded anew"
    monkeypatch.setattr("tunesmith.inference.fused_reading.recorded", lambda run, given: run)
    assert decode(loaded, prompts, max_new_tokens=limits, tokens_in_memory=16 * 90) == found


@pytest.mark.parametrize("way", WAYS)
def test_recorded_steps_learn_what_steps_one_at_a_time_learn(
    way: str, tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned_in(steps: int) -> tuple[list[float], Tensor, int]:
        torch.manual_seed(0)
        model = WAYS[way](load(tiny_causal).model)
        settings = TrainSettings()
        job = Job("x", model, "causal", 0, examples(model), (), settings, 1e-3, 0, True, tmp_path, tmp_path / "log", "")
        optimizer, losses = make_optimizer(model, settings), []
        with ready(job) as job:
            assert job.recorder
            for number in range(steps):
                step = ((0, 1, 2, 3),) if number % 2 else ((0, 1), (2, 3))
                losses.append(optimizer_step(job, step, optimizer, 1e-3, Progress())[0])
            count = len(job.recorder.known)
        weights = [weight.detach().float().flatten() for weight in model.parameters() if weight.requires_grad]
        return losses, torch.cat(weights), count

    losses, weights, count = learned_in(8)
    assert count == 1, "both kinds of batches were filled up to one size"
    monkeypatch.setattr("tunesmith.training.recorder.recorded", lambda run, given, *, pool: run)
    expected, wanted, _ = learned_in(8)
    assert losses == pytest.approx(expected, rel=1e-3)
    assert losses[-1] < losses[0]
    assert off(weights, wanted) < 1e-3


def test_moments_in_pages_are_those_that_stay_on_the_card() -> None:
    pytest.importorskip("bitsandbytes")

    def learned_with(name: str) -> tuple[Tensor, Any]:
        torch.manual_seed(0)
        model = torch.nn.Linear(512, 512, device="cuda")
        optimizer = make_optimizer(model, TrainSettings.model_validate({"optimizer": name}))
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        for _ in range(3):
            model(torch.randn(8, 512, device="cuda")).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        torch.cuda.synchronize()
        return model.weight.detach(), optimizer.state[model.weight]["state1"]

    (weights, pages), (expected, moments) = learned_with("paged-adamw-8bit"), learned_with("adamw-8bit")
    assert pages.is_paged
    assert moments.is_cuda
    assert torch.equal(weights, expected)
    assert torch.equal(pages.cpu(), moments.cpu())


def test_moments_in_pages_are_in_pages_again_after_a_checkpoint() -> None:
    pytest.importorskip("bitsandbytes")
    model = torch.nn.Linear(512, 512, device="cuda")
    optimizer = make_optimizer(model, TrainSettings.model_validate({"optimizer": "paged-adamw-8bit"}))
    model(torch.randn(8, 512, device="cuda")).square().sum().backward()
    optimizer.step()
    torch.cuda.synchronize()
    assert moment_bytes(optimizer) == (pytest.approx(2 * 4 * 1024 + 8 * 512 + 2 * 1024), 2 * 512 * 512)
    state = optimizer.state[model.weight]
    again = as_kept(optimizer, model.weight, state["state1"].clone())
    assert again.is_paged
    assert again.data_ptr() != state["state1"].data_ptr()
    assert torch.equal(again, state["state1"])
    assert as_kept(optimizer, model.weight, state["absmax1"].cpu()).is_cuda
    assert as_kept(optimizer, model.bias, optimizer.state[model.bias]["state1"].cpu()).is_cuda, "too small for pages"
