from io import StringIO

import pytest
from rich.console import Console

from tunesmith.records import DataHealth, Leak, SetAside
from tunesmith.reporting.lines import LISTED, print_health


@pytest.mark.parametrize(("rows", "more"), [(LISTED, None), (LISTED + 1, "1"), (LISTED + 2000, "2,000")])
def test_a_long_list_says_how_much_of_it_is_not_shown(rows: int, more: str | None) -> None:
    health = DataHealth(
        rows_read=rows, rows_per_split={}, groups=0, repeated_in_split=0, files={"chats.csv": ""},
        set_aside=tuple(SetAside(file="chats.csv", line=n, reason="no summary", excerpt="") for n in range(rows)),
        leaks=tuple(Leak(kept_id=f"a:{n}", moved_id=f"b:{n}", similarity=1.0) for n in range(rows)),
    )  # fmt: skip
    out = StringIO()
    print_health(health, Console(file=out, width=200))
    lines = out.getvalue().splitlines()
    assert f"{rows} rows set aside" in lines
    assert f"{rows} leaks" in lines
    assert sum("no summary" in line for line in lines) == sum("is like" in line for line in lines) == LISTED
    assert [line for line in lines if " more; " in line] == (
        [f"  and {more} more; --json has them all"] * 2 if more else []
    )
