"""How several tasks share the training: which are tuned on, how many examples of each, and which in which epoch.

Examples-proportional mixing with a cap and temperature-scaled mixing are those of C. Raffel et al., "Exploring the
limits of transfer learning with a unified text-to-text transformer", 2020 (arXiv 1910.10683), section 3.5.2. Holding
out whole families of tasks, and 30,000 rows and a cap of 3,000 for each, are those of J. Wei et al., "Finetuned
language models are zero-shot learners", 2022 (arXiv 2109.01652).
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.data.templates import catalog, count_forms, load_template
from tunesmith.errors import RecipeError
from tunesmith.forms import Form
from tunesmith.records import MixtureShare
from tunesmith.settings import MixtureSettings, SplitSettings, TaskSettings

WORKED_SHARE = 0.1  # of the groups of a held-out task: on its training side, for candidates with worked examples
WORKED_ROWS = 50  # and no more rows than these, unless ``mixture.limits`` says otherwise


def family_of(task: TaskSettings) -> str:
    """Return the family of a task: the one that it names, else its template of the catalog, else its own name."""
    catalogued = isinstance(task.template, str) and task.template in catalog()
    return task.family or (str(task.template) if catalogued else task.name)


def held_out(tasks: Sequence[TaskSettings], mixture: MixtureSettings | None) -> tuple[str, ...]:
    """Return the names of the tasks that nothing is tuned on: those named, and those of a named family."""
    named = set(mixture.held_out) if mixture else set()
    return tuple(task.name for task in tasks if task.name in named or family_of(task) in named)


def tuned_on(tasks: Sequence[TaskSettings], mixture: MixtureSettings | None) -> tuple[str, ...]:
    """Return the names of the tasks that are tuned on, in the order of the recipe."""
    return tunable(tasks, mixture)[: mixture.tasks if mixture else None]


def tunable(tasks: Sequence[TaskSettings], mixture: MixtureSettings | None) -> tuple[str, ...]:
    """Return the names of the tasks among which ``mixture.tasks`` takes the first: not held out, and with a weight."""
    out = held_out(tasks, mixture)
    weights = mixture.weights if mixture else {}
    return tuple(task.name for task in tasks if task.name not in out and (not weights or task.name in weights))


def scored(tasks: Sequence[TaskSettings], mixture: MixtureSettings | None) -> tuple[str, ...]:
    """Return the names of the tasks whose test rows are answered and scored."""
    if mixture is not None and mixture.scored == "held-out":
        return held_out(tasks, mixture)
    return tuple(task.name for task in tasks)


def own_split(
    task: TaskSettings, tasks: Sequence[TaskSettings], split: SplitSettings, mixture: MixtureSettings | None
) -> SplitSettings:
    """Return the split of one task: with the limit of its training rows, and no test rows unless they are scored.

    Nothing is trained on a held-out task or validated by it, so that its rows are test rows, but for a few that worked
    examples are taken from. Rows that other tasks are tuned on keep the sides that they have there.
    """
    if mixture is None:
        return split
    names = held_out(tasks, mixture)
    out = task.name in names
    limit = dict(split.limit)
    most = mixture.limits.get(task.name, WORKED_ROWS if out else mixture.limit)
    if most is not None:
        limit["train"] = min(most, limit.get("train", most))
    if task.name not in scored(tasks, mixture):
        limit["test"] = 0
    if out:
        limit["validation"] = 0
    read = {path for other in tasks if other.name not in names for path in other.paths()}
    apart = {"train": WORKED_SHARE, "validation": 0.0, "test": 1 - WORKED_SHARE}
    shares = apart if out and read.isdisjoint(task.paths()) else {}
    return split.model_copy(update={**shares, "limit": limit})


def in_forms(task: TaskSettings, shares: Mapping[Form, float]) -> TaskSettings:
    """Return a task whose forms are those that have a share: all that its template has, or those that it names.

    Raises:
        RecipeError: The template is not in the catalog, or has no phrasing of a form that the task names.
        DataError: The template does not parse.
    """
    if not shares:
        return task
    template = load_template(task)
    there = count_forms(template.phrasings)
    named = task.forms if "forms" in task.model_fields_set else tuple(there)
    wanted = [form for form in there if form in shares and form in named]
    return task.model_copy(update={"forms": tuple(dict.fromkeys((template.asked, *wanted)))})


def check_forms(tasks: Sequence[TaskSettings], shares: Mapping[Form, float]) -> None:
    """Refuse a share of a form in which no task can be asked.

    Args:
        tasks: Those of ``in_forms``.
        shares: Of the forms.

    Raises:
        RecipeError: Naming each such form.
    """
    problems = [
        f"mixture.forms: no task has a phrasing of the form {form} that it may use. Leave it out, or add it to the "
        "template or to the `forms` of a task."
        for form in shares
        if not any(form in task.forms for task in tasks)
    ]
    if problems:
        raise RecipeError(problems)


def mix(tasks: Sequence[TaskSettings], mixture: MixtureSettings, counts: Mapping[str, int]) -> tuple[MixtureShare, ...]:
    """Return what each task adds to an epoch.

    A task with n training examples has the rate min(n, cap) ** (1 / temperature); a weight stands in place of
    min(n, cap). The examples of an epoch are divided in proportion to the rates, and what is left over by rounding down
    goes to the largest remainders; of equals, to the task that comes first.

    Args:
        tasks: Of the recipe.
        mixture: Of a candidate.
        counts: Training examples of each task.
    """
    tuned = tuned_on(tasks, mixture)
    there = {task.name: counts.get(task.name, 0) if task.name in tuned else 0 for task in tasks}
    sizes = {name: min(count, mixture.cap) for name, count in there.items()}
    parts = {name: mixture.weights.get(name, size) for name, size in sizes.items() if size}
    rates = {**dict.fromkeys(sizes, 0.0), **_rates(parts, mixture.temperature)}
    quotas = apportioned(mixture.examples or sum(sizes.values()), rates)
    out = held_out(tasks, mixture)
    return tuple(
        MixtureShare(
            task=task.name,
            family=family_of(task),
            rows=counts.get(task.name, 0),
            per_epoch=quotas[task.name],
            held_out=task.name in out,
        )
        for task in tasks
    )


def _rates(parts: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Return parts to the power of 1/temperature, the largest of them 1, so that no number is too large."""
    largest = math.log(max(parts.values(), default=1.0))
    return {name: math.exp((math.log(part) - largest) / temperature) for name, part in parts.items()}


