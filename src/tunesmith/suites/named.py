"""Benchmark suites that a recipe names under ``forgetting``: asked after tuning, kept as by ``tunesmith bench``."""

import re
from pathlib import Path

from tunesmith.errors import DataError, RecipeError, UsageError, UserError
from tunesmith.models.catalog import fingerprint
from tunesmith.opening import Run, check_seal, timed
from tunesmith.progress import say
from tunesmith.records import RunRecord
from tunesmith.rundir import read_record
from tunesmith.steps import check_tuned, is_tuned
from tunesmith.suites.bench import BASE, ask_suites, prepare_suites
from tunesmith.suites.catalog import choose, harness_version
from tunesmith.suites.request import Request, found_before, run_of

OPTION = re.compile("--(data|limit|shots|chat-template)")  # of the command, as its messages name them


def check_suites(job: Run, *, fetch: bool) -> None:
    """Read all that the suites of a recipe ask and that is not answered yet, before anything heavy has begun.

    Args:
        job: Any run that is open.
        fetch: Whether data sets may come from the hub; else only the names of such suites are checked.

    Raises:
        ResourceError: The harness is not installed.
        RecipeError: There is no such suite, a suite stands twice, or it cannot be asked like this.
        DataError: Nothing is wrong but that files are missing or are not what they should be.
    """
    problems = _name_problems(job)
    faults: list[str] = []
    left = _left(job)
    if left:
        harness_version()
    for place, request in left.items():
        try:
            if request.data or fetch:
                prepare_suites(request)
            else:
                choose(request.suites)
                say(f"check: the data of {request.suites[0]} come from the hub; `run` fetches them before it trains.")
        except DataError as error:
            faults += _in_words_of_a_recipe(error, place)
        except UsageError as error:
            problems += _in_words_of_a_recipe(error, place)
    if problems or faults:
        raise (RecipeError if problems else DataError)([*problems, *faults])


def bench_suites(job: Run) -> bool:
    """Put the suites of a recipe to the base and to all that was tuned from it; return whether any was asked."""
    left = _left(job)
    for name in _tuned(job) if left else ():
        check_tuned(job, name)
        check_seal(job, name)
    for place, request in left.items():
        with timed(job, f"bench {request.suites[0]}"):
            try:
                ask_suites(request, out=job.dir.root, go_on=True)
            except (UsageError, DataError, RecipeError) as error:
                raise type(error)(_in_words_of_a_recipe(error, place)) from None
    return bool(left)


def _left(job: Run) -> dict[int, Request]:
    """Return what is not answered yet, by its place under ``forgetting``."""
    return {place: request for place, request in _requests(job).items() if not _is_done(job, request)}


def _requests(job: Run) -> dict[int, Request]:
    recipe = job.recipe
    folder = job.base / Path(recipe.data.folder).expanduser()
    return {
        place: Request(
            suites=(one.suite,),
            model=recipe.model,
            adapters=tuple(job.dir.candidate(name).adapter for name in _tuned(job)),
            data=None if one.data is None else folder / Path(one.data).expanduser(),
            limit=one.limit,
            shots=one.shots,
            chat_template=one.chat_template,
            seed=recipe.seed,
            start=job.base,
        )
        for place, one in recipe.suites().items()
    }


def _tuned(job: Run) -> list[str]:
    return [name for name, candidate in job.recipe.candidates.items() if candidate.method != "none"]


def _is_done(job: Run, request: Request) -> bool:
    """Tell whether the base and all that is tuned now have answered what is asked now; needs no harness."""
    known = found_before(request, request.suites[0].partition("/")[0], out=job.dir.root)
    tuned = [job.dir.candidate(name) for name in _tuned(job)]
    if known is None or not all(map(is_tuned, tuned)):
        return False
    weights = {BASE: read_record(job.dir.record, RunRecord).model_hash}
    weights |= {where.root.name: fingerprint(where.adapter) for where in tuned}
    return all(run_of(known, name, model_hash) for name, model_hash in weights.items())


def _name_problems(job: Run) -> list[str]:
    """Return suites whose results would be one file, and a candidate that would be taken for the base."""
    first: dict[str, int] = {}
    problems = []
    for place, one in job.recipe.suites().items():
        suite = one.suite.partition("/")[0]
        if first.setdefault(suite, place) != place:
            problems.append(
                f"forgetting.{place}.suite: forgetting.{first[suite]} asks {suite} already, and a run keeps one result "
                "of a suite. Name the whole suite, or one task of it."
            )
    if first and BASE in _tuned(job):
        problems.append(
            f'candidates.{BASE}: "{BASE}" is what results of benchmark suites call the base. Give it another name.'
        )
    return problems


def _in_words_of_a_recipe(error: UserError, place: int) -> list[str]:
    """Name the keys of the recipe where messages name options of the command.

    >>> _in_words_of_a_recipe(UserError(["--shots 6: there are 5.", "Ask for fewer, or leave --chat-template out."]), 2)
    ['forgetting.2.shots: 6: there are 5.', 'forgetting.2: Ask for fewer, or leave chat_template out.']
    """
    found = []
    for problem in error.problems:
        option, _, rest = problem.partition(" ")
        first = OPTION.fullmatch(option.removesuffix(":"))
        key, said = (f".{_key(first)}", rest) if first else ("", problem)
        found.append(f"forgetting.{place}{key}: {OPTION.sub(_key, said)}")
    return found


def _key(option: re.Match[str]) -> str:
    return option[1].replace("-", "_")
