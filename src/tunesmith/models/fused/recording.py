"""Work that a graphics card is told once, and then only to do again (CUDA graphs).

A small model makes thousands of small operations of a step, and telling a card each of them takes several times as
long as its doing them all.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from tunesmith.machine import out_of_memory
from tunesmith.progress import say

Work = Callable[..., tuple[Tensor | None, ...]]


def recorded(run: Work, given: tuple[Tensor, ...], *, pool: Any = None) -> Work:
    """Return a function that computes what ``run`` does, of tensors of these shapes; its answers are overwritten later.

    What ``run`` changes beside, it changes in the same way when it is run once more with the same tensors. It must not
    look at values, only at shapes.

    Where a card cannot be told, that is said once, and ``run`` itself is returned.

    Args:
        run: Its answers are kept by whoever calls it, or not at all. Leaves of autograd that it asks gradients of are
            its own: one that work outside has used would make the recording wait for that work.
        given: What it is given, in shapes that stay.
        pool: Memory that several recordings share, of which only one is replayed at a time; from ``shared_memory``.
    """
    if given[0].device.type != "cuda":
        return run
    places = [tensor.detach().clone().requires_grad_(tensor.requires_grad) for tensor in given]
    try:
        graph, found = _record(run, places, pool)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        _tell(str(error).splitlines()[0])
        return run

    def replay(*now: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            for place, tensor in zip(places, now, strict=True):
                place.copy_(tensor)
        graph.replay()
        return found

    return replay


def _record(run: Work, places: list[Tensor], pool: Any) -> tuple[Any, tuple[Tensor | None, ...]]:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries make themselves ready at the first call, which cannot be recorded
        run(*places)
    torch.cuda.current_stream().wait_stream(side)
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        found = run(*places)
    return graph, found


@cache
def _tell(why: str) -> None:
    say(f"without recorded steps, which is slower: the card says {why}")


def shared_memory(device: torch.device) -> Any:
    """Return what names the memory of several recordings; None where nothing is recorded."""
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None