def apportioned(total: int, rates: Mapping[str, float]) -> dict[str, int]:
    """Divide a whole number in proportion to rates, by the largest remainders.

    >>> apportioned(10, {"a": 1.0, "b": 1.0, "c": 1.0})
    {'a': 4, 'b': 3, 'c': 3}
    >>> apportioned(5, {"a": 0.0, "b": 0.0})
    {'a': 0, 'b': 0}
    """
    largest = max(rates.values(), default=0.0)
    if not largest:
        return dict.fromkeys(rates, 0)
    scaled = {name: rate / largest for name, rate in rates.items()}  # whose sum is a number, however large they are
    whole = math.fsum(scaled.values())
    exact = {name: total * rate / whole for name, rate in scaled.items()}
    found = {name: math.floor(round(value, 9)) for name, value in exact.items()}  # 2.9999999999999996 is 3
    left = total - sum(found.values())
    for name in sorted(rates, key=lambda name: found[name] - exact[name])[:left]:
        found[name] += 1
    return found


@dataclass(frozen=True, slots=True)
class Draw:
    """Which examples stand in which epoch; nothing but numbers, whatever the examples are."""

    quotas: Mapping[str, int]  # task -> examples of an epoch
    places: Mapping[str, Sequence[int]]  # task -> the places of its examples among all
    seed: int

    @classmethod
    def among(cls, tasks: Sequence[str], quotas: Mapping[str, int], *, seed: int) -> "Draw":
        """Return the draw among examples of which the tasks are known.

        Args:
            tasks: Of each example.
            quotas: Examples of an epoch, for each task; one that has no example gives none.
            seed: The recipe's.
        """
        places: dict[str, list[int]] = {task: [] for task in quotas}
        for place, task in enumerate(tasks):
            if task in places:
                places[task].append(place)
        return cls({task: quota for task, quota in quotas.items() if places[task]}, places, seed)

    def epoch(self, number: int) -> list[int]:
        """Return the places of the examples of one epoch, task by task.

        Each task goes through its examples again and again, each time in another order drawn from (seed, task, pass),
        and an epoch takes up where the one before left off. So of two examples of a task none is ever seen more than
        once oftener than the other, and an epoch depends on nothing but its number.
        """
        return [place for task, quota in self.quotas.items() for place in self._of(task, quota, number)]

    def _of(self, task: str, quota: int, epoch: int) -> list[int]:
        own = self.places[task]
        begin, found = epoch * quota, list[int]()
        for turn in range(begin // len(own), -(-(begin + quota) // len(own))):
            order = list(range(len(own)))
            random.Random(f"{self.seed}/{task}/{turn}").shuffle(order)
            first, last = max(begin - turn * len(own), 0), min(begin + quota - turn * len(own), len(own))
            found += [own[place] for place in order[first:last]]
        return found
