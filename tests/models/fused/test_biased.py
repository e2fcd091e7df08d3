"""Both forms of attention with a bias against autograd in float64."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from tunesmith.models.fused import calling
from tunesmith.models.fused.biased import Bias, Dropout, Looking, attend_biased, attend_biased_backward, spans
from tunesmith.models.fused.kernels import drop

HEADS = 3
TOLERANCE = {torch.float32: 5e-6, torch.bfloat16: 2e-2}
CASES = {
    "encoder": ((5, 50, 1), (5, 50, 1), True, False),
    "decoder": ((17, 49), (17, 49), True, True),
    "cross": ((3, 20), (40, 9), False, False),
}
"""Name -> tokens of the examples of queries and of keys, whether there is a bias, whether later tokens are hidden."""


def looking_of(case: str, size: int, dtype: torch.dtype) -> Looking:
    queries, keys, biased, causal = CASES[case]
    if not biased:
        return Looking(queries, keys, size)
    longest = max(queries)
    matrix = torch.randn(HEADS, longest, longest, generator=torch.Generator().manual_seed(1)).to(dtype)
    if causal:
        matrix.masked_fill_(torch.ones(longest, longest, dtype=torch.bool).triu(1), -torch.inf)
    table = nn.Parameter(torch.zeros(1, HEADS))
    buckets, gradient = torch.zeros(longest, longest, dtype=torch.long), torch.zeros(HEADS, longest, longest)
    return Looking(queries, keys, size, Bias(table, buckets, matrix, gradient, causal))


def reference(parts: list[Tensor], bias: Tensor | None, looking: Looking, dropout: Dropout) -> Tensor:
    """The attention of all examples, (T, H * D), by plain torch."""
    found = []
    for number, (rows, others) in enumerate(zip(spans(looking.queries), spans(looking.keys), strict=True)):
        q, k, v = (
            part[where].unflatten(1, (HEADS, -1)).transpose(0, 1)
            for part, where in zip(parts, (rows, others, others), strict=True)
        )
        scores = q @ k.transpose(1, 2)
        if bias is not None:
            scores = scores + bias[:, : scores.shape[1], : scores.shape[2]]
        weights = scores.softmax(-1)
        if dropout.rate:
            mask = torch.ones(weights.shape[0] * weights.shape[1], weights.shape[2])
            drop(mask, dropout.rate, dropout.seed_of(number))
            weights = weights * mask.view(weights.shape)
        found.append((weights @ v).transpose(0, 1).flatten(1))
    return torch.cat(found)


def away(found: Tensor, expected: Tensor) -> float:
    """Return the largest error as a share of the largest number."""
    return float((found.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [8, 16, 64])
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.usefixtures("form")
def test_attention_and_its_gradients(case: str, size: int, rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    looking, dropout = looking_of(case, size, dtype), Dropout(rate, 7, (2,))
    rows = [sum(looking.queries), sum(looking.keys), sum(looking.keys)]
    given = [(torch.randn(n, HEADS * size) * size**-0.25).to(dtype) for n in rows]
    exact = [part.double().requires_grad_() for part in given]
    bias = None if looking.bias is None else looking.bias.matrix.double().requires_grad_()
    expected = reference(exact, bias, looking, dropout)
    gradient = torch.randn(rows[0], HEADS * size).to(dtype)
    (expected * gradient).sum().backward()

    wide = torch.full((rows[0], HEADS * size + 5), 99.0, dtype=dtype)
    out = wide[:, : HEADS * size]
    q, k, v = given
    attend_biased(q, (k, v), looking, dropout=dropout, out=out)
    assert away(out, expected.detach()) < TOLERANCE[dtype]
    assert (wide[:, HEADS * size :] == 99).all()
    into = tuple(torch.empty_like(part) for part in given)
    attend_biased_backward(gradient, q, (k, v), looking, dropout=dropout, into=(into[0], into[1], into[2]))
    for found, part in zip(into, exact, strict=True):
        assert part.grad is not None
        assert away(found, part.grad) < 2 * TOLERANCE[dtype]
    if looking.bias is not None and bias is not None:
        assert looking.bias.gradient is not None
        assert bias.grad is not None
        assert away(looking.bias.gradient, bias.grad.nan_to_num()) < 2 * TOLERANCE[dtype]


def test_both_forms_draw_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    looking, dropout = looking_of("encoder", 16, torch.float32), Dropout(0.5, 3)
    q, k, v = torch.randn(3, sum(looking.queries), HEADS * 16).unbind()
    answers = []
    for library in (calling.library, lambda: None):
        monkeypatch.setattr(calling, "library", library)
        answers.append(torch.empty_like(q))
        attend_biased(q, (k, v), looking, dropout=dropout, out=answers[-1])
    for one, other in pairwise(answers):
        torch.testing.assert_close(one, other)
