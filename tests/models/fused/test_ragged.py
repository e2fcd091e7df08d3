import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.models.fused.ragged import Heads, Segments, attend, attend_backward

LENGTHS = (5, 1, 9)
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2e-2}


def reference(whole: Tensor, heads: Heads) -> Tensor:
    """Attention of one example, (T, width) -> (T, H * D)."""
    parts = whole.unflatten(1, (-1, heads.size)).transpose(0, 1)[None]
    q, k, v = parts.split((heads.queries, heads.keys, heads.keys), 1)
    out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=heads.scale, enable_gqa=True)
    return out[0].transpose(0, 1).flatten(1)


@pytest.mark.parametrize("size", [8, 16, 80])
@pytest.mark.parametrize(("shared", "lengths"), [(0, LENGTHS), (6, LENGTHS), (17, (33, 48)), (0, (97, 49, 2))])
@pytest.mark.usefixtures("form")
def test_each_example_attends_to_itself_and_to_what_all_begin_with(
    shared: int, lengths: tuple[int, ...], size: int, dtype: torch.dtype
) -> None:
    heads = Heads(queries=4, keys=2, size=size, scale=0.3)
    torch.manual_seed(0)
    segments = Segments(lengths, shared)
    given = torch.randn(shared + sum(lengths), heads.width).to(dtype)
    weights = torch.randn(len(given), 4 * size).to(dtype)
    row = given.double().requires_grad_()
    examples = [torch.cat((row[:shared], row[rows])) for rows in segments.spans()]
    answers = [reference(example, heads) for example in examples]
    expected = torch.cat([answers[0][:shared], *(answer[shared:] for answer in answers)])
    (expected * weights).sum().backward()

    wide = torch.full((len(row), 4 * size + 3), 99.0, dtype=dtype)
    out = wide[:, : 4 * size]
    sums = attend(given, segments, heads, out=out)
    assert row.grad is not None
    assert away(out, expected.detach()) < TOLERANCE[dtype]
    assert (wide[:, 4 * size :] == 99).all()
    found = attend_backward(weights, given, out, sums, segments=segments, heads=heads)
    assert away(found, row.grad) < TOLERANCE[dtype]


@pytest.mark.parametrize(("shared", "lengths"), [(0, LENGTHS), (6, LENGTHS), (17, (33, 48))])
@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.usefixtures("form")
def test_what_all_begin_with_may_be_known_already(
    shared: int, lengths: tuple[int, ...], size: int, dtype: torch.dtype
) -> None:
    heads = Heads(queries=6, keys=2, size=size, scale=0.3)
    torch.manual_seed(0)
    whole = torch.randn(shared + sum(lengths), heads.width).to(dtype)
    expected = torch.empty(len(whole), 6 * size, dtype=dtype)
    attend(whole, Segments(lengths, shared), heads, out=expected)
    before = torch.randn(2, 2, shared + 5, size).to(dtype)  # the later positions are others'
    before[:, :, :shared] = whole[:shared, 6 * size :].unflatten(1, (2, 2, size)).permute(1, 2, 0, 3)
    found = torch.empty(sum(lengths), 6 * size, dtype=dtype)
    attend(whole[shared:], Segments(lengths, shared), heads, out=found, before=(before[0], before[1]))
    torch.testing.assert_close(found, expected[shared:])


def away(found: Tensor, expected: Tensor) -> float:
    """Return the largest error as a share of the largest number."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.usefixtures("form")
def test_large_scores_and_that_what_is_not_a_number_stays_in_its_example() -> None:
    heads, segments = Heads(1, 1, 16, 1.0), Segments((3, 2))
    row = torch.zeros(5, 48)
    row[:, :16], row[1, 16:32], row[1, 32:] = 30.0, 30.0, 1.0  # all but certain to look at the second token
    row[4, 32:] = torch.nan
    out = torch.empty(5, 16)
    sums = attend(row, segments, heads, out=out)
    torch.testing.assert_close(out[:3], torch.tensor([0.0, 1.0, 1.0])[:, None].expand(3, 16))
    assert out[4].isnan().all()
    found = attend_backward(torch.ones(5, 16), row, out, sums, segments=segments, heads=heads)
    assert found[:3].isfinite().all()


def test_spans_follow_each_other() -> None:
    assert list(Segments((2, 3), 4).spans()) == [slice(4, 6), slice(6, 9)]
    assert list(Segments((2, 3), 4).spans(known=True)) == [slice(0, 2), slice(2, 5)]
