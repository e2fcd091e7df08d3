from pathlib import Path

from small_run import Command


def test_a_run_ends_with_a_report(finished: Path, tunesmith: Command) -> None:
    print(tunesmith("run", finished))
