"""Prompts in the format of promptsource (S. Bach et al., arXiv 2202.01279): ``templates.yaml`` to phrasings.

Such a file has one Jinja text for each prompt, in which ``|||`` stands between what is asked and what is answered, and
for some of them ``answer_choices``. Its tags name Python classes; they are passed over, and nothing is built from them.

promptsource renders a text and cuts the result at ``|||``. Here the text itself is cut, by its tokens, so that the
prompt can be rendered without the answer. Where ``|||`` stands inside an ``if``, each half keeps the tags.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, TemplateSyntaxError

from tunesmith.errors import DataError, did_you_mean
from tunesmith.settings import Phrasing
from tunesmith.yamlfile import Document

TAGS = ("!Template", "!TemplateMetadata")
BAR = "|||"
OPEN = ("if", "for", "macro", "call", "filter", "with", "autoescape")  # tags that a tag of their own ends
KEPT = ("set", "macro")  # what they hold is for later, on either side
LEXER = Environment(keep_trailing_newline=True)  # cuts into tokens and runs nothing; loses no white space


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a file."""

    name: str
    phrasing: Phrasing
    choices: tuple[str, ...]  # empty: none, or others for every row


@dataclass(slots=True)
class _Block:
    """A tag that is open, and what it holds for each half."""

    tag: str
    start: bool  # whether the bar stood before it
    ends: list[bool] = field(default_factory=list)  # whether the bar was met, for each branch so far
    sets: bool = False  # a name is set in it, which either half may use later
    halves: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))


@dataclass(slots=True)
class _Cut:
    """Where the cutting of one text stands."""

    after: bool = False  # the bar is behind us
    blocks: list[_Block] = field(default_factory=lambda: [_Block("", start=False)])


def read_prompts(document: Document, *, wanted: str = "") -> list[Prompt]:
    """Return the prompts of a file, in its order.

    Args:
        document: The parsed file.
        wanted: The name of a prompt, so that the others may be what they are; empty: all of them.

    Raises:
        DataError: There is none of that name; or naming every wanted entry that cannot be used, and why.
    """
    entries = document.values.get("templates")
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{document.name}: `templates` holds no prompts. Name a templates.yaml of promptsource.")
    names = {key: str(entry.get("name", key)) if isinstance(entry, dict) else key for key, entry in entries.items()}
    if wanted and wanted not in names.values():
        known = list(names.values())
        raise DataError(
            f'{document.name}: there is no prompt "{wanted}".{did_you_mean(wanted, known)} It has {", ".join(known)}.'
        )
    found: list[Prompt] = []
    problems: list[str] = []
    for key, name in names.items():
        if wanted not in ("", name):
            continue
        try:
            found.append(_prompt(entries[key]))
        except ValueError as error:
            problems.append(f'{document.place(("templates", key))}: prompt "{name}": {error}')
    if problems:
        raise DataError(problems)
    return found


def _prompt(entry: Any) -> Prompt:
    if not isinstance(entry, dict) or not isinstance(entry.get("jinja"), str) or "name" not in entry:
        raise ValueError("expected name and jinja. Add what is missing.")
    before, choices = _choices(entry.get("answer_choices"))
    metadata = entry.get("metadata")
    turned = isinstance(metadata, dict) and metadata.get("original_task") is False
    prompt, target = cut(entry["jinja"])
    return Prompt(
        str(entry["name"]),
        Phrasing(
            form="inverted" if turned else "zero-shot",
            prompt=_with_choices(before, prompt),
            target=_with_choices(before, target),
        ),
        choices,
    )


def _choices(given: Any) -> tuple[str, tuple[str, ...]]:
    """Return the Jinja text that sets ``answer_choices``, and the choices if they are the same for every row."""
    if given is None or given == "":
        return "", ()
    texts = [str(one) for one in given] if isinstance(given, list) else str(given).split(BAR)
    if any("{" in text for text in texts):
        whole = BAR.join(texts)
        return (
            "{% set rendered_choices %}" + whole + "{% endset %}"
            '{% set answer_choices = rendered_choices.split("|||") | map("trim") | list %}'
        ), ()
    plain = tuple(text.strip() for text in texts)
    return f"{{% set answer_choices = {json.dumps(plain, ensure_ascii=False)} %}}", plain


