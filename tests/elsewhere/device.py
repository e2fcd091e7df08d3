"""A second device: a graphics card where there is one, else one that is built for this and is no faster.

It must be there before the first backward pass of a process: torch then makes a thread for each device that there is,
and none later. So the cases run in a process of their own.
"""

import subprocess
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.machine import PLACE, compute_device, fastest_dtype

NAME = "elsewhere"
SOURCE = Path(__file__).with_suffix(".cpp")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile the device and make it known to torch, which keeps it until the process ends."""
    import torch

    torch_is = Path(torch.__file__).parent
    made = tmp_path_factory.mktemp("device") / "elsewhere.so"
    command = [
        "c++", "-std=c++20", "-O0", "-w", "-fPIC", "-shared", f"-I{torch_is / 'include'}", str(SOURCE), "-o", str(made),
        f"-L{torch_is / 'lib'}", "-ltorch_cpu", "-lc10",
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}",
    ]  # fmt: skip
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    except FileNotFoundError:
        pytest.skip("there is no C++ compiler")
    torch.utils.rename_privateuse1_backend(NAME)
    torch.ops.load_library(str(made))
    torch._register_device_module(NAME, _module())
    # torch moves the weights of a module to a card in place, which keeps tied ones tied; to this device only when asked
    torch.__future__.set_swap_module_params_on_conversion(True)


CARD = {
    "is_available": True, "device_count": 1, "current_device": 0, "is_initialized": True, "_is_in_bad_fork": False,
    "manual_seed_all": None, "synchronize": None, "empty_cache": None, "reset_peak_memory_stats": None,
    "mem_get_info": (8 << 30, 16 << 30), "memory_reserved": 2 << 30, "memory_allocated": 1 << 30,
    "max_memory_allocated": 1234, "get_device_name": "a card of the tests",
}  # fmt: skip
"""What torch.cuda says of a graphics card -> the answer here."""


def _module() -> types.ModuleType:
    """Return what torch.cuda is for graphics cards, as far as torch and tunesmith ask for it."""
    import torch

    module = types.ModuleType(f"torch.{NAME}")
    for name, answer in CARD.items():
        setattr(module, name, lambda *_, answer=answer, **__: answer)
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]  # type: ignore[attr-defined]
    module.get_rng_state = lambda *_: torch.get_rng_state()  # type: ignore[attr-defined]
    module.set_rng_state = lambda state, *_: torch.set_rng_state(state)  # type: ignore[attr-defined]
    return module


@pytest.fixture
def elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Have every model that is loaded on the second device; a graphics card computes in float32 too."""
    import torch

    if torch.cuda.is_available():
        monkeypatch.setenv(PLACE, "cuda")
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: False)
    else:
        request.getfixturevalue("built")
        monkeypatch.setenv(PLACE, NAME)
    compute_device.cache_clear()
    fastest_dtype.cache_clear()
    yield compute_device()
    monkeypatch.undo()
    compute_device.cache_clear()
    fastest_dtype.cache_clear()
