import pytest
import torch

from tunesmith.models.fused import calling
from tunesmith.models.fused.build import library


@pytest.fixture(params=["compiled", "torch"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(calling, "library", lambda: None)
    elif library() is None:
        pytest.skip("there is no C++ compiler")
    given: str = request.param
    return given


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    given: torch.dtype = request.param
    return given