def _with_choices(before: str, text: str) -> str:
    return before + text if "answer_choices" in text else text


def cut(text: str) -> tuple[str, str]:
    """Cut a Jinja text at its bar.

    >>> cut("Is it {{ a }}? ||| {{ b }}")
    ('Is it {{ a }}?', '{{ b }}')

    Raises:
        ValueError: There is no bar, or it stands where the text cannot be cut, with the mend.
    """
    at = _Cut()
    try:
        for tokens in _pieces(list(LEXER.lex(text))):
            _take(at, tokens)
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {str(error.message).rstrip('.')}.") from None
    if len(at.blocks) > 1:
        raise ValueError(f"a tag {{% {at.blocks[-1].tag} %}} is not closed. Close it.")
    if not at.after:
        raise ValueError("there is no ||| between prompt and answer. Add it, or take the prompt out.")
    prompt, target = ("".join(half).strip() for half in at.blocks[0].halves)
    return _trimmed(prompt), _trimmed(target)


def _trimmed(half: str) -> str:
    """Cut the white space that a rendered half may have at its ends, as promptsource does."""
    return f"{{% filter trim %}}{half}{{% endfilter %}}" if "{%" in half else half


Token = tuple[int, str, str]  # line, kind, text


def _pieces(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """Yield what stands together: a text, or everything from the beginning of a tag to its end."""
    piece: list[Token] = []
    for token in tokens:
        piece.append(token)
        inside = piece[0][1] in ("variable_begin", "block_begin", "comment_begin", "raw_begin")
        if not inside or token[1] == piece[0][1].replace("begin", "end"):
            yield piece
            piece = []


def _take(at: _Cut, tokens: list[Token]) -> None:
    kind, text = tokens[0][1], "".join(token[2] for token in tokens)
    if kind == "block_begin":
        _tag(at, tokens, _as_written(text))
    elif kind == "data" and BAR in text:
        _bar(at, tokens[0])
    elif kind != "comment_begin":
        _write(at, text, both=any(block.tag in KEPT for block in at.blocks))


def _write(at: _Cut, text: str, *, both: bool) -> None:
    for side in (False, True) if both else (at.after,):
        at.blocks[-1].halves[side].append(text)


def _bar(at: _Cut, token: Token) -> None:
    before, _, behind = token[2].partition(BAR)
    line = token[0] + before.count("\n")
    closed = next((block.tag for block in at.blocks[1:] if block.tag != "if"), None)
    if closed:
        raise ValueError(f"line {line}: the ||| stands inside {{% {closed} %}}. Put it outside.")
    if at.after or BAR in behind:
        raise ValueError(f"line {line}: a second ||| stands here. Keep one of them.")
    _write(at, before, both=False)
    at.after = True
    _write(at, behind, both=False)


def _tag(at: _Cut, tokens: Sequence[Token], text: str) -> None:
    words = [token[2] for token in tokens if token[1] in ("name", "operator")]
    tag = words[0] if words else ""
    if tag in OPEN or (tag == "set" and "=" not in words):
        at.blocks.append(_Block(tag, at.after))
    elif tag in ("elif", "else") and at.blocks[-1].tag == "if":
        at.blocks[-1].ends.append(at.after)
        at.after = at.blocks[-1].start
    at.blocks[-1].sets |= tag in KEPT
    _write(at, text, both=True)
    if tag.startswith("end") and len(at.blocks) > 1:
        _close(at)


def _close(at: _Cut) -> None:
    """Give what a tag holds to what it stands in: to both halves if the bar, or what either may need, is in it."""
    block = at.blocks.pop()
    at.after = at.after or any(block.ends)
    at.blocks[-1].sets |= block.sets
    for side in (False, True):
        if side == block.start or block.sets or at.after != block.start:
            at.blocks[-1].halves[side].extend(block.halves[side])


def _as_written(tag: str) -> str:
    """Keep the line breaks around a tag, which promptsource keeps and our own templates do not."""
    opened = "{%+" + tag[2:] if tag[2:3] not in ("-", "+") else tag
    closed = opened.rstrip()
    return opened if closed[-3:-2] in ("-", "+") else closed[:-2] + "+%}" + opened[len(closed) :]
