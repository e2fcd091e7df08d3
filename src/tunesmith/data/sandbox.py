"""Rendering of Jinja text that may be hostile: no attributes, no files, two seconds, a million characters.

Templates that tunesmith ships are rendered in this process. All others are rendered in a child process that has
nothing but a pipe: a timer ends it when one render takes too long, even inside a single long multiplication, and the
system limits its memory. What the sandbox of Jinja holds back and what it does not (loops, long texts) is in
https://jinja.palletsprojects.com/en/stable/sandbox/.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith.data.characters import fault_in_text

SECONDS = 2.0
CHARACTERS = 1_000_000
MEMORY_BYTES = 512 * 1024 * 1024
JOBS_PER_CHILD = 10_000

Job = tuple[int, Mapping[str, Any]]  # index of the source text, variables


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job gave no text."""

    kind: Literal["row", "refused", "template"]  # this row only; forbidden; the text itself, nothing after it was done
    line: int  # 1-based line of the template, 0 if unknown
    message: str

    @property
    def where(self) -> str:
        """The message, with its line if that is known."""
        return f"line {self.line}: {self.message}" if self.line else self.message


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's, in which a whole number that a cell of a csv file holds as text is a place in a list."""

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return ``obj[argument]``, as in ``choices[label]``."""
        if isinstance(obj, list | tuple) and isinstance(argument, str) and argument.strip().isdecimal():
            argument = int(argument)
        return super().getitem(obj, argument)


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment all templates are parsed and rendered in.

    A line that holds only a ``{% tag %}`` leaves no empty line, as in the chat templates of models.
    """
    made = Sandbox(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True, loader=None)
    made.globals = {"range": made.globals["range"]}  # the sandbox's own, with a limit
    return made


def run_jobs(sources: Sequence[str], jobs: Sequence[Job], *, trusted: bool) -> list[str | Failure]:
    """Render jobs in order.

    Args:
        sources: Jinja texts that parse.
        jobs: Which text, and its variables: text, numbers, lists and dicts as JSON has them.
        trusted: Render here instead of in a child process.

    Returns:
        A text or a Failure for each job. After a Failure of kind "template" there are no more.
    """
    if trusted:
        return list(_render_all(sources, jobs))
    results: list[str | Failure] = []
    for start in range(0, len(jobs), JOBS_PER_CHILD):
        part = jobs[start : start + JOBS_PER_CHILD]
        done = _in_child(sources, part)
        results += done
        if len(done) < len(part):
            limit = f"took longer than {SECONDS:g} seconds, or all of {MEMORY_BYTES // 2**20} MB of memory"
            return [*results, Failure("template", 0, limit)]
    return results


def _render_all(sources: Sequence[str], jobs: Iterable[Job]) -> Iterator[str | Failure]:
    compiled: dict[int, Template | Failure] = {}
    for index, variables in jobs:
        if index not in compiled:
            compiled[index] = _compile(sources[index])
        template = compiled[index]
        yield template if isinstance(template, Failure) else _render(template, variables)


def _compile(source: str) -> Template | Failure:
    try:
        return environment().from_string(source)
    except (TemplateError, MemoryError, RecursionError, ValueError) as error:
        return Failure("template", getattr(error, "lineno", None) or 0, _spoken(error))


def _render(template: Template, variables: Mapping[str, Any]) -> str | Failure:
    pieces: list[str] = []
    length = 0
    try:
        for piece in template.generate(variables):
            pieces.append(piece)
            length += len(piece)
            if length > CHARACTERS:
                return Failure("row", 0, f"more than {CHARACTERS:,} characters")
    except SecurityError as error:
        return Failure("refused", _line(error), _spoken(error))
    except Exception as error:  # any filter can raise anything; the row is named and set aside
        return Failure("row", _line(error), _spoken(error))
    text = "".join(pieces)
    fault = fault_in_text(text)
    return Failure("row", 0, fault) if fault else text


def _spoken(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "needs too much memory"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return (str(error).splitlines() or [""])[0][:200].rstrip(".") or type(error).__name__


def _line(error: BaseException) -> int:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return (lines[-1] or 0) if lines else 0


def _in_child(sources: Sequence[str], jobs: Sequence[Job]) -> list[str | Failure]:
    kept = ("SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    surroundings = {name: os.environ[name] for name in kept if name in os.environ}
    surroundings["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    lines = [json.dumps([SECONDS, MEMORY_BYTES, list(sources)]), *(json.dumps(job) for job in jobs)]
    child = subprocess.run(
        [sys.executable, "-P", "-m", "tunesmith.data.sandbox"],
        input="\n".join(lines).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=surroundings,
        check=False,
    )
    answers = (json.loads(line) for line in child.stdout.split(b"\n")[:-1])
    return [answer if isinstance(answer, str) else Failure(*answer) for answer in answers]


def _limit_memory(size: int) -> None:
    try:
        import resource  # not on Windows
    except ImportError:
        return
    for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(kind, (limit, limit))


def _watch(seconds: float) -> None:
    """End this process after so many seconds of its own computing time, unless called again; 0: never."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # whose signal ends a process, even inside one long operation
    elif seconds:
        faulthandler.dump_traceback_later(seconds, exit=True)
    else:
        faulthandler.cancel_dump_traceback_later()


def _serve() -> None:
    """Be the child: read sources and jobs as JSON lines, write a line for each."""
    seconds, memory, sources = json.loads(sys.stdin.buffer.readline())
    _limit_memory(memory)

    def watched() -> Iterator[Job]:
        for line in sys.stdin.buffer:
            index, variables = json.loads(line)
            _watch(seconds)
            yield index, variables
            _watch(0)

    for result in _render_all(sources, watched()):
        answer = result if isinstance(result, str) else [result.kind, result.line, result.message]
        os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    _serve()
