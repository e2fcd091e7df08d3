"""This machine: its cores, its memory, where it computes, and which number format it multiplies fastest."""

import ctypes
import gc
import mmap
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tunesmith.errors import ResourceError
from tunesmith.wording import size

PLACE = "TUNESMITH_DEVICE"
"""Variable of the environment that says where models compute: ``auto``, ``cpu``, ``cuda``, ``cuda:1``."""

TRIM_ABOVE, MOST_MAPPED = -1, -4  # glibc's names of two settings, M_TRIM_THRESHOLD and M_MMAP_MAX
KEPT = {"now": False}  # whether memory that is freed stays; glibc cannot be asked


@cache
def compute_device() -> Any:
    """Return the torch device that models are on: a graphics card if there is one, unless TUNESMITH_DEVICE says else.

    Raises:
        ResourceError: The device that it names is not there.
    """
    import torch

    asked = os.environ.get(PLACE, "auto").strip() or "auto"
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(asked)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        said = str(error).splitlines()[0]
        raise ResourceError(
            f"{PLACE}={asked}: this machine cannot compute there: {said} Take auto, cpu, or a card that torch sees."
        ) from None
    return found


def device_module() -> Any | None:
    """Return what torch has for the device that models are on, such as torch.cuda; None on the processor."""
    import torch

    device = compute_device()
    return None if device.type == "cpu" else torch.get_device_module(device)


def finish() -> None:
    """Wait until a graphics card has done what it was told; it is told faster than it computes."""
    if (module := device_module()) is not None:
        module.synchronize(compute_device())


def available_memory() -> int:
    """Return the bytes that a model and its training may take where they compute; 0 if the system does not say."""
    module = device_module()
    if module is None:
        return main_memory()
    device = compute_device()
    free: int = module.mem_get_info(device)[0]
    unused: int = module.memory_reserved(device) - module.memory_allocated(device)  # torch keeps it for later
    return free + unused


def main_memory() -> int:
    """Return the bytes of main memory that can be taken without swapping; 0 if the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    limit = Path("/sys/fs/cgroup/memory.max")
    free = found.get("MemAvailable", 0)
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, max(0, int(text) - used + _cached_files()))
    return free


def _cached_files() -> int:
    """Return the bytes of files that the control group counts as used, and gives up as soon as memory is wanted."""
    try:
        lines = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))


def need_memory(needed: int, what: str, mend: str) -> None:
    """Raise a ResourceError if ``what`` needs more bytes than there are."""
    free = available_memory()
    if free and needed > free:
        raise ResourceError(
            f"{what} needs about {needed / 1e9:.1f} GB of memory, this machine has {free / 1e9:.1f} GB free. {mend}"
        )


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that there is no memory left; torch has no kind of its own for it on a CPU."""
    said = isinstance(error, RuntimeError) and ("allocate memory" in str(error) or "out of memory" in str(error))
    found = said or isinstance(error, MemoryError)
    if found and (module := device_module()) is not None:
        module.empty_cache()  # what torch keeps for later in pieces of other sizes
    return found


def need_space(folder: Path, needed: int, what: str) -> None:
    """Raise a ResourceError if the disk of ``folder`` has less than ``needed`` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder}: {what} needs {size(needed)}, the disk has {size(free)} free. "
            "Free some, or point TUNESMITH_HOME (models) or --out (runs) at another disk."
        )


def reset_peak() -> None:
    """Begin a new measurement of the highest memory, where the system allows it."""
    if (module := device_module()) is not None:
        module.reset_peak_memory_stats(compute_device())
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def let_go() -> None:
    """Free what nobody holds any more, such as the model of the candidate before, and return it to the system.

    Models hold themselves in circles, which Python finds late, and glibc keeps what was freed: without this the highest
    memory of a candidate is also that of those before it.
    """
    gc.collect()
    give_back()


def peak_memory() -> int:
    """Return the highest memory of this process in bytes, since ``reset_peak`` where that works.

    That is what is resident in main memory; or, where models are on a graphics card, what tensors took of the card's.
    """
    if (module := device_module()) is not None:
        found: int = module.max_memory_allocated(compute_device())
        return found
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if platform.system() == "Darwin" else used * 1024


Release = Callable[[int, int], None]
"""Is told where memory begins and how many bytes it has."""


def releaser() -> Release:
    """Return a function that lets go of memory into which a file is mapped, once nobody reads it any more.

    Pages of a mapped file that were read count as memory of the process for as long as any part of the file is in use.
    Memory that belongs to no file is left alone, and so is everything where the system has no such thing.
    """
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
        advise = ctypes.CDLL(None, use_errno=True).madvise
    except (OSError, AttributeError):
        return lambda start, length: None
    spans = [line.split(maxsplit=1)[0].split("-") for line in lines if " /" in line]
    mapped = [(int(first, 16), int(last, 16)) for first, last in spans]

    def release(start: int, length: int) -> None:
        page = mmap.PAGESIZE
        first, last = -(-start // page) * page, (start + length) // page * page
        if first < last and any(low <= first and last <= high for low, high in mapped):
            advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)

    return release


def give_back() -> None:
    """Return memory that this process has freed to the system, where its allocator can be asked to.

    glibc keeps what lies between blocks in use: after the weights of SmolLM2-135M were moved, 205 MB.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


@contextmanager
def memory_kept(*, keep: bool = True) -> Iterator[None]:
    """Let what is freed inside the block stay with this process, for what is wanted next; where glibc is the allocator.

    It takes blocks of 32 MB and more from the system each time, and the system fills them with zeros page by page. A
    step of training wants the same ones again and again: gradients of embeddings, logits, heads in another format.

    Args:
        keep: False: inside such a block, let it go all the same.
    """
    before, KEPT["now"] = KEPT["now"], keep
    _keep(keep)
    try:
        yield
    finally:
        KEPT["now"] = before
        _keep(before)


def _keep(keep: bool) -> None:
    try:
        tell = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    tell(MOST_MAPPED, 0 if keep else 65536)  # as glibc begins
    tell(TRIM_ABOVE, -1 if keep else 1 << 26)  # never; what it comes to itself once a block of 32 MB was freed
    if not keep:
        give_back()


@cache
def fastest_dtype() -> Any:
    """Return torch.bfloat16 if models are multiplied faster with it than with float32, else torch.float32.

    Without matrix units for bfloat16 a CPU is several times slower with it. Takes about 50 ms, once.
    """
    import torch

    if compute_device().type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    taken = {dtype: _multiply(torch, dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(taken, key=lambda dtype: taken[dtype])


def _multiply(torch: Any, dtype: Any) -> float:
    """Return the best of five times, in seconds, for a product of the size that a small model makes."""
    a, b = torch.ones(256, 512, dtype=dtype), torch.ones(1024, 512, dtype=dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        torch.nn.functional.linear(a, b)
        times.append(time.perf_counter() - start)
    return min(times)


def device_name() -> str:
    """Return the name of what models compute on: a graphics card, or the processor."""
    module = device_module()
    return processor_name() if module is None else str(module.get_device_name(compute_device()))


def processor_name() -> str:
    """Return the processor's name and the number of cores that may be used."""
    name = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    cores = usable_cores()
    return f"{name}, {cores} core{'s' * (cores != 1)}"


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
