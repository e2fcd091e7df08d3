"""When memory runs out in the middle of a step: smaller batches, the same step.

What a step has learned so far is dropped and the whole step is done again, so that no gradient counts twice. The step
keeps its examples, and with them its result up to rounding; only the number of batches changes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunesmith.errors import ResourceError
from tunesmith.machine import out_of_memory
from tunesmith.progress import say
from tunesmith.training.batches import Step, split_step
from tunesmith.training.job import Job, Progress


class TooLarge(Exception):
    """A batch did not fit into memory."""

    def __init__(self, batch: tuple[int, ...]) -> None:
        self.batch = batch
        super().__init__(f"a batch of {len(batch)} examples")


@contextmanager
def noticing(batch: tuple[int, ...]) -> Iterator[None]:
    """Raise TooLarge in place of the several errors for memory that is not there.

    Args:
        batch: Indices of the training examples that the block works on.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise TooLarge(batch) from None  # without what was in memory when it happened


def fitting(job: Job, step: Step, progress: Progress, work: Callable[[Step], float]) -> float:
    """Do a step's work, in smaller batches where memory demands it, and remember their size for the steps to come.

    Args:
        job: Examples and model.
        step: As it was planned.
        progress: Its ``limit`` is heeded, and lowered when memory runs out.
        work: Adds the gradients of a step to those of the model; raises TooLarge.

    Returns:
        What ``work`` returns.

    Raises:
        ResourceError: An example alone does not fit.
    """
    if progress.limit:
        step = _cut(job, step, progress.limit)
    while True:
        try:
            return work(step)
        except TooLarge as error:
            too_large = error.batch
        job.model.zero_grad(set_to_none=True)
        sizes = [job.train[index].tokens for index in too_large]
        if len(too_large) == 1:
            raise ResourceError(
                f"training {job.name}: there is not enough memory for a single example of {sizes[0]} tokens, "
                f"{job.train[too_large[0]].example_id}, at step {progress.step + 1}. Lower train.max_tokens, take a "
                "method that trains fewer weights, such as lora, or a smaller model; or end other programs and run "
                "the same command again."
            )
        progress.limit = (sum(sizes) if job.kind == "causal" else len(sizes) * max(sizes)) // 2
        step = _cut(job, step, progress.limit)
        say(f"{job.name}: memory ran out at step {progress.step + 1}; {_remedy(progress)}")


def _cut(job: Job, step: Step, limit: int) -> Step:
    """Cut a step into batches of at most ``limit`` tokens; batches that are smaller already stay as they are."""
    sizes = [example.tokens for example in job.train]
    return tuple(part for batch in step for part in split_step(batch, sizes, limit, ragged=job.kind == "causal"))


def halved(before: int, progress: Progress) -> str:
    """Return what the log notes of a step: nothing, unless memory ran out in it.

    Args:
        before: The limit before the step.
        progress: After it.
    """
    return "" if progress.limit == before else f"memory ran out; {_remedy(progress)}"


def _remedy(progress: Progress) -> str:
    return f"from here on at most {progress.limit} tokens are in memory at once, and a step is what it was."
