"""What can go wrong, as a user sees it.

A ``UserError`` is something that the person at the keyboard can mend. Its text says where, what and how to
mend it; the command line prints it without a traceback and exits with the code of its kind::

    UserError            1   the run failed
    ├── UsageError       2   the command was called wrongly
    ├── RecipeError      3   the recipe asks for something that cannot be
    ├── DataError        4   the rows, the templates or the splits cannot be used
    ├── ResourceError    5   memory, disk or network are not enough
    ├── RefusedError     6   refused for safety
    ├── GateError        7   a check that must hold did not
    └── Interrupted     75   stopped on request; the same command goes on

Any other exception that reaches the user is a bug in tunesmith.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class UserError(Exception):
    """Something the user can mend; ``problems`` holds one line for each thing found wrong."""

    exit_code = 1

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class UsageError(UserError):
    """The command was called wrongly."""

    exit_code = 2


class RecipeError(UserError):
    """The recipe asks for something that cannot be."""

    exit_code = 3


class DataError(UserError):
    """The rows, the templates or the splits cannot be used."""

    exit_code = 4


class ResourceError(UserError):
    """Memory, disk or network are not enough."""

    exit_code = 5


class RefusedError(UserError):
    """Refused because doing it could run foreign code or write where it must not."""

    exit_code = 6


class GateError(UserError):
    """A check that must hold before a result may be used did not hold."""

    exit_code = 7


class Interrupted(UserError):
    """Stopped on request after saving; the same command goes on from there."""

    exit_code = 75


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return ``' Did you mean "x"?'`` for the nearest known word, or an empty string.

    >>> did_you_mean("lorra", ["full", "lora"])
    ' Did you mean "lora"?'
    >>> did_you_mean("zzz", ["full", "lora"])
    ''
    """
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else ""
