import mmap
import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith import machine
from tunesmith.errors import ResourceError
from tunesmith.machine import (
    available_memory,
    device_name,
    fastest_dtype,
    need_memory,
    need_space,
    peak_memory,
    reset_peak,
    usable_cores,
)

MEBI = 1 << 20


def test_the_available_memory_is_more_than_a_test_needs_and_less_than_a_petabyte() -> None:
    assert 64 * MEBI < available_memory() < 1 << 50


def test_enough_memory_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 2_000_000_000)
    need_memory(2_000_000_000, "training", "Take a smaller model.")


def test_too_little_memory_says_how_much_is_needed_and_how_much_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 2_000_000_000)
    with pytest.raises(ResourceError) as caught:
        need_memory(3_540_000_000, "training full", "Take a smaller model.")
    assert str(caught.value) == (
        "training full needs about 3.5 GB of memory, this machine has 2.0 GB free. Take a smaller model."
    )


def test_a_system_that_does_not_tell_its_memory_is_given_the_benefit_of_the_doubt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 0)
    need_memory(1 << 60, "training", "")


def test_too_little_disk_says_where_and_what_to_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=400_000_000))
    need_space(tmp_path, 400_000_000, "a checkpoint")
    with pytest.raises(ResourceError) as caught:
        need_space(tmp_path, 1_000_000_000, "a checkpoint")
    assert str(caught.value) == (
        f"{tmp_path}: a checkpoint needs 1 GB, the disk has 400 MB free. "
        "Free some, or point TUNESMITH_HOME (models) or --out (runs) at another disk."
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_the_peak_sees_memory_that_was_given_back_and_forgets_it_on_request() -> None:
    # In a process of its own: how much of its memory a long-lived one gives back is not ours to say.
    code = (
        "from tunesmith.machine import peak_memory, reset_peak\n"
        "before = peak_memory(); block = bytearray(96 << 20); del block\n"
        "high = peak_memory(); reset_peak(); print(high - before, peak_memory() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen, left = map(int, done.stdout.split())
    assert 90 * MEBI < seen < 110 * MEBI
    assert left < 16 * MEBI


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets a peak")
def test_what_nobody_holds_any_more_is_no_part_of_the_next_peak() -> None:
    code = (
        "import gc\n"
        "from tunesmith.machine import let_go, peak_memory, reset_peak\n"
        "gc.disable()\n"
        "class Model: pass\n"
        "before = peak_memory()\n"
        "model = Model(); model.own = model; model.weights = [bytearray(100_000) for _ in range(1_000)]; del model\n"
        "reset_peak(); kept = peak_memory(); let_go(); reset_peak(); print(kept - before, peak_memory() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 90 * MEBI
    assert left < 16 * MEBI


def test_the_peak_is_known_where_proc_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: Path, *_: object, **__: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", absent)
    monkeypatch.setattr(Path, "write_text", absent)
    reset_peak()
    assert 8 * MEBI < peak_memory() < 1 << 50
    assert available_memory() == 0


def test_the_device_is_named_with_its_cores() -> None:
    name, cores = device_name().rsplit(", ", 1)
    assert name.strip()
    assert cores == ("1 core" if usable_cores() == 1 else f"{usable_cores()} cores")
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_the_fastest_number_format_is_the_one_that_measured_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("with an accelerator nothing is measured")
    for fast in (torch.float32, torch.bfloat16):
        fastest_dtype.cache_clear()
        monkeypatch.setattr(machine, "_multiply", lambda _, dtype, fast=fast: 1.0 if dtype is fast else 2.0)
        assert fastest_dtype() is fast
    fastest_dtype.cache_clear()


def test_memory_that_is_not_there_is_known_from_other_errors() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert machine.out_of_memory(caught.value)
    assert machine.out_of_memory(MemoryError())
    assert not machine.out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not machine.out_of_memory(ValueError("out of memory"))


def resident(path: Path) -> int:
    """Bytes of a mapped file that are in the memory of this process."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if "-" in line.split(maxsplit=1)[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="there is no /proc")
def test_pages_of_a_mapped_file_go_and_its_content_stays(tmp_path: Path) -> None:
    import torch

    pages = 64 * mmap.PAGESIZE
    path = tmp_path / "weights"
    path.write_bytes(b"\x07" * pages)
    mapped = torch.from_file(str(path), shared=False, size=pages, dtype=torch.uint8)
    assert int(mapped.sum()) == 7 * pages
    before = resident(path)
    assert before >= pages
    machine.releaser()(mapped.data_ptr() + 1, pages - 1)
    assert resident(path) <= before - pages + 2 * mmap.PAGESIZE, "all whole pages are gone"
    assert int(mapped.sum()) == 7 * pages, "and come again from the file"


def test_memory_that_belongs_to_no_file_is_left_alone() -> None:
    import torch

    whole = torch.ones(64 * mmap.PAGESIZE, dtype=torch.uint8)
    machine.releaser()(whole.data_ptr(), len(whole))
    assert bool((whole == 1).all())


def test_without_proc_nothing_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", gone)
    machine.releaser()(0, 1 << 40)


AGAIN_AND_AGAIN = """
import resource
from tunesmith.machine import memory_kept, peak_memory, reset_peak

def taken_anew():
    "Pages that come from the system when a block that has just been freed is wanted again."
    x = b"x" * SIZE
    del x
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = b"x" * SIZE
    del x
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

reset_peak()
before = taken_anew()
with memory_kept():
    with memory_kept(keep=False):
        let_go = taken_anew()
    inside = taken_anew()
    reset_peak()
    peak = peak_memory()
reset_peak()
print(peak - peak_memory(), before, inside, let_go, taken_anew())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_large_blocks_stay_inside_the_block_and_go_after_it() -> None:
    size = 48 * MEBI
    code = AGAIN_AND_AGAIN.replace("SIZE", str(size))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    given_back, before, inside, let_go, after = map(int, done.stdout.split())
    few = size // mmap.PAGESIZE / 1024  # if the system gives large pages, 512 come at once
    assert min(before, let_go, after) > few
    assert inside < few
    assert given_back > size / 2


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: SimpleNamespace())
    with machine.memory_kept():
        entered.append(True)
    assert entered
