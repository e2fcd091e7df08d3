"""How long answers are, measured against their references."""

from collections.abc import Sequence

from tunesmith import __version__
from tunesmith.metrics.contract import Answers, Measured, Metric


def _measure(names: Sequence[str], answers: Answers) -> dict[str, Measured]:
    pairs = zip(answers.predictions, answers.references, strict=True)
    counts = tuple((float(len(text.split())), float(len(texts[0].split()))) for text, texts in pairs)
    settings = f"words:white-space|refs:first|agg:total|tunesmith:{__version__}"
    return {name: Measured(f"{name}|{settings}", counts=counts) for name in names}


LENGTH_RATIO = Metric(measure=_measure, unit="words per reference word", better="neither", for_each=False)
