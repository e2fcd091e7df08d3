"""Files that are not to be trained on, as they say themselves: those with the canary of a benchmark in them.

BIG-bench and others put such a mark into their files so that their questions can be kept out of training: the words
"canary GUID" and a number. Scores on a benchmark that was trained on say nothing.
"""

import re
from pathlib import Path

from tunesmith.data.rows import Table

CANARY = re.compile(rb"canary GUID:? ?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PART = 2**24  # bytes of a large file that are looked at at a time
LONGEST = 64  # bytes of a mark, and some more


def has_canary(data: bytes) -> bool:
    """Tell whether bytes hold the mark of a benchmark."""
    return CANARY.search(data) is not None


def file_has_canary(path: Path) -> bool:
    """Tell whether a file holds the mark of a benchmark, without holding the file."""
    end = b""
    with path.open("rb") as file:
        while part := file.read(PART):
            if has_canary(end + part):
                return True
            end = part[-LONGEST:]
    return False


def table_has_canary(table: Table) -> bool:
    """Tell whether a row holds the mark of a benchmark; for tables whose files are packed."""
    return any(has_canary(str(values).encode("utf-8", "replace")) for _, values in table.rows)
