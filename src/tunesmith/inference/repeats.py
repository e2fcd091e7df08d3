"""What an answer that repeats itself will say next.

A model that was not tuned for its task often says the same again and again, up to the last token that it may write.
What it said after the same words before is guessed to come once more, and the model looks at a guess of several tokens
in one call. It keeps those that it would have written (Leviathan and others 2023, "Fast Inference from Transformers via
Speculative Decoding"; the guesses are those of Saxena 2023, "Prompt Lookup Decoding"), so that answers stay the same.
"""

from collections.abc import Sequence

ALIKE = 8  # tokens that must have stood in a row before
FIRST, MOST = 2, 8  # tokens of a guess: of the first one, and after guesses that were right


class Repeats:
    """Guesses for one answer.

    Args:
        answer: That grows, and is not changed here.
    """

    def __init__(self, answer: Sequence[int]) -> None:
        self.answer = answer
        self.after: dict[tuple[int, ...], int] = {}  # tokens in a row -> where the token after them stands
        self.before: int | None = None  # where that was the last time, for the newest ones
        self.length = FIRST

    def note(self) -> None:
        """Take notice of the newest token."""
        newest = tuple(self.answer[-ALIKE:])
        if len(newest) == ALIKE:
            self.before = self.after.get(newest)
            self.after[newest] = len(self.answer)

    def guess(self, most: int) -> list[int]:
        """Return the tokens that may come next, at most so many.

        >>> answer = []
        >>> repeats = Repeats(answer)
        >>> for token in [1, 2, 3, 4, 5, 6, 7, 8, 9] * 2:
        ...     answer.append(token)
        ...     repeats.note()
        >>> repeats.guess(5)
        [1, 2]
        """
        if self.before is None:
            return []
        period = len(self.answer) - self.before
        return [self.answer[self.before + n % period] for n in range(min(self.length, most))]

    def judge(self, *, right: bool) -> None:
        """Be bolder after a guess that was right as a whole."""
        self.length = min(2 * self.length, MOST) if right else FIRST
