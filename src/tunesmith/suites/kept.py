"""Answers that are kept from the moment that they are there, so that a suite which was stopped goes on where it was."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

Question = tuple[Any, ...]
"""All that an answer depends on but the model: what JSON can hold."""


class Kept:
    """What one model has answered so far.

    Args:
        file: That holds the answers of any number of models, a line for each; None = in memory alone.
        model: What tells this one from all others.
    """

    def __init__(self, file: Path | None = None, model: str = "") -> None:
        self.file, self.model = file, _hash(model)
        lines = _lines(file) if file and file.exists() else ()
        self.answers: dict[str, Any] = {key: answer for key, answer in lines if key.startswith(self.model)}

    def find(self, questions: Iterable[Question]) -> dict[Question, Any]:
        """Return the answers to those of the questions that have one."""
        keys = ((question, self._key(question)) for question in questions)
        return {question: self.answers[key] for question, key in keys if key in self.answers}

    def keep(self, found: Mapping[Question, Any]) -> None:
        """Write answers down."""
        new = {self._key(question): answer for question, answer in found.items()}
        self.answers |= new
        if self.file:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                # the line before may have been cut off, so that each begins with the end of it
                file.write("".join(f"\n{json.dumps([key, answer])}" for key, answer in new.items()))

    def _key(self, question: Question) -> str:
        return self.model + _hash(json.dumps(question))


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _lines(file: Path) -> Iterable[tuple[str, Any]]:
    """Yield keys and answers; a line that was cut off while it was written is left out."""
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            key, answer = json.loads(line)
        except ValueError:
            continue
        yield key, answer
