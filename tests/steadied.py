"""Reports and records of runs without what differs from one run to the next."""

from collections.abc import Set
from typing import Any

MEASURED = frozenset({"started", "seconds", "seconds_per_answer", "peak_bytes", "plan"})


def steady(value: Any, key: str = "", *, without: Set[str] = MEASURED) -> Any:
    """The same without these fields; what was finished in any order."""
    if key == "finished":
        return set(value)
    if isinstance(value, dict):
        return {name: steady(one, name, without=without) for name, one in value.items() if name not in without}
    return [steady(one, without=without) for one in value] if isinstance(value, list) else value
