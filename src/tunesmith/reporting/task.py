"""What the report says about one task: rows side by side, lengths, chosen answers."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tunesmith.mixtures import tuned_tasks
from tunesmith.records import Comparison, Example, Prediction, ScoreSheet, Split
from tunesmith.reporting.contents import Answer, ChoiceCount, ExampleRow, Lengths, SplitSummary, TaskReport
from tunesmith.settings import Recipe
from tunesmith.wording import share

LENGTH_BINS = 24
MANY_CUT = 0.2  # share of the answers of one candidate to one task


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of one candidate to one task, by example id."""

    candidate: str
    task: str
    by_id: dict[str, Prediction]


def task_report(
    task: str,
    examples: Sequence[Example],
    *,
    answers: Sequence[Answers],
    sheets: Sequence[ScoreSheet],
    comparisons: Sequence[Comparison],
) -> TaskReport:
    """Put the answers and scores of all candidates on one task beside each other.

    Args:
        task: name of the task.
        examples: its test examples, in file order.
        answers: one entry per candidate, in the order of the recipe.
        sheets: the score sheets that exist, in the order of the recipe.
        comparisons: all comparisons of this task.
    """
    closed = bool(examples) and all(example.choices for example in examples)
    edges = () if closed else length_edges([len(example.target.split()) for example in examples], answers)
    return TaskReport(
        task=task,
        scores={sheet.candidate: sheet.scores for sheet in sheets},
        comparisons=tuple(comparisons),
        length_edges=edges,
        target_lengths=histogram([len(example.target.split()) for example in examples], edges),
        lengths=() if closed else tuple(_lengths(examples, given, edges) for given in answers if given.by_id),
        choices=_choices(examples, answers) if closed else (),
        examples=_rows(examples, answers, sheets),
    )


def cut_off_sentence(tasks: Sequence[TaskReport]) -> tuple[str, ...]:
    """Say of which candidates so many answers reached the token limit that it decides their scores."""
    found = []
    for task in (task for task in tasks if task.scores):
        many = [one for one in task.lengths if one.cut_off >= MANY_CUT * one.n > 0]
        named = ", ".join(f"{one.candidate} {share(one.cut_off, one.n)}" for one in many)
        found += [f"in {task.task} {named}" if len(tasks) > 1 else named] if many else []
    return (f"Answers were cut off at max_new_tokens: {'; '.join(found)}. Raise it in the recipe.",) if found else ()


def split_summary(recipe: Recipe, task: str, split: Split, examples: Sequence[Example]) -> SplitSummary:
    """Count one split: examples, groups, and words (median and 95th percentile) of prompts and targets.

    Args:
        recipe: Of the run; says what each split is used for.
        task: Name of the task.
        split: Name of the split.
        examples: Of this task and this split.
    """
    return SplitSummary(
        task=task,
        split=split,
        used=used_for(recipe, task, split) if examples else "not scored" if split == "test" else "",
        examples=len(examples),
        groups=len({example.group or example.id for example in examples}),
        prompt_words=_middle_and_high([len(example.prompt.split()) for example in examples]),
        target_words=_middle_and_high([len(example.target.split()) for example in examples]),
    )


def used_for(recipe: Recipe, task: str, split: Split) -> str:
    """Return what the examples of a task in one split are for, in words."""
    if split == "test":
        return "scores"
    tuned = [name for name, candidate in recipe.candidates.items() if candidate.method != "none"]
    on_it = [name for name in tuned if task in tuned_tasks(recipe, name)]
    said = ["tuning" if on_it == tuned else f"tuning of {', '.join(on_it)}"] if on_it else []
    if split == "train" and any(candidate.shots for candidate in recipe.candidates.values()):
        said.append("worked examples")
    return ", ".join(said) or "nothing is tuned on it"


def length_edges(targets: Sequence[int], answers: Sequence[Answers]) -> tuple[int, ...]:
    """Return bin edges in words, equally wide, up to where 99 % of the answers of every candidate end."""
    ends = [_quantile(targets, 0.99)]
    for given in answers:
        ends.append(_quantile([len(answer.text.split()) for answer in given.by_id.values()], 0.99))
    width = max(1, -(-(int(max(ends)) + 1) // LENGTH_BINS))
    return tuple(range(0, width * LENGTH_BINS + 1, width))


def histogram(lengths: Sequence[int], edges: Sequence[int]) -> tuple[int, ...]:
    """Count lengths per bin; what lies above the last edge is in the last bin."""
    counts = [0] * max(0, len(edges) - 1)
    for length in lengths if counts else ():
        counts[min(bisect_right(edges, length) - 1, len(counts) - 1)] += 1
    return tuple(counts)


def _lengths(examples: Sequence[Example], given: Answers, edges: Sequence[int]) -> Lengths:
    answered = [(example, given.by_id[example.id]) for example in examples if example.id in given.by_id]
    words = [len(answer.text.split()) for _, answer in answered]
    target_words = sum(len(example.target.split()) for example, _ in answered)
    return Lengths(
        candidate=given.candidate,
        n=len(words),
        median=median(words) if words else 0,
        ratio=sum(words) / target_words if target_words else None,
        empty=sum(not answer.text.strip() for _, answer in answered),
        cut_off=sum(answer.finish == "length" for _, answer in answered),
        histogram=histogram(words, edges),
    )


def _choices(examples: Sequence[Example], answers: Sequence[Answers]) -> tuple[ChoiceCount, ...]:
    allowed = dict.fromkeys(choice for example in examples for choice in example.choices)
    counts = []
    for choice in allowed:
        chosen, right = {}, {}
        for given in answers:
            hits = [e for e in examples if e.id in given.by_id and given.by_id[e.id].text == choice]
            chosen[given.candidate] = len(hits)
            right[given.candidate] = sum(choice in example.references for example in hits)
        wanted = sum(example.target == choice for example in examples)
        counts.append(ChoiceCount(choice=choice, wanted=wanted, chosen=chosen, right=right))
    return tuple(counts)


def _rows(
    examples: Sequence[Example], answers: Sequence[Answers], sheets: Sequence[ScoreSheet]
) -> tuple[ExampleRow, ...]:
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for sheet in sheets:
        for place, example_id in enumerate(sheet.example_ids):
            values = {metric: values[place] for metric, values in sheet.per_example.items()}
            scores[sheet.candidate, example_id] = values
    return tuple(
        ExampleRow(
            id=example.id,
            history=example.history,
            prompt=example.prompt,
            references=example.references,
            answers={
                given.candidate: _answer(given.by_id[example.id], scores.get((given.candidate, example.id), {}))
                for given in answers
                if example.id in given.by_id
            },
        )
        for example in examples
    )


def _answer(prediction: Prediction, scores: dict[str, float]) -> Answer:
    return Answer(
        text=prediction.text,
        finish=prediction.finish,
        new_tokens=prediction.new_tokens,
        shots=prediction.shots,
        words=len(prediction.text.split()),
        scores=scores,
    )


def _quantile(values: Sequence[int], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0


def _middle_and_high(values: Sequence[int]) -> tuple[float, float]:
    return (median(values), _quantile(values, 0.95)) if values else (0, 0)
