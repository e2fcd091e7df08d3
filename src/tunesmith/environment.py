"""What is around every command: libraries that stay calm, and an end that is said in words."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

from tunesmith.errors import ResourceError, UserError
from tunesmith.machine import out_of_memory
from tunesmith.progress import printable
from tunesmith.wording import first_line

FOUR_BITS = "qlora: a base in four bits"  # needs bitsandbytes
STOPPED = 130  # what a shell expects after Ctrl-C
NO_READER = 141  # and after a pipe whose reader has gone: 128 + SIGPIPE
LOWER = "Lower train.tokens_per_batch or generate.tokens_per_batch, or choose a method that trains fewer weights."
FULL, CLOSED = "the disk is full. Free some space.", "nothing can be written there. Change the rights or the place."
LONG = "this name is longer than the disk takes. Give a shorter one."
GONE = "there is no such place, and none can be made. Look at the name."
BROKEN = "the disk does not answer as it should. Look at it, or take another."
DISK = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), FULL),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), CLOSED),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR), GONE),
    **dict.fromkeys((errno.EIO, errno.EBUSY, errno.ESTALE), BROKEN),
    errno.ENAMETOOLONG: LONG,
}
PRODUCTS = "64"  # a batch has some fifty shapes; the next one hardly any of the same


def calm() -> None:
    """No parallel tokenizer threads, no advice and no bars of libraries between our own lines, no telemetry.

    And few products of matrices that are kept: for each shape that it was given oneDNN keeps a program of about a
    megabyte, a thousand of them if it is not told otherwise, and batches without padding are never of the same size.
    Must come before torch is imported.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", PRODUCTS)
    os.environ.setdefault("LRU_CACHE_CAPACITY", PRODUCTS)  # of torch itself, around oneDNN
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if not sys.warnoptions:  # `python -W` and PYTHONWARNINGS ask to see them
        warnings.simplefilter("ignore")
    # It warns, wherever peft is imported, of a kernel that is not installed and that nothing here would call.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a letter shows its number
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Keep two warnings of peft to itself that say nothing about what is done here.

    peft 0.21 reads an attribute that transformers 5.23 has renamed, and warns of untied weights after merging into a
    model whose weights were never tied.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        warnings.filterwarnings("ignore", message=".*no longer (be )?tied.*")
        yield


@contextmanager
def explained() -> Iterator[None]:
    """End the process with a line on stderr for each problem, and the code of its kind, when something goes wrong.

    Anything that is not listed here is a bug of ours and keeps its traceback.
    """
    try:
        yield
        sys.stdout.flush()  # while a reader that has gone can still be noticed
    except UserError as error:
        _end(error.exit_code, *error.problems)
    except KeyboardInterrupt:
        _end(STOPPED, "stopped. The same command goes on with what is not finished yet.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        sys.exit(NO_READER)
    except OSError as error:
        if error.errno not in DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _end(ResourceError.exit_code, f"{where}{DISK[error.errno]} Then run the same command again.")
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        _end(ResourceError.exit_code, f"there is not enough memory. {LOWER}")


def _end(code: int, *problems: str) -> None:
    for problem in problems:
        print(f"tunesmith: {printable(problem)}", file=sys.stderr)
    sys.exit(code)


def without_bitsandbytes(asked: str) -> list[str]:
    """Return the problem if bitsandbytes is not there, or cannot be imported; ``asked`` is what needs it."""
    if not find_spec("bitsandbytes"):
        return [f"{asked} needs bitsandbytes, which is not installed: pip install 'bitsandbytes>=0.46.1'"]
    try:
        import_module("bitsandbytes")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        said = first_line(error).rstrip(".")
        return [
            f"{asked} needs bitsandbytes, which is installed and cannot be imported ({said}): pip install "
            "--force-reinstall 'bitsandbytes>=0.46.1'"
        ]
    return []
