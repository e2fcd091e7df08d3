"""Which suites there are, and which of the harness's tasks each of them has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from tunesmith.errors import ResourceError, UsageError, did_you_mean

TASK = re.compile(r"^\"?task\"?: *\"?([\w.-]+)", re.MULTILINE)
INSTALL = "pip install -c constraints.txt '.[bench]'"


@dataclass(frozen=True, slots=True)
class Suite:
    """A set of tasks that belong together."""

    name: str
    data: str  # folder of local data
    pattern: str  # of its tasks in the harness's own folder of tasks
    prefixes: tuple[str, ...]  # that the harness puts before the names of tasks
    group: str  # file in which the harness says how the tasks make one number; empty: it does not
    about: str


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("glue", "glue", "glue/*/*.yaml", (), "", "nine tasks of sentences and pairs of them; validation items"),
        Suite(
            "superglue", "superglue", "super_glue/*/default.yaml", ("sglue_",), "",
            "eight harder tasks of the same kind; validation items",
        ),
        Suite(
            "mmlu", "mmlu", "mmlu/default/mmlu_*.yaml", ("mmlu_",), "mmlu/default/_mmlu.yaml",
            "multiple choice in 57 subjects of school and work",
        ),
        Suite(
            "bbh", "bbh", "bbh/cot_fewshot/[a-z]*.yaml", ("bbh_cot_fewshot_",), "bbh/cot_fewshot/_bbh.yaml",
            "BIG-bench Hard, 27 tasks: three worked chains of thought, then one to write",
        ),
        Suite(
            "bbh-direct", "bbh", "bbh/zeroshot/[a-z]*.yaml", ("bbh_zeroshot_",), "bbh/zeroshot/_bbh_zeroshot.yaml",
            "the same questions without worked examples; the answer is looked for in up to 256 tokens",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chosen:
    """A suite, and those of its tasks that are to be run."""

    suite: Suite
    tasks: tuple[str, ...]  # names within the suite
    whole: bool  # the suite was named, and not single tasks


def harness_version() -> str:
    """Return the installed version of lm-evaluation-harness.

    Raises:
        ResourceError: It is not installed.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError:
        raise ResourceError(
            "benchmark suites need lm-evaluation-harness, which is not installed. In the folder of tunesmith's source: "
            f"{INSTALL}"
        ) from None


def task_files(suite: Suite) -> dict[str, Path]:
    """Return the tasks of a suite with the files in which the harness defines them."""
    found = ((_name(suite, path), path) for path in sorted(harness_tasks().glob(suite.pattern)))
    return {name: path for name, path in found if name}


def harness_tasks() -> Path:
    """Return the folder of tasks that comes with the harness; finding it imports nothing."""
    harness_version()
    spec = find_spec("lm_eval")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tasks"


def choose(names: Sequence[str]) -> tuple[Chosen, ...]:
    """Return what is to be run: each name is a suite, or one task of it as ``superglue/boolq``.

    Raises:
        UsageError: A name is neither.
        ResourceError: The harness is not installed.
    """
    problems = []
    wanted: dict[str, list[str]] = {}
    for name in names:
        suite, _, task = name.partition("/")
        if suite not in SUITES:
            known = ", ".join(SUITES)
            problems.append(f'"{suite}" is no suite.{did_you_mean(suite, list(SUITES))} Known: {known}.')
            continue
        there = list(task_files(SUITES[suite]))
        if task and task not in there:
            problems.append(f'{suite} has no task "{task}".{did_you_mean(task, there)} It has {", ".join(there)}.')
            continue
        wanted.setdefault(suite, []).extend([task] if task else there)
    if problems:
        raise UsageError(problems)
    whole = set(names)
    return tuple(
        Chosen(SUITES[suite], tuple(dict.fromkeys(tasks)), suite in whole) for suite, tasks in wanted.items()
    )  # fmt: skip


def _name(suite: Suite, path: Path) -> str:
    """Return the name of a task within its suite, which its file says without being loaded; empty for other files."""
    said = TASK.search(path.read_text(encoding="utf-8"))
    name = said[1] if said else ""
    for prefix in suite.prefixes:
        name = name.removeprefix(prefix)
    return name
