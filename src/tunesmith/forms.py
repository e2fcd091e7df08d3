"""The forms in which a task can be put to a model, and where the answer stands in each.

- ``zero-shot``: the question alone, in the plain direction. The only form unless a recipe asks for more.
- ``inverted``: what is usually the answer is given, and what is usually the question is asked for.
- ``few-shot``: the question after worked examples from other training rows.
- ``chain-of-thought``: the answer comes after its reasons, in the pattern that ``final_answer`` reads.

Inverting tasks and mixing the forms follow J. Wei et al., "Finetuned language models are zero-shot learners", 2022
(arXiv 2109.01652) and S. Longpre et al., "The Flan collection", 2023 (arXiv 2301.13688).
"""

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

Form: TypeAlias = Literal["zero-shot", "inverted", "few-shot", "chain-of-thought"]
FORMS: tuple[Form, ...] = get_args(Form)

_FINAL = re.compile(r"\bthe answer is:?[ \t]+(\S.*)", re.IGNORECASE)


def asked_form(forms: Sequence[Form]) -> Form:
    """Return the form in which validation and test rows are asked: the first plain one of those that a task names.

    The others are for training only: an inverted row has another answer, and worked examples are put before the test
    prompts by the candidates that want them.

    >>> asked_form(["inverted", "chain-of-thought", "zero-shot"])
    'chain-of-thought'
    >>> asked_form(["few-shot"])
    'zero-shot'
    """
    return next((form for form in forms if form in ("zero-shot", "chain-of-thought")), "zero-shot")


def final_answer(text: str) -> str:
    """Return the answer that comes after its reasons: what the last "The answer is ..." says, without its full stop.

    A text that does not say it is taken as a whole, so that an answer without reasons counts as well.

    >>> final_answer("Two and two. The answer is 4.5.")
    '4.5'
    >>> final_answer(" 4 ")
    '4'
    """
    found = _FINAL.findall(text)
    if not found:
        return text.strip()
    answer: str = found[-1].strip()
    return answer.removesuffix(".").rstrip() or answer
