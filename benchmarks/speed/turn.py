"""What every program that is measured has in common: the order it reads, its clock, what it writes.

Runs in the peers' environment too, so it knows torch at most.
"""

import json
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl")


def read_order() -> dict[str, Any]:
    """Return the order whose file is named by the first argument, with its stream of tokens, if it has one."""
    order: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    order["stream"] = json.loads(Path(order["stream"]).read_text(encoding="utf-8"))
    return order


def obey(order: Mapping[str, Any]) -> None:
    """Set the threads and the format of float32 products that an order names."""
    import torch

    torch.set_num_threads(order["threads"])
    torch.set_float32_matmul_precision("medium" if order.get("medium") else "highest")
    torch.manual_seed(0)


class Clock:
    """When each step ended. The first step is not counted: it compiles, allocates and reads pages for the first time.

    A program that is too slow ends before the last step, once two are done.
    """

    def __init__(self, seconds: float) -> None:
        self.limit, self.begun, self.ends = seconds, time.perf_counter(), list[float]()

    def start(self) -> None:
        """Begin to count."""
        self.begun = time.perf_counter()

    def tick(self) -> bool:
        """Note the end of a step; return whether time is up."""
        self.ends.append(time.perf_counter())
        return len(self.ends) >= 2 and self.ends[-1] - self.begun > self.limit

    @property
    def seconds(self) -> list[float]:
        """Of each step, the first one too."""
        return [end - before for before, end in zip([self.begun, *self.ends], self.ends, strict=False)]


def peak_bytes() -> int:
    """Return the highest resident memory of this process."""
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
