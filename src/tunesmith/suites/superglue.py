"""SuperGLUE's own JSON lines to the rows that the same data set has on the hub."""

from collections.abc import Callable, Mapping
from typing import Any

Row = dict[str, Any]


def one_of(label: Any, names: Mapping[str, int]) -> int:
    """Return the number of a label that is written as a word, a digit, or true and false.

    Raises:
        ValueError: It is none of the names and none of their numbers.

    >>> one_of("entailment", {"entailment": 0}), one_of("1", {"no": 0, "yes": 1}), one_of(True, {"false": 0, "true": 1})
    (0, 1, 1)
    """
    word = str(label).strip()
    found = names.get(word, names.get(word.lower()))
    if found is None and word.isdecimal() and int(word) in names.values():
        found = int(word)
    if found is None:
        raise ValueError(f'the label "{word}" is none of {", ".join(names)}')
    return found


FALSE_TRUE = {"false": 0, "true": 1}
ENTAILMENT = {"entailment": 0, "not_entailment": 1}
CB = {"entailment": 0, "contradiction": 1, "neutral": 2}


def _plain(*columns: str, labels: Mapping[str, int]) -> Callable[[Any], list[Row]]:
    """Return what keeps columns as they are, and makes the label a number."""

    def convert(given: Any) -> list[Row]:
        return [{**{name: given[name] for name in columns}, "label": one_of(given["label"], labels)}]

    return convert


def _multirc(given: Any) -> list[Row]:
    """One row for each answer of each question of a paragraph."""
    passage = given["passage"]
    return [
        {
            "paragraph": passage["text"],
            "question": question["question"],
            "answer": answer["text"],
            "label": one_of(answer["label"], {"0": 0, "1": 1}),
        }
        for question in passage["questions"]
        for answer in question["answers"]
    ]


def _record(given: Any) -> list[Row]:
    """One row for each query of a passage; entities are given by their first and last character."""
    text = given["passage"]["text"]
    spans = [(one["start"], one["end"]) for one in given["passage"]["entities"]]
    entities = list(dict.fromkeys(text[start : end + 1] for start, end in spans))
    return [
        {
            "passage": text,
            "query": query["query"],
            "entities": entities,
            "answers": list(dict.fromkeys(answer["text"] for answer in query["answers"])),
        }
        for query in given["qas"]
    ]


def _wsc(given: Any) -> list[Row]:
    """The pronoun and what it may refer to; the harness asks for the corrected version, ``wsc.fixed``."""
    text, target = given["text"], given["target"]
    spans = {
        f"span{n}_{part}": target[f"span{n}_{part}"] for n in (1, 2) for part in ("text", "index")
    }  # fmt: skip
    for n in (1, 2):
        spans[f"span{n}_text"] = _found_in(text, spans[f"span{n}_text"], index=spans[f"span{n}_index"])
    return [{"text": text, **spans, "label": one_of(given["label"], FALSE_TRUE)}]


def _found_in(text: str, span: str, *, index: int) -> str:
    """Return a span as it stands in its text; some are written with another first letter, a full stop or a line end.

    >>> _found_in("We saw the lake.", "The lake", index=2)
    'the lake'
    """
    if span in text:
        return span
    first = text.split()[index][0]
    better = span.rstrip(".").replace("\n", " ")
    better = (better[0].lower() if first.islower() else better[0].upper()) + better[1:]
    return better if better in text else span


SUPERGLUE: dict[str, tuple[str, Callable[[Any], list[Row]]]] = {
    "boolq": ("BoolQ", _plain("question", "passage", labels=FALSE_TRUE)),
    "cb": ("CB", _plain("premise", "hypothesis", labels=CB)),
    "copa": ("COPA", _plain("premise", "choice1", "choice2", "question", labels={"0": 0, "1": 1})),
    "multirc": ("MultiRC", _multirc),
    "record": ("ReCoRD", _record),
    "rte": ("RTE", _plain("premise", "hypothesis", labels=ENTAILMENT)),
    "wic": (
        "WiC",
        _plain("word", "sentence1", "sentence2", "start1", "start2", "end1", "end2", labels=FALSE_TRUE),
    ),
    "wsc": ("WSC", _wsc),
}
"""Task -> its folder, and what makes rows of one line of its file."""
