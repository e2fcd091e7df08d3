"""A process that trains in children which may be killed: it imports everything once and forks for each training.

Started by ``Trainer``; speaks JSON lines. It never computes anything itself, so that its children start with a clean
torch, and a child that is killed takes nothing with it.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DISK = (
    "os:mkdir", "os:rename", "os:replace", "os:fsync", "os:rmdir", "os:unlink", "os:ftruncate",
    "tunesmith.training.checkpoint:save_file", "pathlib:Path.write_text",
)  # fmt: skip
"""Everything by which training changes the disk, but for the lines of train.jsonl."""


class Trainer:
    """The forking process, as the tests see it."""

    def __init__(self) -> None:
        self.ready = False
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONHASHSEED": "77"},
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until everything is imported."""
        assert self.process.stdout
        if not self.ready:
            assert self.process.stdout.readline() == "ready\n"
            self.ready = True

    def ask(self, **task: Any) -> dict[str, Any]:
        """Let a child do a task; return what became of it: ``status`` (exit code, or minus a signal) and ``said``."""
        assert self.process.stdin
        assert self.process.stdout
        self.wait()
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def tune(self, model: Path, where: Path, *, recipe: dict[str, Any], **how: Any) -> dict[str, Any]:
        """Train one candidate.

        Args:
            model: Folder of the base.
            where: Folder of the candidate.
            recipe: Arguments of ``workshop.recipe``, with ``train_rows`` and ``validation_rows``.
            how: ``strike``: {"at": names, "call": n, "after": bool, "signal": number} sends itself a signal at the
                n-th call of one of these functions. ``kill_after``: seconds until it is killed from outside.
        """
        return self.ask(action="tune", model=str(model), where=str(where), recipe=recipe, **how)

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def strike(at: Sequence[str], call: int, *, after: bool = False, number: int = signal.SIGKILL) -> None:
    """Make this process signal itself at the ``call``-th call of one of the functions."""
    count = [0]
    for name in at:
        module, _, way = name.partition(":")
        *parents, last = way.split(".")
        owner: Any = importlib.import_module(module)
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, _struck(getattr(owner, last), count, call, after=after, number=number))


def _struck(real: Callable[..., Any], count: list[int], call: int, *, after: bool, number: int) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        count[0] += 1
        now = count[0] == call
        if now and not after:
            os.kill(os.getpid(), number)
        result = real(*arguments, **options)
        if now and after:
            os.kill(os.getpid(), number)
        return result

    return wrapped


def _tune(task: dict[str, Any]) -> int:
    from workshop import ingredients, recipe

    from tunesmith.errors import UserError
    from tunesmith.rundir import CandidateDir
    from tunesmith.training.tune import tune

    wanted = dict(task["recipe"])
    rows, held_out = wanted.pop("train_rows", 16), wanted.pop("validation_rows", 0)
    where = CandidateDir(Path(task["where"]))
    if where.train_result.exists():
        return 0  # as the pipeline does: what is finished is not done again
    os.fsync = lambda handle: None  # a kill takes nothing from the kernel, and waiting for the disk would take long
    if "strike" in task:
        strike(**task["strike"])
    given = ingredients(recipe(wanted.pop("candidate"), **wanted), Path(task["model"]), train=rows, validation=held_out)
    try:
        tune(given, "tuned", where)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _order(task: dict[str, Any]) -> int:
    from tunesmith.training.batches import epoch_steps

    print(epoch_steps(**task["arguments"]), file=sys.stderr)
    return 0


def _child(task: dict[str, Any], said: Path) -> None:
    with said.open("w", encoding="utf-8") as out:
        os.dup2(out.fileno(), 2)
    code = 1
    try:
        code = {"tune": _tune, "order": _order}[task["action"]](task)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


def _serve() -> None:
    import tempfile

    import torch
    from workshop import ingredients  # noqa: F401 imported before the first fork, so that children need not

    from tunesmith.models.load import quiet

    importlib.import_module("tunesmith.training.tune")
    importlib.import_module("peft")
    importlib.import_module("transformers.models.llama.modeling_llama")
    importlib.import_module("transformers.models.t5.modeling_t5")
    # A table that transformers makes, and keeps, when it first loads a model: half a second that no child need spend.
    mapping = importlib.import_module("transformers.conversion_mapping")
    getattr(mapping, "get_checkpoint_conversion_mapping", lambda kind: None)("llama")
    quiet()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    said = Path(tempfile.mkdtemp()) / "stderr"
    print("ready", flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            _child(task, said)
        if "kill_after" in task:
            time.sleep(task["kill_after"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "said": said.read_text(encoding="utf-8")}
        print(json.dumps(answer), flush=True)
    os._exit(0)  # taking torch down in good order would take seconds


if __name__ == "__main__":
    _serve()
