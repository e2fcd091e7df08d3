"""What every program that is measured has in common: the order it reads, its clock, what it writes.

Runs in the peers' environment too, so it knows torch at most.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl")
UNCOUNTED = {"cpu": 1, "cuda": 3}
"""Steps at the beginning of a turn that are not counted: they compile, allocate and load code for the first time."""


def device() -> Any:
    """Return the torch device that everybody computes on, found as ``tunesmith.machine.compute_device`` finds it."""
    import torch

    asked = os.environ.get("TUNESMITH_DEVICE", "auto").strip() or "auto"
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked)


def on_card() -> bool:
    """Tell whether everybody computes on a graphics card."""
    return bool(device().type == "cuda")


def settle() -> None:
    """Wait until a graphics card has done what it was told, so that the clock may be read."""
    if on_card():
        import torch

        torch.cuda.synchronize()


def read_order() -> dict[str, Any]:
    """Return the order whose file is named by the first argument, with its stream of tokens, if it has one."""
    order: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    order["stream"] = json.loads(Path(order["stream"]).read_text(encoding="utf-8"))
    return order


def obey(order: Mapping[str, Any]) -> None:
    """Set the threads and the format of float32 products that an order names; begin to measure a card's memory."""
    import torch

    torch.set_num_threads(order["threads"])
    torch.set_float32_matmul_precision("medium" if order.get("medium") else "highest")
    torch.manual_seed(0)
    if on_card():
        torch.cuda.reset_peak_memory_stats()


def warm_up() -> tuple[int, int]:
    """Return how many prompts are answered before the clock starts, and with how many tokens."""
    return (32, 8) if on_card() else (1, 2)


class Clock:
    """When each step ended.

    A program that is too slow ends before the last step, once one is done that counts.
    """

    def __init__(self, seconds: float) -> None:
        self.limit, self.begun, self.ends = seconds, time.perf_counter(), list[float]()
        self.uncounted = UNCOUNTED[device().type]

    def start(self) -> None:
        """Begin to count."""
        settle()
        self.begun = time.perf_counter()

    def tick(self) -> bool:
        """Note the end of a step; return whether time is up."""
        settle()
        self.ends.append(time.perf_counter())
        return len(self.ends) > self.uncounted and self.ends[-1] - self.begun > self.limit

    @property
    def seconds(self) -> list[float]:
        """Of each step, those that are not counted too."""
        return [end - before for before, end in zip([self.begun, *self.ends], self.ends, strict=False)]


def peak_bytes() -> int:
    """Return the highest resident memory of this process; on a card, the highest that its tensors took there."""
    if on_card():
        import torch

        return int(torch.cuda.max_memory_allocated())
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not say VmHWM")


def finish(order: Mapping[str, Any], **found: Any) -> None:
    """Write what was found, with versions, where the order says."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    Path(order["out"]).write_text(json.dumps({**found, "versions": versions}), encoding="utf-8")
