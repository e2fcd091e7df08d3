import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.models.fused.ragged import Heads, Segments, attend, attend_backward

HEADS = Heads(queries=4, keys=2, size=8, scale=0.3)
LENGTHS = (5, 1, 9)


def reference(whole: Tensor) -> Tensor:
    """Attention of one example, (T, width) -> (T, H * D)."""
    parts = whole.unflatten(1, (-1, HEADS.size)).transpose(0, 1)[None]
    q, k, v = parts.split((4, 2, 2), 1)
    out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=HEADS.scale, enable_gqa=True)
    return out[0].transpose(0, 1).flatten(1)


@pytest.mark.parametrize("shared", [0, 6])
def test_each_example_attends_to_itself_and_to_what_all_begin_with(shared: int) -> None:
    torch.manual_seed(0)
    segments = Segments(LENGTHS, shared)
    row = torch.randn(shared + sum(LENGTHS), HEADS.width, requires_grad=True)
    weights = torch.randn(len(row), 32)
    examples = [torch.cat((row[:shared], row[rows])) for rows in segments.spans()]
    answers = [reference(example) for example in examples]
    expected = torch.cat([answers[0][:shared], *(answer[shared:] for answer in answers)])
    (expected * weights).sum().backward()

    wide = torch.full((len(row), 35), 99.0)
    out = wide[:, :32]
    sums = attend(row.detach(), segments, HEADS, out=out)
    torch.testing.assert_close(out, expected.detach())
    assert (wide[:, 32:] == 99).all()
    found = attend_backward(weights, row.detach(), out, sums, segments=segments, heads=HEADS)
    torch.testing.assert_close(found, row.grad)


def test_spans_follow_each_other() -> None:
    assert list(Segments((2, 3), 4).spans()) == [slice(4, 6), slice(6, 9)]
