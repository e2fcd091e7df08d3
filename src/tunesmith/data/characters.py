"""Which characters can stand in a row: a module of its own, so that the rendering child starts quickly."""

import re
from collections.abc import Iterator

NOT_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]")
NOT_UTF8 = re.compile(r"[\udc80-\udcff]")  # what decoding with surrogateescape leaves of bytes that are not UTF-8
NOT_UTF8_REASON = "bytes that are not UTF-8; save the file as UTF-8"
SAVE_UTF8 = 'Save it as UTF-8 (in Excel: "CSV UTF-8").'
BEGINNING = 64  # bytes that are looked at for UTF-16


def texts(value: object) -> Iterator[str]:
    """Yield every text inside a value of a row, keys of nested objects too."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            waiting += [*item, *item.values()]
        elif isinstance(item, list):
            waiting += item


def fault_in_text(value: object) -> str | None:
    r"""Say which character of a value cannot be text; None if all can.

    Line breaks and tabs can; NUL, other control characters and halves of surrogate pairs cannot.

    >>> fault_in_text({"dialogue": "Hello\x00"})
    'NUL character'
    """
    for text in texts(value):
        found = NOT_TEXT.search(text)
        if found and found[0] == "\x00":
            return "NUL character"
        if found:
            kind = "control character" if found[0].isascii() else "lone surrogate"
            return f"{kind} U+{ord(found[0]):04X}"
    return None


def seems_utf16(data: bytes) -> bool:
    r"""Tell whether bytes begin as UTF-16 does where no byte order mark says so: with a NUL in many pairs of bytes.

    >>> seems_utf16("text,label".encode("utf-16-le")), seems_utf16(b"text,label")
    (True, False)
    """
    begin = data[:BEGINNING]
    return 8 * max(begin[::2].count(0), begin[1::2].count(0)) > len(begin)


def not_text(value: object) -> str | None:
    """Say what a value is that cannot be printed as an answer; None for text, numbers, and lists of them."""
    if not isinstance(value, list):
        return "an object" if isinstance(value, dict) else None
    if any(isinstance(item, dict | list) for item in value):
        return "a list with an object or a list in it"
    return "an empty list" if all(map(is_empty, value)) else None


def is_empty(value: object) -> bool:
    """Tell whether a field holds nothing: null, or text without a visible character."""
    return value is None or (isinstance(value, str) and not value.strip())
