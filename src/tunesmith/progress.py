"""What a person sees while something runs: a bar on a terminal, plain lines elsewhere; always on stderr."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunesmith.wording import duration

PLAIN_SECONDS = 15.0

_quiet = False


def be_quiet(quiet: bool) -> None:
    """Set, once per process, whether progress is shown at all."""
    global _quiet
    _quiet = quiet


def printable(text: str) -> str:
    r"""Return text whose control characters cannot move the cursor or colour the terminal.

    >>> printable("a column \x1b[31m of a file")
    'a column \\x1b[31m of a file'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def say(text: str) -> None:
    """Print one line about what happens next."""
    if not _quiet:
        print(printable(text), file=sys.stderr, flush=True)


@contextmanager
def track(title: str, total: float, *, done: float = 0.0) -> Iterator[Callable[[float, str], None]]:
    """Show how far something is.

    Args:
        title: What runs.
        total: How much there is to do, in any unit.
        done: How much of it was done before, at no cost to the time that is left.

    Yields:
        A function of (how much is done, a few words on the state).
    """
    if _quiet:
        yield lambda done, text: None
    elif sys.stderr.isatty() and not os.environ.get("NO_COLOR"):  # a bar needs the codes that NO_COLOR forbids
        with _bar(title, total, done) as update:
            yield update
    else:
        yield _plain(title, total, done)


def counting_on(
    show: Callable[[float, str], None], before: float, total: float, what: str
) -> Callable[[float, str], None]:
    """Return what a part of the work is shown with, which counts from what the parts before it have done."""
    return lambda done, _: show(before + done, f"{before + done:.0f}/{total:.0f} {what}")


@contextmanager
def _bar(title: str, total: float, before: float) -> Iterator[Callable[[float, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
               TimeRemainingColumn(), TextColumn("{task.fields[state]}"))  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, completed=int(before), state="")
        yield lambda done, text: progress.update(task, completed=done, state=text)


def _plain(title: str, total: float, before: float) -> Callable[[float, str], None]:
    start = shown = time.monotonic()

    def update(done: float, text: str) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < PLAIN_SECONDS and done < total:
            return
        shown = now
        left = (now - start) * (total - done) / (done - before) if done > before else 0.0
        print(f"{title}: {100 * done / total:.0f} %, {_time(left)} left; {text}", file=sys.stderr, flush=True)

    return update


def _time(seconds: float) -> str:
    return duration(seconds) if seconds > 60 else f"{seconds:.0f} s"
