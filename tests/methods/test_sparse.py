from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import RecipeError
from tunesmith.methods import sparse
from tunesmith.methods.sparse import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton

IDS = ([5, 6, 7, 8, 9], [40, 2, 300, 11], [9, 9, 8])
BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])


def losses(model: Any) -> Iterator[Callable[[], Tensor]]:
    for ids in IDS:
        row = torch.tensor([ids])
        yield lambda row=row: model(input_ids=row, labels=row).loss * row.numel()


@BOTH
def test_fisher_is_the_mean_of_the_squared_gradients(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    model = load(folder).model
    found = sparse.fisher(dict(model.named_parameters()), losses(model))
    again = load(folder).model
    expected = {name: torch.zeros_like(weight) for name, weight in again.named_parameters()}
    for loss in losses(again):
        again.zero_grad()
        loss().backward()
        for name, weight in again.named_parameters():
            expected[name] += weight.grad**2 / len(IDS)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_second_order_is_the_squared_slope_over_the_curvature_where_the_hessian_is_diagonal() -> None:
    """Of losses a (w - t)^2 / 2 the slope is a (w - t) and the curvature a: known without an estimate."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5]))
    bends = torch.tensor([[1.0, 2.0, 0.5, 0.0], [3.0, 1.0, 0.1, 0.0]])
    aims = torch.tensor([[0.0, 1.0, 1.0, 9.0], [2.0, 2.0, 2.0, 9.0]])
    found = sparse.second_order(
        {"w": weight}, (lambda a=a, t=t: (a * (weight - t) ** 2 / 2).sum() for a, t in zip(bends, aims, strict=True))
    )
    slope, curvature = (bends * (weight - aims)).sum(0), bends.sum(0)
    torch.testing.assert_close(found["w"], (slope**2 / (curvature + curvature.mean())).detach(), rtol=1e-3, atol=0)


@BOTH
def test_the_curvature_of_a_model_is_that_of_its_hessian(kind: str, request: pytest.FixtureRequest) -> None:
    """The estimate, averaged over many throws, against the diagonal computed entry by entry."""
    model = load(request.getfixturevalue(f"tiny_{kind}")).model
    name = "model.norm.weight" if kind == "causal" else "decoder.final_layer_norm.weight"
    weight = model.get_parameter(name)
    row = torch.tensor([IDS[0]])
    throws = 300
    many = (lambda: model(input_ids=row, labels=row).loss for _ in range(throws))
    score = sparse.second_order({name: weight}, many)[name] / throws
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = model(input_ids=row, labels=row).loss
        (slope,) = torch.autograd.grad(loss, weight, create_graph=True)
        exact = torch.stack(
            [torch.autograd.grad(slope[n], weight, retain_graph=True)[0][n] for n in range(len(slope))]
        ).abs()
    expected = (slope**2 / (exact + exact.mean())).detach()
    assert torch.corrcoef(torch.stack([score, expected]))[0, 1] > 0.95
    assert set(score.topk(5).indices.tolist()) & set(expected.topk(5).indices.tolist()) >= {int(expected.argmax())}


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_steps_along_the_signs_find_what_the_second_derivative_has(
    kind: str, dtype: torch.dtype, request: pytest.FixtureRequest
) -> None:
    """The same signs, and the exact product with the Hessian, by differentiating the gradient again."""
    narrow, model = (load(request.getfixturevalue(f"tiny_{kind}"), dtype=one).model for one in (dtype, torch.float32))
    model.load_state_dict(narrow.state_dict())
    before = {name: weight.detach().clone() for name, weight in narrow.named_parameters()}
    found = sparse.second_order(dict(narrow.named_parameters()), losses(narrow))
    assert all(torch.equal(weight, before[name]) for name, weight in narrow.named_parameters()), "to the last bit"
    weights = dict(model.named_parameters())
    slope, curvature = ({name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(2))
    dice = torch.Generator().manual_seed(0)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for loss in losses(model):
            first = torch.autograd.grad(loss(), list(weights.values()), create_graph=True)
            signs = [torch.randint(2, one.shape, generator=dice, dtype=torch.int8) * 2 - 1 for one in first]
            along = sum((one * sign).sum() for one, sign in zip(first, signs, strict=True))
            second = torch.autograd.grad(along, list(weights.values()), materialize_grads=True)
            for name, one, two, sign in zip(weights, first, second, signs, strict=True):
                slope[name] += one.detach()
                curvature[name] += sign * two
    mean = torch.cat([one.abs().flatten() for one in curvature.values()]).mean()
    for name in weights:
        expected = slope[name] ** 2 / (curvature[name].abs() + mean)
        assert (found[name] - expected).norm() <= 0.01 * expected.norm(), name


def test_an_entry_that_no_example_touches_scores_nothing() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    other = nn.Parameter(torch.tensor([1.0]))
    for score in (sparse.fisher, sparse.second_order):
        found = score({"w": weight, "other": other}, iter([lambda: weight[0] ** 2]))
        assert found["w"][1] == 0
        assert found["other"].tolist() == [0]


@BOTH
@pytest.mark.parametrize("score", ["fisher", "sam"])
def test_prepared_are_exactly_the_entries_with_the_largest_scores(
    kind: str, score: Any, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    settings, model = Settings(share=0.003, score=score, examples=3), load(folder).model
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    asked = []
    found = sparse.prepare(settings, model, lambda count: asked.append(count) or losses(model))
    assert asked == [3]
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    how = sparse.fisher if score == "fisher" else sparse.second_order
    scores = how(dict(model.named_parameters()), losses(model))
    inside = torch.cat([scores[name].flatten()[index] for name, index in found.items()])
    outside = torch.cat(
        [scores[name].flatten().scatter(0, found.get(name, torch.tensor([], dtype=torch.int64)), 0) for name in scores]
    )
    assert len(inside) == sparse.count(settings, model)
    assert inside.min() >= outside.max()
    attached = sparse.attach(settings, model, kind, prepared=found)
    assert sum(p.numel() for p in attached.parameters() if p.requires_grad) == len(inside)


def test_the_count_is_the_share_rounded_down(tiny_causal: Path) -> None:
    model = skeleton(tiny_causal)
    total = sum(weight.numel() for weight in model.parameters())
    assert sparse.count(Settings(share=0.01), model) == total // 100
    assert sparse.count(Settings(share=1.0), model) == total


def test_a_share_of_less_than_one_entry_is_refused(tiny_causal: Path) -> None:
    model = skeleton(tiny_causal)
    total = sum(weight.numel() for weight in model.parameters())
    with pytest.raises(RecipeError) as caught:
        sparse.count(Settings(share=1e-9), model)
    assert str(caught.value) == (
        f"sparse: share is 1e-09, which is less than one of the {total:,} entries of this model. Take at least 1e-05."
    )
    assert sparse.count(Settings(share=1e-5), model) == 1


def test_more_memory_is_asked_for_curvature_and_for_longer_examples(tiny_causal: Path) -> None:
    model = skeleton(tiny_causal)
    total = sum(weight.numel() for weight in model.parameters())
    fisher, sam = (sparse.preparing_bytes(Settings(score=score), model, tokens=0) for score in ("fisher", "sam"))
    assert (fisher, sam) == (16 * total, 30 * total)
    longer = sparse.preparing_bytes(Settings(), model, tokens=300)
    config = model.config
    assert longer - fisher == 300 * (100 * config.num_hidden_layers * config.hidden_size + 12 * config.vocab_size)


def test_of_equal_scores_the_first_are_taken() -> None:
    found = sparse.largest({"a": torch.tensor([1.0, 2.0, 2.0]), "b": torch.tensor([2.0, 3.0])}, 3)
    assert {name: index.tolist() for name, index in found.items()} == {"a": [1, 2], "b": [1]}
