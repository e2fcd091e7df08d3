"""Which side a row is on: by hash of its group, so that adding rows moves none that are there.

A group's side depends on three things only: its key, the seed and the shares. The test part has the lowest hashes and
the validation part the next, so a larger training share takes no row out of the test part into training.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from tunesmith.data.characters import is_empty
from tunesmith.data.rows import NAMED, SPLITS, Row, Rows
from tunesmith.data.wording import input_text, normalised
from tunesmith.errors import DataError, did_you_mean
from tunesmith.records import Split
from tunesmith.settings import SplitSettings
from tunesmith.wording import many

ORDER: tuple[Split, ...] = ("test", "validation", "train")
SPARE = 1000  # rows that are held beyond twice a limit before they are sorted
SPLIT_COLUMN = "split"  # used without being named when all of its values say a side


@dataclass(frozen=True, slots=True)
class Placed:
    """A row with its side."""

    id: str  # "summarize/test/chats.csv:214"
    task: str
    row: Row
    split: Split
    group: str  # rows of one group are resampled together
    words: str  # its input, normalised


def assign_split(
    rows: Rows, settings: SplitSettings, *, inputs: Sequence[str], seed: int, needed: Collection[Split] = ORDER
) -> tuple[tuple[Placed, ...], tuple[str, ...]]:
    """Give every row its side.

    Sides that files or a column give are kept. What they do not give is taken from their training rows by hash, in
    the shares of the settings. Afterwards each side is cut to its limit, by hash of the row.

    Args:
        rows: Of one task.
        settings: Shares, group column, split column, limits.
        inputs: Columns whose text is the group key when no group column is named.
        seed: Of the recipe.
        needed: Sides that must have rows if they have a share.

    Returns:
        The placed rows in the order of ``rows``, and notes.

    Raises:
        DataError: Shares that are all 0, columns that are not there, values that name no side, a side without rows,
            two rows of one id.
    """
    notes: list[str] = []
    _check_settings(rows, settings)
    given = _given(rows, settings, notes)
    shares = _shares(settings, {side for side in given if side})
    kept = _Kept(settings, seed)
    ungrouped = 0
    for row, said in zip(rows.rows, given, strict=True):
        words = normalised(input_text(row, inputs))
        value = row.values.get(settings.group) if settings.group else None
        alone = is_empty(value)
        ungrouped += alone
        group = sha256(words.encode()).hexdigest()[:16] if alone else str(value).strip()
        side = _side(group, shares, seed) if said in {None, "train"} else said
        name = f"{rows.task.name}/{side}/{row.place}"
        kept.add(Placed(name, rows.task.name, row, side, group, words))
    if settings.group and ungrouped:
        notes.append(
            f'task "{rows.task.name}": {many(ungrouped, "row")} with an empty {settings.group}; each is a group by '
            "its own text"
        )
    placed = kept.all()
    _check_ids(placed)
    _note_crossing(placed, notes)
    check_sides(rows.task.name, placed, settings=settings, needed=needed)
    notes += kept.notes(rows.task.name)
    return placed, tuple(notes)


def check_sides(
    task: str, placed: Sequence[Placed], *, settings: SplitSettings, after: str = "", needed: Collection[Split] = ORDER
) -> None:
    """Raise a DataError for each side that should have rows and has none."""
    shares: dict[Split, float] = {"train": settings.train, "validation": settings.validation, "test": settings.test}
    counted = Counter(item.split for item in placed)
    groups = len({item.group for item in placed})
    problems = [
        f'task "{task}": no row is left for {side}{after}: {many(len(placed), "row")} in '
        f"{many(groups, 'group')}, and a share of {shares[side]:g}. Add rows, raise `split.{side}`, choose another "
        f"seed, or give a file for it: `source: {{{side}: FILE}}`."
        for side in reversed(ORDER)
        if side in needed and shares[side] > 0 and not counted[side] and settings.limit.get(side) != 0
    ]
    if problems:
        raise DataError(problems)


def _check_settings(rows: Rows, settings: SplitSettings) -> None:
    problems: list[str] = []
    if settings.train + settings.validation + settings.test == 0:
        problems.append("split.train, split.validation and split.test are all 0. Give at least train a share.")
    problems += [
        f"split.limit.{side} is {limit}. Write how many rows to keep, or leave it out."
        for side, limit in settings.limit.items()
        if limit < 0
    ]
    named = settings.group is not None or settings.column is not None
    columns = sorted({name for row in rows.rows for name in row.values}) if named else []
    problems += [
        f'split.{field} is "{name}", and the rows of task "{rows.task.name}" have no such column; they have '
        f"{', '.join(columns)}.{did_you_mean(name, columns)}"
        for field, name in (("group", settings.group), ("column", settings.column))
        if name is not None and name not in columns
    ]
    if problems:
        raise DataError(problems)


def _given(rows: Rows, settings: SplitSettings, notes: list[str]) -> list[Split | None]:
    """Return the side that a file or the split column gives each row."""
    if any(row.split for row in rows.rows):
        if settings.column:
            notes.append(f'task "{rows.task.name}": files give the split; column {settings.column} is not used')
        return [row.split for row in rows.rows]
    column = settings.column or SPLIT_COLUMN
    if settings.column is None and any(_said(row, column) is None for row in rows.rows):
        return [None] * len(rows.rows)
    found = [_said(row, column) for row in rows.rows]
    if settings.column is None:
        notes.append(f'task "{rows.task.name}": column {SPLIT_COLUMN} gives the split')
    elif None in found:
        unknown = [row for row, side in zip(rows.rows, found, strict=True) if side is None]
        raise DataError(_unknown_sides(rows.task.name, column, unknown))
    return found


def _said(row: Row, column: str) -> Split | None:
    return SPLITS.get(str(row.values.get(column)).strip().lower())


def _unknown_sides(task: str, column: str, unknown: Sequence[Row]) -> list[str]:
    more = [f"... and {len(unknown) - NAMED} more."] if len(unknown) > NAMED else []
    return [
        f'task "{task}": column "{column}" must say train, validation or test; in '
        f"{many(len(unknown), 'row')} it does not.",
        *(f"{row.place}: {row.values.get(column)!r}" for row in unknown[:NAMED]),
        *more,
    ]


def _shares(settings: SplitSettings, given: set[Split]) -> dict[Split, float]:
    """Return the shares of what is still to be divided; with sides given, the training rows are."""
    shares: dict[Split, float] = {"test": settings.test, "validation": settings.validation, "train": settings.train}
    left = {side: share for side, share in shares.items() if side == "train" or side not in given}
    total = sum(left.values())
    return {side: share / total for side, share in left.items()} if total else {"train": 1.0}


def _side(key: str, shares: Mapping[Split, float], seed: int) -> Split:
    at = int.from_bytes(sha256(f"{seed}\n{key}".encode()).digest()[:8], "big") / 2**64
    for side in ORDER:
        at -= shares.get(side, 0.0)
        if at < 0:
            return side
    return "train"


def _check_ids(placed: Sequence[Placed]) -> None:
    """Refuse two rows of one id: answers and leaks are known by it."""
    twice = sorted(name for name, count in Counter(item.id for item in placed).items() if count > 1)
    if twice:
        raise DataError(
            f'task "{placed[0].task}": several rows have the same id, for instance {twice[0]}. Write the table with '
            "one object a line (.jsonl)."
        )


def _note_crossing(placed: Sequence[Placed], notes: list[str]) -> None:
    sides: dict[str, set[Split]] = defaultdict(set)
    for item in placed:
        sides[item.group].add(item.split)
    crossing = sorted(group for group, on in sides.items() if len(on) > 1)
    if crossing:
        notes.append(
            f'task "{placed[0].task}": the given split puts {many(len(crossing), "group")} on more than one side, for '
            f"instance {crossing[0]}"
        )


class _Kept:
    """The rows with the lowest hashes of each side; the hash is of the text, so tasks keep the same rows.

    No more than twice the limit of a side are ever held.
    """

    def __init__(self, settings: SplitSettings, seed: int) -> None:
        self._limits, self._seed = settings.limit, seed
        self._counts: Counter[Split] = Counter()
        self._rows: dict[Split, list[tuple[bytes, str, int, Placed]]] = {side: [] for side in ORDER}

    def add(self, item: Placed) -> None:
        """Take a row, or let it go."""
        rows, limit = self._rows[item.split], self._limits.get(item.split)
        self._counts[item.split] += 1
        rank = b"" if limit is None else sha256(f"{self._seed}\nlimit\n{item.words}".encode()).digest()
        rows.append((rank, item.id, self._counts.total(), item))
        if limit is not None and len(rows) > 2 * limit + SPARE:
            self._cut(rows, limit)

    def all(self) -> tuple[Placed, ...]:
        """Return the rows that are kept, in the order in which they came."""
        for side, limit in self._limits.items():
            self._cut(self._rows[side], limit)
        return tuple(row[3] for row in sorted((r for rows in self._rows.values() for r in rows), key=lambda r: r[2]))

    def notes(self, task: str) -> list[str]:
        """Say where a limit let rows go."""
        return [
            f'task "{task}": the limit keeps {self._limits[side]} of {self._counts[side]} rows for {side}'
            for side in ORDER
            if self._limits.get(side, self._counts[side]) < self._counts[side]
        ]

    @staticmethod
    def _cut(rows: list[tuple[bytes, str, int, Placed]], limit: int) -> None:
        rows.sort(key=lambda row: row[:2])
        del rows[limit:]
