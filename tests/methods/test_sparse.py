from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import RecipeError
from tunesmith.methods import sparse
from tunesmith.methods.sparse import Settings
from tunesmith.models.load import load, skeleton

IDS = ([5, 6, 7, 8, 9], [40, 2, 300, 11], [9, 9, 8])
BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])


def losses(model: Any) -> Iterator[Tensor]:
    for ids in IDS:
        row = torch.tensor([ids])
        yield model(input_ids=row, labels=row).loss * len(ids)


@BOTH
def test_fisher_is_the_mean_of_the_squared_gradients(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"tiny_{kind}")
    model = load(folder).model
    found = sparse.fisher(dict(model.named_parameters()), losses(model))
    again = load(folder).model
    expected = {name: torch.zeros_like(weight) for name, weight in again.named_parameters()}
    for loss in losses(again):
        again.zero_grad()
        loss.backward()
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
        {"w": weight}, ((a * (weight - t) ** 2 / 2).sum() for a, t in zip(bends, aims, strict=True))
    )
    slope, curvature = (bends * (weight - aims)).sum(0), bends.sum(0)
    torch.testing.assert_close(found["w"], (slope**2 / (curvature + curvature.mean())).detach())


@BOTH
def test_the_curvature_of_a_model_is_that_of_its_hessian(kind: str, request: pytest.FixtureRequest) -> None:
    """The estimate, averaged over many throws, against the diagonal computed entry by entry."""
    model = load(request.getfixturevalue(f"tiny_{kind}")).model
    name = "model.norm.weight" if kind == "causal" else "decoder.final_layer_norm.weight"
    weight = model.get_parameter(name)
    row = torch.tensor([IDS[0]])
    throws = 300
    many = (model(input_ids=row, labels=row).loss for _ in range(throws))
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


def test_an_entry_that_no_example_touches_scores_nothing() -> None:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    other = nn.Parameter(torch.tensor([1.0]))
    for score in (sparse.fisher, sparse.second_order):
        found = score({"w": weight, "other": other}, iter([weight[0] ** 2]))
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
