"""When two texts say the same: their words, in lower case, without marks, spacing and speaker names."""

import json
import re
import unicodedata
from collections.abc import Sequence

from tunesmith.data.rows import Row

# Characters of scripts that put no spaces between words; each counts as a word, or 5-grams would see whole sentences.
_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")
SPEAKER = re.compile(r"^[^\w\n]*\w[\w .'&/-]{0,30}[^\w\n]*:(?=\s|$)", re.MULTILINE)  # "Agent:", "#Person1#:"
SPEAKING_LINES = 2  # a single line that begins like "Solve: ..." is no conversation


def words(text: str) -> list[str]:
    r"""Return the words of a text; where several lines begin with a name and a colon, the names are left out.

    >>> words("#Person1#: It's COLD,\nAnna:  is it?")
    ['it', 's', 'cold', 'is', 'it']
    """
    plain = unicodedata.normalize("NFKC", text).lower()
    spoken, speakers = SPEAKER.subn(" ", plain)
    return WORD.findall(spoken if speakers >= SPEAKING_LINES else plain)


def normalised(text: str) -> str:
    """Return what two texts share if they are the same but for case, marks, spacing and names of speakers."""
    return " ".join(words(text)) or text.strip()


def input_text(row: Row, columns: Sequence[str]) -> str:
    """Return what a model would be shown of a row: its earlier turns and the named columns."""
    values = [row.values.get(column) for column in columns]
    shown = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    return "\n".join([*(message.content for message in row.history), *shown])
