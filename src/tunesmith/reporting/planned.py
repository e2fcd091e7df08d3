"""A plan as people read it: a line before a run, tables for a terminal or a pipe, and beside what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from tunesmith.plan_records import CandidatePlan, Fit, Plan, StagePlan
from tunesmith.reporting.contents import Report
from tunesmith.reporting.terminal import print_rows
from tunesmith.wording import NONE, count, duration, share, size

HEADER = ("candidate", "trainable", "training", "validating", "answering", "peak training", "peak answering", "on disk")


def outlook(plan: Plan) -> str:
    """Return what a run is expected to take, in one line."""
    seconds = sum(total_seconds(one) for one in plan.candidates)
    peak = max(stage.peak for one in plan.candidates for _, stage in stages(one))
    return f"plan: about {duration(seconds)} and at most {size(peak)} of memory; `tunesmith plan` says more"


def total_seconds(one: CandidatePlan) -> float:
    """Return the seconds of training, validating and answering."""
    return (one.train.seconds if one.train else 0.0) + one.validating + one.answer.seconds


def stages(one: CandidatePlan) -> tuple[tuple[str, StagePlan], ...]:
    """Return training, where there is some, and answering, each with its name."""
    answering = ("answering", one.answer)
    return (("training", one.train), answering) if one.train else (answering,)


def print_plan(plan: Plan, console: Console) -> None:
    """Print what each candidate takes, its memory by part, what does not fit, and what would."""
    print_rows([HEADER, *map(_costs, plan.candidates)], console)
    console.print()
    print_rows(_parts(plan.candidates), console)
    console.print()
    total = duration(sum(total_seconds(one) for one in plan.candidates))
    free = f"; {size(plan.free)} are free beside the program" if plan.free else ""
    _line(console, f"All together {total}{free}. Measured on this machine on {plan.calibrated[:10]}.")
    for one in plan.candidates:
        if one.advice and one.train:
            _line(console, f"{one.name} does not fit: training needs {size(one.train.needed)}. {one.advice}")
        if plan.free and one.answer.needed > plan.free:
            _line(
                console,
                f"{one.name} does not fit: answering needs {size(one.answer.needed)}. Lower "
                "generate.tokens_per_batch, or take a smaller model.",
            )
    if plan.fits:
        console.print()
        _line(console, "Peak of training by method, tokens of an example, and examples at once; ! does not fit:")
        print_rows(_fitting(plan.fits), console)
    for note in plan.notes:
        _line(console, note)


def _line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _costs(one: CandidatePlan) -> list[str]:
    trained = one.train
    return [
        one.name,
        f"{count(one.trainable)} ({share(one.trainable, one.total)})" if trained else "0",
        f"{duration(trained.seconds)}, {trained.steps} steps" if trained else NONE,
        duration(one.validating) if one.validating else NONE,
        duration(one.answer.seconds),
        size(trained.peak) if trained else NONE,
        size(one.answer.peak),
        f"{size(one.disk)}, {size(one.working_disk)} meanwhile" if trained else NONE,
    ]


def _parts(candidates: Sequence[CandidatePlan]) -> list[list[str]]:
    rows = [(f"{one.name} {what}", stage) for one in candidates for what, stage in stages(one)]
    names = list(dict.fromkeys(name for _, stage in rows for name in stage.parts))
    header = ["memory by part", *names, "peak", "at"]
    return [
        header,
        *(
            [title, *(size(stage.parts[name]) if name in stage.parts else NONE for name in names), size(stage.peak),
             stage.moment]
            for title, stage in rows
        ),
    ]  # fmt: skip


def _fitting(fits: Sequence[Fit]) -> list[list[str]]:
    counts = list(dict.fromkeys(one.examples for one in fits))
    cells = {(one.method, one.length, one.examples): f"{size(one.peak)}{' ' if one.fits else '!'}" for one in fits}
    rows = list(dict.fromkeys((one.method, one.length) for one in fits))
    lines = [[method, str(length), *(cells[method, length, n] for n in counts)] for method, length in rows]
    return [["method", "tokens", *(f"{n} at once" for n in counts)], *lines]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One stage of one candidate, planned and measured."""

    candidate: str
    stage: str
    seconds: tuple[float, float]  # planned, measured
    peak: tuple[int, int]  # bytes: planned, measured


def plan_rows(report: Report) -> tuple[PlanRow, ...]:
    """Return what was planned beside what was measured, where there are both."""
    rows = []
    for one in report.candidates:
        done = {"training": one.train, "answering": one.predict}
        for what, stage in stages(one.plan) if one.plan else ():
            if found := done[what]:
                seconds, peak = (stage.seconds, found.seconds), (stage.peak, found.peak_bytes)
                rows.append(PlanRow(one.name, what, seconds, peak))
    return tuple(rows)
