"""Embeddings and the head: gradients that are added to what earlier batches have left."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tunesmith.models.fused.embedding import embedded
from tunesmith.models.fused.head import head_loss

WORDS, WIDTH, PADDING = 11, 6, 3
IDS = torch.tensor([1, 3, 1, 10, 3, 0])


def table(padding: int | None = PADDING) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(WORDS, WIDTH, padding_idx=padding)


@pytest.mark.parametrize("padding", [None, PADDING])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_embeddings_and_their_gradients_are_those_of_torch(padding: int | None, dtype: torch.dtype) -> None:
    mine, theirs = table(padding), table(padding)
    for seed in range(2):  # the second batch finds the gradient of the first
        dy = torch.randn(len(IDS), WIDTH, generator=torch.Generator().manual_seed(seed)).to(dtype)
        found, expected = embedded(mine, IDS, dtype), theirs(IDS).to(dtype)
        assert torch.equal(found, expected)
        assert found.dtype == dtype
        found.backward(dy)
        expected.backward(dy)
        assert mine.weight.grad is not None
        torch.testing.assert_close(mine.weight.grad, theirs.weight.grad)
    assert mine.weight.grad is not None
    assert (mine.weight.grad[PADDING] == 0).all() == (padding is not None)


def test_the_second_batch_adds_to_the_gradient_that_is_there() -> None:
    mine = table()
    embedded(mine, IDS, torch.float32).sum().backward()
    there = mine.weight.grad
    assert there is not None
    once = there.clone()
    embedded(mine, IDS, torch.float32).sum().backward()
    assert mine.weight.grad is there
    assert torch.equal(there, 2 * once)


def test_whoever_wants_to_see_a_gradient_sees_all_of_it() -> None:
    mine, seen = table(), []
    mine.weight.register_hook(lambda gradient: seen.append(gradient.clone()))
    for _ in range(2):
        embedded(mine, IDS, torch.float32).sum().backward()
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])


class Twice(nn.Embedding):
    """More than a table."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


def test_what_is_more_than_a_table_looks_up_by_itself() -> None:
    given = Twice(WORDS, WIDTH)
    assert torch.equal(embedded(given, IDS, torch.float32), 2 * given.weight[IDS])


def test_a_table_that_does_not_learn_has_no_gradient() -> None:
    given = table().requires_grad_(False)
    assert not embedded(given, IDS, torch.float32).requires_grad


@pytest.mark.parametrize("rows", [5, 40])
def test_the_gradient_of_a_head_adds_up_over_batches(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.models.fused.head.LOGITS_BYTES", 7 * WORDS * 4)  # seven rows at a time
    torch.manual_seed(0)
    head = nn.Parameter(torch.randn(WORDS, WIDTH))
    plain = nn.Parameter(head.detach().clone())
    for _ in range(2):
        hidden, labels = torch.randn(rows, WIDTH), torch.randint(WORDS, (rows,))
        (head_loss(hidden, head, labels) / rows).backward()
        functional.cross_entropy(hidden @ plain.T, labels).backward()
    torch.testing.assert_close(head.grad, plain.grad)


def test_a_head_tied_to_the_embeddings_has_one_gradient_of_both() -> None:
    mine, theirs, labels = table(None), table(None), torch.arange(len(IDS))
    for _ in range(2):
        head_loss(embedded(mine, IDS, torch.float32), mine.weight, labels).backward()
        functional.cross_entropy(theirs(IDS) @ theirs.weight.T, labels, reduction="sum").backward()
    torch.testing.assert_close(mine.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize("rows", [5, 150, 400])
def test_a_head_in_another_format_is_converted_in_parts(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.models.fused.head.LOGITS_BYTES", 300 * WORDS * 2)  # 400 rows are two chunks
    monkeypatch.setattr("tunesmith.models.fused.head.WORDS", 7)
    torch.manual_seed(0)
    head = nn.Parameter(torch.randn(WORDS, WIDTH))
    plain = nn.Parameter(head.detach().clone())
    for _ in range(2):  # the second adds to what is there
        hidden, labels = torch.randn(rows, WIDTH).bfloat16(), torch.randint(WORDS, (rows,))
        mine, theirs = hidden.clone().requires_grad_(), hidden.float().requires_grad_()
        loss = head_loss(mine, head, labels) / rows
        loss.backward()
        known = functional.cross_entropy(theirs @ plain.T, labels)
        known.backward()
        assert loss.item() == pytest.approx(known.item(), rel=1e-2)
        assert torch.cosine_similarity(mine.grad.float().flatten(), theirs.grad.flatten(), 0) > 0.999
        assert head.grad.dtype == torch.float32
        assert torch.cosine_similarity(head.grad.flatten(), plain.grad.flatten(), 0) > 0.999
        assert head.grad.norm().item() == pytest.approx(plain.grad.norm().item(), rel=1e-2)
