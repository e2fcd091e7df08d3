"""A few real steps of a shortened model with random weights, measured in a process of its own.

``python -m tunesmith.planning.probe`` reads orders from stdin, a line of JSON each, and writes the samples of each
depth as a line to stdout. Each depth is measured in a child of its own, which is forked before anything is computed:
its memory holds the libraries and what it takes itself, and nothing that another one left behind.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal

from pydantic import TypeAdapter

from tunesmith.errors import ResourceError
from tunesmith.machine import compute_device
from tunesmith.planning.practice import SHORT, attached, practice_job, short_model
from tunesmith.records import Record

MEDIUM, LONG = 160, 640  # tokens of the examples that are tried
SMALL: tuple[tuple[int, int], ...] = ((SHORT, 8),)
STEPS: tuple[tuple[tuple[tuple[int, int], ...], ...], ...] = (
    (SMALL,),
    (SMALL, SMALL, SMALL),
    (SMALL, ((SHORT, 8),) * 8),
    (SMALL, ((MEDIUM, 120),) * 2),
    (SMALL, ((LONG, 16),)),
    (SMALL, ((MEDIUM, 16),) * 6),
    (SMALL, ((2 * MEDIUM, 24),) * 6),
)
"""Optimizer steps that are tried, the small ones first: batches of (input, target) tokens. They differ in number of
batches, in length, and in the share of tokens that are counted, so that each can be told from the others."""

WRITINGS = ((1, 16, 8), (8, 16, 8), (8, 16, 32), (32, 16, 8), (2, LONG, 4), (8, MEDIUM, 8))
"""Answers that are tried: number of prompts, tokens of each, new tokens."""

ROUNDS = 3  # through all that is tried, so that a busy moment falls on all of it; medians count


class Order(Record):
    """What is to be measured."""

    folder: str  # of the base model
    what: Literal["train", "answer"]
    method: str = ""  # of training
    settings: dict[str, Any] = {}  # noqa: RUF012 pydantic copies it; the method's own
    optimizer: str = "adamw"
    half: bool  # bfloat16
    threads: int
    depths: tuple[int, ...]


class Sample(Record):
    """One step, or one set of answers, measured."""

    depth: int
    number: int  # of STEPS or WRITINGS
    seconds: float
    peak: int  # bytes of the process
    start: int  # bytes of the process before the model was there
    trainable: int = 0  # parameters
    weights: int  # bytes of all parameters and buffers, and of copies in another format that products read
    moved: int = 0  # bytes of those that learn, and as many of gradients
    moments: int = 0  # bytes that the optimizer keeps beside the weights
    paged: int = 0  # bytes that it keeps in pages, which may leave a card's memory
    once: float = 0.0  # seconds that the very first step, the last of STEPS, took longer


SAMPLES = TypeAdapter(list[Sample])


def samples_of(orders: Sequence[Order]) -> Iterator[list[Sample]]:
    """Measure what orders ask for, one after the other, each depth in a process of its own.

    Raises:
        ResourceError: It failed; what was measured before was given.
    """
    if compute_device().type == "cpu":
        found = _measured(orders)
    else:  # whoever has asked for a card may not fork
        found = chain.from_iterable(
            _measured([one.model_copy(update={"depths": (depth,)})]) for one in orders for depth in one.depths
        )
    for order in orders:
        yield [one for samples in islice(found, len(order.depths)) for one in samples]


def _measured(orders: Sequence[Order]) -> Iterator[list[Sample]]:
    """Start one program for some orders; give the samples of each depth."""
    command, given = [sys.executable, "-m", "tunesmith.planning.probe"], [one.model_dump_json() for one in orders]
    done = subprocess.run(command, input="\n".join(given), capture_output=True, text=True)
    for line in done.stdout.splitlines():
        yield SAMPLES.validate_json(line)
    if done.returncode:
        raise ResourceError(f"plan: the calibration did not succeed: {_why(done.stderr)}.")


def _why(said: str) -> str:
    """Return the last line of a traceback without a full stop, and without the name of a class of ours."""
    last = next(reversed(said.strip().splitlines()), "it was ended from outside")
    return last.removeprefix(f"{ResourceError.__module__}.{ResourceError.__name__}: ").removesuffix(".")


def main() -> None:
    """Measure what the lines of stdin ask for."""
    orders = [Order.model_validate_json(line) for line in sys.stdin]
    _import()
    if len(orders) == len(orders[0].depths) == 1:
        sys.stdout.write(measured(orders[0], orders[0].depths[0]))
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "samples"
        for order, depth in [(one, depth) for one in orders for depth in one.depths]:
            child = os.fork()
            if child == 0:
                _measure(order, depth, path)
            _, status = os.waitpid(child, 0)
            if status:
                sys.exit(1)
            sys.stdout.write(path.read_text(encoding="utf-8"))
            sys.stdout.flush()


def _import() -> None:
    """Load everything that a run loads, and compute nothing: threads do not survive a fork."""
    import peft  # noqa: F401
    import transformers  # noqa: F401

    import tunesmith.inference.answer
    import tunesmith.training.tune  # noqa: F401
    from tunesmith.models.load import quiet

    quiet()


def measured(order: Order, depth: int) -> str:
    """Return the samples of one depth, as a line."""
    measure = train_samples if order.what == "train" else answer_samples
    return SAMPLES.dump_json(list(measure(order, depth))).decode() + "\n"


def _measure(order: Order, depth: int, path: Path) -> None:
    try:
        path.write_text(measured(order, depth), encoding="utf-8")
        os._exit(0)
    except BaseException as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), file=sys.stderr, flush=True)
        os._exit(1)


def train_samples(order: Order, depth: int) -> Iterator[Sample]:
    """Take every step of STEPS with the real loop's own ``optimizer_step``."""
    import torch

    from tunesmith.machine import finish
    from tunesmith.registry import METHODS, resolve
    from tunesmith.training.computing import ready
    from tunesmith.training.job import Progress
    from tunesmith.training.loop import optimizer_step
    from tunesmith.training.optimizer import make_optimizer, moment_bytes

    torch.set_num_threads(order.threads)
    start = resident()
    method = resolve("method", order.method, METHODS)
    frozen = method.ON_DISK == "adapter"
    model = short_model(Path(order.folder), depth, torch.bfloat16 if order.half and frozen else torch.float32)
    kind = "seq2seq" if model.config.is_encoder_decoder else "causal"
    settings = method.Settings.model_validate(order.settings, strict=False)
    model = attached(method, settings, model, kind)
    job, batches = practice_job(
        model, kind, STEPS, autocast=order.half and not frozen, optimizer=order.optimizer
    )  # fmt: skip
    optimizer = make_optimizer(job.model, job.settings)
    learning = [one for one in job.model.parameters() if one.requires_grad]

    def step(number: int) -> float:
        began = time.perf_counter()
        optimizer_step(job, batches[number], optimizer, 1e-6, Progress())
        finish()
        return time.perf_counter() - began

    with ready(job) as job:
        first = step(len(batches) - 1)  # the largest, which touches all memory for the first time
        found, weights = in_rounds(step, len(batches), before=2 if job.recorder else 0), held(job)
    moments, paged = moment_bytes(optimizer)
    for number, (seconds, peak) in enumerate(found):
        yield Sample(
            depth=depth, number=number, seconds=seconds, peak=peak, start=start, weights=weights,
            trainable=sum(one.numel() for one in learning), moved=_bytes(learning), moments=moments, paged=paged,
            once=max(0.0, first - found[-1][0]),
        )  # fmt: skip


