"""A few real steps of a shortened model with random weights, measured in a process of its own.

``python -m tunesmith.planning.probe`` reads one ``Order`` as JSON from stdin and writes a ``Sample`` a line to stdout.
Each depth is measured in a child of its own, which is forked before anything is computed: its memory holds the
libraries and what it takes itself, and nothing that another one left behind.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from tunesmith.errors import ResourceError
from tunesmith.machine import compute_device
from tunesmith.records import Record

SHORT, MEDIUM, LONG = 48, 160, 640  # tokens of the examples that are tried
SMALL: tuple[tuple[int, int], ...] = ((SHORT, 8),)
STEPS: tuple[tuple[tuple[tuple[int, int], ...], ...], ...] = (
    (SMALL,),
    (SMALL, SMALL, SMALL),
    (SMALL, ((SHORT, 8),) * 8),
    (SMALL, ((MEDIUM, 120),) * 2),
    (SMALL, ((LONG, 16),)),
    (SMALL, ((MEDIUM, 16),) * 6),
)
"""Optimizer steps that are tried, the small ones first: batches of (input, target) tokens. They differ in number of
batches, in length, and in the share of tokens that are counted, so that each can be told from the others."""

WRITINGS = ((1, 16, 8), (8, 16, 8), (8, 16, 32), (32, 16, 8), (2, LONG, 4), (8, MEDIUM, 8))
"""Answers that are tried: number of prompts, tokens of each, new tokens."""

REPEATS = 2  # whose mean counts: a run meets the machine as busy as it is


class Order(Record):
    """What is to be measured."""

    folder: str  # of the base model
    what: Literal["train", "answer"]
    method: str = ""  # of training
    settings: dict[str, Any] = {}  # noqa: RUF012 pydantic copies it; the method's own
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
    weights: int  # bytes of all parameters and buffers
    moved: int = 0  # bytes of those that learn; as many of gradients, and twice as many of moments


def samples_of(order: Order) -> list[Sample]:
    """Measure what an order asks for, each depth in a process of its own.

    Raises:
        ResourceError: It failed.
    """
    command = [sys.executable, "-m", "tunesmith.planning.probe"]
    forks = compute_device().type == "cpu"  # whoever has asked for a card may not fork
    orders = [order] if forks else [order.model_copy(update={"depths": (depth,)}) for depth in order.depths]
    found: list[Sample] = []
    for one in orders:
        done = subprocess.run(command, input=one.model_dump_json(), capture_output=True, text=True)
        if done.returncode:
            raise ResourceError(f"plan: the calibration did not succeed: {_why(done.stderr)}.")
        found += [Sample.model_validate_json(line) for line in done.stdout.splitlines()]
    return found


def _why(said: str) -> str:
    """Return the last line of a traceback without a full stop, and without the name of a class of ours."""
    last = next(reversed(said.strip().splitlines()), "it was ended from outside")
    return last.removeprefix(f"{ResourceError.__module__}.{ResourceError.__name__}: ").removesuffix(".")


def main() -> None:
    """Measure what stdin asks for."""
    order = Order.model_validate_json(sys.stdin.read())
    _import(order)
    if len(order.depths) == 1:
        sys.stdout.write(measured(order, order.depths[0]))
        return
    with TemporaryDirectory() as folder:
        for depth in order.depths:
            path = Path(folder) / str(depth)
            child = os.fork()
            if child == 0:
                _measure(order, depth, path)
            _, status = os.waitpid(child, 0)
            if status:
                sys.exit(1)
            sys.stdout.write(path.read_text(encoding="utf-8"))
            sys.stdout.flush()


def _import(order: Order) -> None:
    """Load everything that a run loads, and compute nothing: threads do not survive a fork."""
    import peft  # noqa: F401
    import transformers  # noqa: F401

    import tunesmith.inference.answer
    import tunesmith.training.tune  # noqa: F401
    from tunesmith.models.load import quiet

    quiet()


def measured(order: Order, depth: int) -> str:
    """Return the samples of one depth, one in a line."""
    measure = train_samples if order.what == "train" else answer_samples
    return "".join(one.model_dump_json() + "\n" for one in measure(order, depth))


def _measure(order: Order, depth: int, path: Path) -> None:
    try:
        path.write_text(measured(order, depth), encoding="utf-8")
        os._exit(0)
    except BaseException as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), file=sys.stderr, flush=True)
        os._exit(1)


def short_model(folder: Path, depth: int, dtype: Any) -> Any:
    """Return a model with the shapes of a folder's, at most ``depth`` layers, and random weights, ready to compute."""
    import torch
    from transformers import AutoConfig

    from tunesmith.models.skeleton import built
    from tunesmith.planning.shapes import shorten

    config = AutoConfig.from_pretrained(folder)
    shorten(config, depth)
    torch.manual_seed(0)
    return built(folder, config, dtype=dtype).eval().to(compute_device())


