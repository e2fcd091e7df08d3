"""All layers in one call, beside one layer after the other."""

from pathlib import Path

import pytest
import torch

from tunesmith.inference.fused_reading import FusedReader
from tunesmith.models.fused.packing import fused, laid_out
from tunesmith.models.fused.stack import Stack
from tunesmith.models.load import load

FIRST, SECOND = list(range(30, 41)), list(range(60, 67))


@pytest.mark.parametrize("shared", [0, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["tiny_causal", "tiny_qwen2"])
@torch.inference_mode()
def test_a_step_is_what_its_layers_are_one_by_one(
    request: pytest.FixtureRequest, name: str, dtype: torch.dtype, shared: int
) -> None:
    folder: Path = request.getfixturevalue(name)
    model = load(folder, dtype=dtype).model
    with fused(model, dtype=dtype) as stack:
        assert isinstance(stack, Stack)
        with laid_out(stack):
            one, other = (FusedReader(stack, [20, 15], shared) for _ in range(2))
            if one.at_once is None:
                pytest.skip("this processor has no products with panels")
            other.at_once = None
            said = []
            for reader in (one, other):
                reader.begin(tuple(range(10, 10 + shared)))
                reader.read([(0, FIRST), (1, SECOND)])
                place = shared + len(FIRST), shared + len(SECOND)
                said.append(reader.write([(0, [50, 51, 52], place[0]), (1, [53], place[1])]).tolist())
                reader.keep([1])
                said.append(reader.write([(0, [54], place[1] + 1)]).tolist())
    assert said[:2] == said[2:]
    exact = {"rtol": 0, "atol": 0} if name == "tiny_causal" else {"rtol": 5e-2, "atol": 5e-2}  # biases round once less
    torch.testing.assert_close(one.keys, other.keys, **exact)
    torch.testing.assert_close(one.values, other.values, **exact)
    assert one.keys[-1].abs().sum() > 0


def test_layers_whose_weights_are_not_laid_out_are_asked_one_by_one(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    with fused(model, dtype=torch.float32) as stack:
        assert isinstance(stack, Stack)
        assert FusedReader(stack, [20]).at_once is None