def in_rounds(work: Callable[[int], float], count: int, *, before: int = 0) -> list[tuple[float, int]]:
    """Return the median seconds of each piece of work, and the highest memory when it was measured first.

    Args:
        work: Does the piece of a number, and returns its seconds.
        count: Of the pieces.
        before: How often each is done before it is measured; a graphics card records the second time.
    """
    from tunesmith.machine import memory_kept, peak_memory, reset_peak

    seconds: list[list[float]] = [[] for _ in range(count)]
    peaks = []
    with memory_kept(keep=False):  # else what a larger piece before took would be this one's too
        for number in range(count):
            for _ in range(before):
                work(number)
            reset_peak()
            seconds[number].append(work(number))
            peaks.append(peak_memory())
    for number in [*range(count)] * (ROUNDS - 1):
        seconds[number].append(work(number))
    return list(zip(map(median, seconds), peaks, strict=True))


def held(job: Any) -> int:
    """Return the bytes of parameters and buffers, and of the matrices of fused layers, each piece of memory once."""
    packed = [one.weight for one in job.stack.projections] if job.stack else []
    pieces = [one.untyped_storage() for one in (*job.model.parameters(), *job.model.buffers(), *packed)]
    return sum({piece.data_ptr(): piece.nbytes() for piece in pieces}.values())


def answer_samples(order: Order, depth: int) -> Iterator[Sample]:
    """Write every set of answers of WRITINGS with the real ``generate``."""
    import torch

    torch.set_num_threads(order.threads)
    start = resident()
    model = short_model(Path(order.folder), depth, torch.bfloat16 if order.half else torch.float32)
    weights = _bytes([*model.parameters(), *model.buffers()])
    write(model, WRITINGS[0])
    for number, (seconds, peak) in enumerate(in_rounds(lambda one: _timed(model, WRITINGS[one]), len(WRITINGS))):
        yield Sample(depth=depth, number=number, seconds=seconds, peak=peak, start=start, weights=weights)


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(one.numel() * one.element_size() for one in tensors)


def _timed(model: Any, asked: Sequence[int]) -> float:
    began = time.perf_counter()
    write(model, asked)
    return time.perf_counter() - began


def write(model: Any, asked: Sequence[int]) -> None:
    """Answer so many prompts of so many tokens; no answer ends before it is as long as asked for."""
    from types import SimpleNamespace

    from tunesmith.inference.generate import generate
    from tunesmith.models.load import Kind, Loaded
    from tunesmith.settings import GenerateSettings

    rows, tokens, new = asked
    kind: Kind = "seq2seq" if model.config.is_encoder_decoder else "causal"
    prompts = [[5 + (place * (row + 7)) % 197 for place in range(tokens)] for row in range(rows)]
    model.generation_config.eos_token_id = None
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=None)
    generate(
        Loaded(model, tokenizer, kind, Path(), 0), prompts, settings=GenerateSettings(tokens_per_batch=10**9),
        max_new_tokens=new,
    )  # fmt: skip


def resident() -> int:
    """Return the bytes that this process has in memory now, where models are."""
    from tunesmith.machine import peak_memory, reset_peak

    reset_peak()
    return peak_memory()


if __name__ == "__main__":
    main()