def train_samples(order: Order, depth: int) -> Iterator[Sample]:
    """Take every step of STEPS with the real loop's own ``optimizer_step``."""
    import torch

    from tunesmith.machine import finish, peak_memory, reset_peak
    from tunesmith.registry import METHODS, resolve
    from tunesmith.training.computing import ready
    from tunesmith.training.job import Progress
    from tunesmith.training.loop import optimizer_step
    from tunesmith.training.optimizer import make_optimizer

    torch.set_num_threads(order.threads)
    start = resident()
    method = resolve("method", order.method, METHODS)
    frozen = method.ON_DISK == "adapter"
    model = short_model(Path(order.folder), depth, torch.bfloat16 if order.half and frozen else torch.float32)
    kind = "seq2seq" if model.config.is_encoder_decoder else "causal"
    settings = method.Settings.model_validate(order.settings, strict=False)
    job, batches = practice_job(attached(method, settings, model, kind), kind, autocast=order.half and not frozen)
    optimizer = make_optimizer(job.model, job.settings)
    learning = [one for one in job.model.parameters() if one.requires_grad]
    weights = _bytes([*job.model.parameters(), *job.model.buffers()])
    with ready(job) as job:
        optimizer_step(job, batches[0], optimizer, 1e-6, Progress())
        for number, step in enumerate(batches):
            for _ in range(2 if job.recorder else 0):  # the second one is recorded
                optimizer_step(job, step, optimizer, 1e-6, Progress())
            reset_peak()
            seconds = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                optimizer_step(job, step, optimizer, 1e-6, Progress())
                finish()
                seconds.append(time.perf_counter() - began)
            yield Sample(
                depth=depth, number=number, seconds=sum(seconds) / REPEATS, peak=peak_memory(), start=start,
                weights=weights, trainable=sum(one.numel() for one in learning), moved=_bytes(learning),
            )  # fmt: skip


def attached(method: Any, settings: Any, model: Any, kind: Any) -> Any:
    """Attach a method; one that looks at examples first is given made-up ones."""
    from types import SimpleNamespace

    from tunesmith.models.load import Loaded
    from tunesmith.training.preparing import Losses

    if not hasattr(method, "prepare"):
        return method.attach(settings, model, kind)
    loaded = Loaded(model, SimpleNamespace(pad_token_id=0), kind, Path(), 0)
    losses = Losses(loaded, [made_up(SHORT, 8, kind, first=number) for number in range(2)], seed=0)
    return method.attach(settings, model, kind, prepared=method.prepare(settings, model, losses))


def practice_job(model: Any, kind: str, *, autocast: bool) -> tuple[Any, list[tuple[tuple[int, ...], ...]]]:
    """Return a job on made-up examples, and STEPS as indices into them."""
    from tunesmith.data.encode import Encoded
    from tunesmith.settings import TrainSettings
    from tunesmith.training.job import Job

    examples: list[Encoded] = []
    steps = []
    # what is counted are the tokens of the rows; what virtual ones take beside them is in what is measured
    virtual = next(iter(getattr(model.get_input_embeddings(), "virtual", {}).values()), ())
    for step in STEPS:
        batches = []
        for batch in step:
            batches.append(tuple(range(len(examples), len(examples) + len(batch))))
            first = len(examples)
            examples += [made_up(n, u, kind, first=first + place, before=virtual) for place, (n, u) in enumerate(batch)]
        steps.append(tuple(batches))
    job = Job(
        "probe", model, kind, 0, examples, (), TrainSettings(), 1e-6, 0, autocast, Path(), Path(), ""
    )  # fmt: skip
    return job, steps


def made_up(tokens: int, target: int, kind: str, *, first: int, before: tuple[int, ...] = ()) -> Any:
    """Return an example of so many tokens; which ones does not matter, if no two begin alike: that would be shared.

    Args:
        tokens: Of its input.
        target: Of its target; of a causal model the last ones of the input.
        kind: "causal" or "seq2seq".
        first: Tells it from others.
        before: Virtual tokens that it begins with.
    """
    from tunesmith.data.encode import Encoded

    ids = tuple(5 + (first + place) % 200 for place in range(tokens))
    trains = () if kind == "seq2seq" else (False,) * (len(before) + tokens - target) + (True,) * target
    return Encoded("probe", (*before, *ids), ids[:target], trains)


def answer_samples(order: Order, depth: int) -> Iterator[Sample]:
    """Write every set of answers of WRITINGS with the real ``generate``."""
    import torch

    from tunesmith.machine import peak_memory, reset_peak

    torch.set_num_threads(order.threads)
    start = resident()
    model = short_model(Path(order.folder), depth, torch.bfloat16 if order.half else torch.float32)
    weights = _bytes([*model.parameters(), *model.buffers()])
    write(model, WRITINGS[0])
    for number, asked in enumerate(WRITINGS):
        reset_peak()
        seconds = sum(_timed(model, asked) for _ in range(REPEATS)) / REPEATS
        yield Sample(depth=depth, number=number, seconds=seconds, peak=peak_memory(), start=start, weights=weights)


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
