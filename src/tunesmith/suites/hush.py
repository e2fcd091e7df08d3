"""lm-evaluation-harness kept from talking."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hushed() -> Iterator[None]:
    """Keep the harness from writing between our own lines, and from starting a process for every core."""
    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    log = logging.getLogger("lm_eval")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), _no_bars():
            yield
    finally:
        log.setLevel(level)
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


@contextmanager
def _no_bars() -> Iterator[None]:
    from tqdm import tqdm

    kind: Any = tqdm
    plain = kind.__init__

    def silent(bar: Any, *arguments: Any, **options: Any) -> None:
        plain(bar, *arguments, **(options | {"disable": True}))

    kind.__init__ = silent
    try:
        yield
    finally:
        kind.__init__ = plain
