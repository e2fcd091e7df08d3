"""Both forms of every kernel against autograd in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tunesmith.models.fused import answering, calling, kernels, products
from tunesmith.models.fused.adding import added
from tunesmith.models.fused.answering import Remembered
from tunesmith.models.fused.build import library
from tunesmith.models.fused.calling import compiled

ROWS, WIDTH = 7, 40
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2e-2}


def numbers(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def part_of_a_wider_matrix(rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    return torch.full((rows, columns + 3), 99.0, dtype=dtype)[:, :columns]


def close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * 4)


def test_rms_norm_and_its_gradients(form: str, dtype: torch.dtype) -> None:
    x, weight, dy = (numbers(*s, dtype=dtype, seed=n) for n, s in enumerate([(ROWS, WIDTH), (WIDTH,), (ROWS, WIDTH)]))
    out = part_of_a_wider_matrix(ROWS, WIDTH, dtype)
    inverse = kernels.rms_norm(x, weight, 1e-5, out=out)
    a, b = x.double().requires_grad_(), weight.double().requires_grad_()
    expected = functional.rms_norm(a, (WIDTH,), b, 1e-5)
    expected.backward(dy.double())
    close(out, expected, dtype)
    assert a.grad is not None
    assert b.grad is not None
    dx = torch.ones_like(x)
    kernels.rms_norm_backward(dy, x, weight, inverse, dx=dx)
    close(dx, a.grad + 1, dtype)
    close(kernels.rms_norm_weight_gradient(dy, x, inverse), b.grad, dtype)


def test_what_lies_beside_a_part_is_not_touched(form: str, dtype: torch.dtype) -> None:
    whole = torch.full((ROWS, WIDTH + 3), 99.0, dtype=dtype)
    x = numbers(ROWS, WIDTH, dtype=dtype)
    kernels.rms_norm(x, torch.ones(WIDTH, dtype=dtype), 1e-5, out=whole[:, :WIDTH])
    kernels.swiglu(numbers(ROWS, 2 * WIDTH, dtype=dtype), out=whole[:, :WIDTH])
    kernels.rotate(whole, torch.ones(ROWS, 4), torch.zeros(ROWS, 4), heads=5)
    assert (whole[:, WIDTH:] == 99).all()


def test_rotation_is_that_of_transformers_and_turns_back(form: str, dtype: torch.dtype) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    angle = torch.arange(ROWS)[:, None] * torch.tensor([1.0, 0.3, 0.1, 0.01])
    q, k, v = (numbers(1, heads, ROWS, 8, dtype=dtype, seed=heads) for heads in (3, 2, 1))
    qkv = torch.cat([x[0].transpose(0, 1).flatten(1) for x in (q, k, v)], 1)
    before = qkv.clone()
    kernels.rotate(qkv, angle.cos(), angle.sin(), heads=5)
    both = torch.cat((angle, angle), 1)[None].double()
    expected = apply_rotary_pos_emb(q.double(), k.double(), both.cos(), both.sin())
    close(qkv[:, :40], torch.cat([x[0].transpose(0, 1).flatten(1) for x in expected], 1), dtype)
    assert torch.equal(qkv[:, 40:], before[:, 40:])
    kernels.rotate(qkv, angle.cos(), angle.sin(), heads=5, back=True)
    close(qkv, before, dtype)


def test_swiglu_and_its_gradient(form: str, dtype: torch.dtype) -> None:
    gate_up, dy = part_of_a_wider_matrix(ROWS, 2 * WIDTH, dtype), numbers(ROWS, WIDTH, dtype=dtype, seed=1)
    gate_up.copy_(3 * numbers(ROWS, 2 * WIDTH, dtype=dtype))
    x = gate_up.double().requires_grad_()
    gate, up = x.chunk(2, 1)
    expected = functional.silu(gate) * up
    expected.backward(dy.double())
    assert x.grad is not None
    out, again = (part_of_a_wider_matrix(ROWS, WIDTH, dtype) for _ in range(2))
    kernels.swiglu(gate_up, out=out)
    close(out, expected, dtype)
    kernels.swiglu_backward(dy, gate_up, out=again)
    close(again, expected, dtype)
    close(gate_up, x.grad, dtype)


def test_geglu_and_its_gradient(form: str, dtype: torch.dtype) -> None:
    gate_up, dy = part_of_a_wider_matrix(ROWS, 2 * WIDTH, dtype), numbers(ROWS, WIDTH, dtype=dtype, seed=1)
    gate_up.copy_(3 * numbers(ROWS, 2 * WIDTH, dtype=dtype))
    gate_up[0] *= 100
    x = gate_up.double().requires_grad_()
    gate, up = x.chunk(2, 1)
    expected = functional.gelu(gate, approximate="tanh") * up
    expected.backward(dy.double())
    assert x.grad is not None
    out, again = (part_of_a_wider_matrix(ROWS, WIDTH, dtype) for _ in range(2))
    kernels.geglu(gate_up, out=out)
    close(out, expected, dtype)
    kernels.geglu_backward(dy, gate_up, out=again)
    close(again, expected, dtype)
    close(gate_up, x.grad, dtype)


@pytest.mark.parametrize("size", [1.0, 30.0, 1000.0])
def test_cross_entropy_leaves_its_gradient(form: str, dtype: torch.dtype, size: float) -> None:
    logits, labels = size * numbers(ROWS, WIDTH, dtype=dtype), torch.arange(ROWS) * 5
    x = logits.double().requires_grad_()
    expected = functional.cross_entropy(x, labels, reduction="none")
    expected.sum().backward()
    assert x.grad is not None
    found = kernels.cross_entropy(logits, labels)
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-6 * size, check_dtype=False)
    close(logits, x.grad, dtype)


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 65, 700])
@pytest.mark.parametrize(("width", "columns"), [(40, 13), (7, 8), (64, 3), (6, 200), (402, 96)])
def test_a_product_is_one_whatever_order_its_weights_are_in(
    form: str, dtype: torch.dtype, rows: int, width: int, columns: int
) -> None:
    x, weight = numbers(rows, width + 3, dtype=dtype)[:, :width], numbers(columns, width + 5, dtype=dtype)[:, :width]
    x /= width**0.5
    add = numbers(rows, columns + 1, dtype=dtype, seed=2)[:, :columns]
    expected = x.double() @ weight.double().T
    for given in (weight, products.laid_out(weight)):
        close(products.product(x, given), expected, dtype)
        close(products.product(x, given, add), expected + add.double(), dtype)


@pytest.mark.parametrize("rows", [products.MANY - 1, products.MANY, 415])
@pytest.mark.parametrize(("width", "columns"), [(40, 14), (64, 16), (30, 48), (8, 200), (402, 96), (64, 2048)])
def test_many_rows_are_multiplied_by_weights_as_they_lie_forward_and_backward(
    form: str, dtype: torch.dtype, rows: int, width: int, columns: int
) -> None:
    x, weight = numbers(rows, width + 4, dtype=dtype)[:, :width], numbers(columns, width + 5, dtype=dtype)[:, :width]
    dy, add = (numbers(rows, columns, dtype=dtype, seed=seed) for seed in (2, 3))
    x, dy = x / width**0.5, dy / columns**0.5
    expected = x.double() @ weight.double().T
    close(products.product(x, weight), expected, dtype)
    close(products.product(x, weight, add), expected + add.double(), dtype)
    close(products.product_back(dy, weight), dy.double() @ weight.double(), dtype)
    whole = torch.full((rows, columns + width + 6), 99.0, dtype=dtype)
    products.product(x, weight, out=whole[:, :columns])
    close(whole[:, :columns], expected, dtype)
    dx = whole[:, columns : columns + width].fill_(1)
    products.add_product_back(dx, dy, weight)
    close(dx, dy.double() @ weight.double() + 1, dtype)
    assert (whole[:, columns + width :] == 99).all()


@pytest.mark.parametrize("rows", [3, 128, 129, 1026, 2051])
@pytest.mark.parametrize(("n", "k"), [(30, 64), (77, 45), (16, 33)])
def test_gradients_of_weights_are_added_to_what_earlier_batches_have_left(
    form: str, dtype: torch.dtype, rows: int, n: int, k: int
) -> None:
    dy, x = numbers(rows, n + 5, dtype=dtype)[:, 2 : n + 2], numbers(rows, k + 3, dtype=dtype, seed=1)[:, :k]
    expected, near = dy.double().T @ x.double(), {torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    weight = torch.nn.Parameter(torch.zeros(n, k))
    first = products.weight_gradient(dy, x, weight)
    assert first is not None
    assert float((first.double() - expected).norm() / expected.norm()) < near
    torch.testing.assert_close(products.weight_gradient(dy, x), first, rtol=0, atol=0)  # no weight, the same product
    weight.grad = first.float()
    second = products.weight_gradient(dy, x, weight)
    assert (second is None) == (compiled("weight_gradient", dy) is not None and rows >= products.MANY)
    (left,) = added([weight], [second])
    assert left is None
    assert float((weight.grad.double() - 2 * expected).norm() / expected.norm()) < 2 * near


def test_a_hook_is_shown_the_gradient_of_its_weight() -> None:
    dy, x = numbers(200, 20, dtype=torch.float32), numbers(200, 32, dtype=torch.float32, seed=1)
    weight = torch.nn.Parameter(torch.zeros(20, 32))
    weight.grad = torch.ones(20, 32)
    weight.register_hook(lambda gradient: gradient)
    found = products.weight_gradient(dy, x, weight)
    assert found is not None
    torch.testing.assert_close(found, dy.T @ x, rtol=1e-4, atol=1e-3)
    assert (weight.grad == 1).all()


@pytest.mark.parametrize("rows", [1, 31])
@pytest.mark.parametrize(("width", "columns"), [(40, 64), (6, 192)])
def test_what_gates_let_through_needs_no_writing_down(dtype: torch.dtype, rows: int, width: int, columns: int) -> None:
    x, weight = numbers(rows, width, dtype=dtype), numbers(columns, width, dtype=dtype, seed=1)
    given = products.laid_out(weight, gates=True)
    if not isinstance(given, products.Panels):
        pytest.skip("this processor has no products with panels")
    out, expected = (part_of_a_wider_matrix(rows, columns // 2, dtype) for _ in range(2))
    products.gated(x, given, out=out)
    kernels.swiglu(products.product(x, products.laid_out(weight)), out=expected)
    assert given.gates
    assert torch.equal(out, expected)
    gate, up = (x.double() @ weight.double().T).chunk(2, 1)
    close(out, functional.silu(gate) * up, torch.bfloat16)


@pytest.mark.parametrize(("heads", "shared", "size"), [(4, 2, 8), (9, 3, 64), (5, 1, 20), (2, 2, 32)])
def test_a_new_token_attends_to_what_its_slot_remembers(
    form: str, dtype: torch.dtype, heads: int, shared: int, size: int
) -> None:
    slots, positions = 3, 24
    keys, values = (numbers(shared, positions, size, dtype=dtype, seed=n) for n in (1, 2))
    query = numbers(slots, heads * size, dtype=dtype, seed=3)
    starts, lengths = torch.tensor([18, 0, 12]), torch.tensor([1, 11, 6])
    out = part_of_a_wider_matrix(slots, heads * size, dtype)
    answering.remember(query, Remembered(keys, values, starts, lengths), scale=0.4, out=out)
    for slot, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        q = query[slot].double().view(heads, 1, size)
        k, v = (
            kept[:, start : start + length].double().repeat_interleave(heads // shared, 0) for kept in (keys, values)
        )
        close(out[slot], functional.scaled_dot_product_attention(q, k, v, scale=0.4).flatten(), dtype)


@pytest.mark.parametrize("tokens", [1, 5, 70])
def test_new_keys_and_values_go_to_their_positions(form: str, dtype: torch.dtype, tokens: int) -> None:
    made = numbers(tokens, 2 * 3 * 8 + 5, dtype=dtype)[:, : 2 * 3 * 8]
    keys, values = (torch.full((3, 200, 8), 7.0, dtype=dtype) for _ in range(2))
    places = torch.randperm(200)[:tokens]
    answering.keep(made, places, keys, values)
    new = made.unflatten(1, (2, 3, 8))
    assert (keys[:, places].transpose(0, 1) == new[:, 0]).all()
    assert (values[:, places].transpose(0, 1) == new[:, 1]).all()
    assert sum(int((part == 7.0).sum()) for part in (keys, values)) == 2 * 3 * 8 * (200 - tokens)


@pytest.mark.parametrize(("heads", "shared", "size"), [(4, 2, 8), (9, 3, 64), (5, 1, 20)])
def test_what_all_slots_share_is_seen_as_if_each_had_it(
    form: str, dtype: torch.dtype, heads: int, shared: int, size: int
) -> None:
    prefix, slots = 40, 3
    keys, values = (numbers(shared, 64, size, dtype=dtype, seed=n) for n in (1, 2))
    query = numbers(slots, heads * size, dtype=dtype, seed=3)
    starts, lengths = torch.tensor([58, 40, 52]), torch.tensor([1, 11, 6])
    out, wanted = (part_of_a_wider_matrix(slots, heads * size, dtype) for _ in range(2))
    answering.remember(query, Remembered(keys, values, starts, lengths, prefix), scale=0.4, out=out)
    for slot, (start, length) in enumerate(zip(starts.tolist(), lengths.tolist(), strict=True)):
        whole = tuple(torch.cat((part[:, :prefix], part[:, start : start + length]), 1) for part in (keys, values))
        alone = Remembered(*whole, torch.tensor([0]), torch.tensor([prefix + length]))
        answering.remember(query[slot : slot + 1], alone, scale=0.4, out=wanted[slot : slot + 1])
    close(out, wanted.double(), dtype)


@pytest.mark.parametrize("width", [1, 7, 1024, 2500])
def test_the_likeliest_is_the_first_of_the_highest(form: str, dtype: torch.dtype, width: int) -> None:
    logits = numbers(6, width + 3, dtype=dtype)[:, :width]
    for row, places in enumerate(([0], [width - 1], [width // 2, width - 1], [0, width - 1], [width // 3])):
        logits[row, places] = 9.0
    logits[5] = -torch.inf
    expected = [0, width - 1, width // 2, 0, width // 3, 0]
    assert answering.likeliest(logits).tolist() == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_stays_so(form: str, dtype: torch.dtype, value: float) -> None:
    x = numbers(ROWS, WIDTH, dtype=dtype)
    x[3, 5] = value
    out = torch.empty_like(x)
    kernels.rms_norm(x, torch.ones(WIDTH, dtype=dtype), 1e-5, out=out)
    assert not out[3].isfinite().all()
    assert out[2].isfinite().all()
    assert not kernels.cross_entropy(x, torch.arange(ROWS))[3].isfinite()


def test_float64_and_mixed_formats_are_left_to_torch() -> None:
    assert compiled("swiglu", torch.ones(1, dtype=torch.float64)) is None
    assert compiled("rms_norm", torch.ones(1), torch.ones(1, dtype=torch.bfloat16)) is None


class TestDropout:
    def mask(self, rate: float, seed: int, rows: int = 60, width: int = 500) -> Tensor:
        x = torch.ones(rows, width)
        kernels.drop(x, rate, seed)
        return x

    def test_zeros_have_their_share_and_the_rest_keeps_the_mean(self, form: str) -> None:
        for rate in (0.05, 0.1, 0.5):
            mask = self.mask(rate, 3)
            assert mask.unique().tolist() == pytest.approx([0, 1 / (1 - rate)])
            zeros = (mask == 0).float()
            spread = 4 * (rate * (1 - rate) / mask.numel()) ** 0.5
            assert float(zeros.mean()) == pytest.approx(rate, abs=spread)
            for dim, count in ((0, 60), (1, 500)):
                assert float(zeros.mean(dim).std()) == pytest.approx((rate * (1 - rate) / count) ** 0.5, rel=0.35)

    def test_neighbours_and_seeds_have_nothing_to_do_with_each_other(self, form: str) -> None:
        one = self.mask(0.5, 7) - 1
        for other in (
            self.mask(0.5, 8), self.mask(0.5, 7 + (1 << 32)), self.mask(0.5, 8).roll(1, 1),
            self.mask(0.5, 7).roll(1, 0), self.mask(0.5, 7).roll(1, 1),
        ):  # fmt: skip
            assert abs(float((one * (other - 1)).mean())) < 4 / one.numel() ** 0.5

    def test_both_forms_draw_the_same_mask(self, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
        if library() is None:
            pytest.skip("there is no C++ compiler")
        found = []
        for here in (library(), None):
            monkeypatch.setattr(calling, "library", lambda here=here: here)
            x = numbers(ROWS, WIDTH + 3, dtype=dtype)
            kernels.drop(x[:, :WIDTH], 0.3, 2**63 + 12345678901)
            found.append(x)
        close(found[0], found[1], dtype)
        assert torch.equal(found[0] == 0, found[1] == 0)
        assert not bool((found[0][:, WIDTH:] == 0).any())


@pytest.mark.parametrize(("width", "apart"), [(64, 64), (2048, 2080), (1024, 1056), (3072, 3104)])
def test_rows_never_lie_where_the_nearest_cache_has_no_room_for_them(width: int, apart: int) -> None:
    found = products.rows_apart(5, width, dtype=torch.float32, device=torch.device("cpu"))
    assert found.shape == (5, width)
    assert found.stride() == (apart, 1)
