"""Names to code: literal tables of ``name -> "module:attribute"``, imported only when a name is used.

Tables are plain dicts, so that ``grep`` finds every entry and listing them imports nothing.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tunesmith.errors import RecipeError, did_you_mean

METHODS: dict[str, str] = {
    "full": "tunesmith.methods.full",
    "last-layers": "tunesmith.methods.last_layers",
    "modules": "tunesmith.methods.modules",
    "bitfit": "tunesmith.methods.bitfit",
    "norms": "tunesmith.methods.norms",
    "embeddings": "tunesmith.methods.embeddings",
    "head": "tunesmith.methods.head",
    "sparse": "tunesmith.methods.sparse",
    "lora": "tunesmith.methods.lora",
    "qlora": "tunesmith.methods.qlora",
    "soft-prompt": "tunesmith.methods.soft_prompt",
    "p-tuning": "tunesmith.methods.p_tuning",
    "prefix": "tunesmith.methods.prefix",
    "ia3": "tunesmith.methods.ia3",
    "bottleneck": "tunesmith.methods.bottleneck",
}
"""Ways to tune. Each module has ``Settings``, ``attach``, ``count``, and ``merge`` where the algebra allows."""

METRICS: dict[str, str] = {
    "rouge1": "tunesmith.metrics.rouge:ROUGE",
    "rouge2": "tunesmith.metrics.rouge:ROUGE",
    "rouge3": "tunesmith.metrics.rouge:ROUGE",
    "rouge4": "tunesmith.metrics.rouge:ROUGE",
    "rouge5": "tunesmith.metrics.rouge:ROUGE",
    "rouge6": "tunesmith.metrics.rouge:ROUGE",
    "rouge7": "tunesmith.metrics.rouge:ROUGE",
    "rouge8": "tunesmith.metrics.rouge:ROUGE",
    "rouge9": "tunesmith.metrics.rouge:ROUGE",
    "rougeL": "tunesmith.metrics.rouge:ROUGE",
    "rougeLsum": "tunesmith.metrics.rouge:ROUGE",
    "rouge1-precision": "tunesmith.metrics.rouge:ROUGE",
    "rouge1-recall": "tunesmith.metrics.rouge:ROUGE",
    "rouge1-unstemmed": "tunesmith.metrics.rouge:ROUGE",
    "rouge2-precision": "tunesmith.metrics.rouge:ROUGE",
    "rouge2-recall": "tunesmith.metrics.rouge:ROUGE",
    "rouge2-unstemmed": "tunesmith.metrics.rouge:ROUGE",
    "rougeL-precision": "tunesmith.metrics.rouge:ROUGE",
    "rougeL-recall": "tunesmith.metrics.rouge:ROUGE",
    "rougeL-unstemmed": "tunesmith.metrics.rouge:ROUGE",
    "rougeLsum-precision": "tunesmith.metrics.rouge:ROUGE",
    "rougeLsum-recall": "tunesmith.metrics.rouge:ROUGE",
    "rougeLsum-unstemmed": "tunesmith.metrics.rouge:ROUGE",
    "rougeW-1.2": "tunesmith.metrics.rouge_w_s:ROUGE",
    "rougeW-1.2-rouge155": "tunesmith.metrics.rouge_w_s:ROUGE",
    "rougeS4": "tunesmith.metrics.rouge_w_s:ROUGE",
    "rougeSU4": "tunesmith.metrics.rouge_w_s:ROUGE",
    "rougeSU4-rouge155": "tunesmith.metrics.rouge_w_s:ROUGE",
    "bleu": "tunesmith.metrics.bleu:BLEU",
    "bleu-none": "tunesmith.metrics.bleu:BLEU",
    "bleu-intl": "tunesmith.metrics.bleu:BLEU",
    "bleu-char": "tunesmith.metrics.bleu:BLEU",
    "bleu-zh": "tunesmith.metrics.bleu:BLEU",
    "chrf": "tunesmith.metrics.bleu:CHRF",
    "chrf++": "tunesmith.metrics.bleu:CHRF",
    "ter": "tunesmith.metrics.bleu:TER",
    "accuracy": "tunesmith.metrics.classification:RIGHT",
    "exact-match": "tunesmith.metrics.classification:RIGHT",
    "quasi-exact-match": "tunesmith.metrics.classification:RIGHT",
    "macro-f1": "tunesmith.metrics.classification:MACRO_F1",
    "mcc": "tunesmith.metrics.classification:MCC",
    "accuracy-norm": "tunesmith.metrics.likelihood:ACCURACY_NORM",
    "perplexity": "tunesmith.metrics.likelihood:PERPLEXITY",
    "bits-per-byte": "tunesmith.metrics.likelihood:BITS_PER_BYTE",
    "length-ratio": "tunesmith.metrics.length:LENGTH_RATIO",
    "ece": "tunesmith.metrics.calibration:ECE",
    "ece-1": "tunesmith.metrics.calibration:ECE_ONE_BIN",
    "selective-accuracy": "tunesmith.metrics.calibration:SELECTIVE",
    "coverage-auc": "tunesmith.metrics.calibration:COVERAGE",
    "brier": "tunesmith.metrics.calibration:BRIER",
    "repetition": "tunesmith.metrics.repetition:REPETITION",
    "longest-repeat": "tunesmith.metrics.repetition:LONGEST_REPEAT",
    "invented-numbers": "tunesmith.metrics.invention:INVENTED_NUMBERS",
    "invented-entities": "tunesmith.metrics.invention:INVENTED_ENTITIES",
}
"""What answers are measured by. Each entry is a ``metrics.contract.Metric``; one may serve several names."""


def known(kind: str, name: str, table: Mapping[str, object]) -> str:
    """Return ``name`` if the table has it; otherwise raise a RecipeError that names the nearest entry.

    >>> known("method", "lora", METHODS)
    'lora'
    """
    if name in table:
        return name
    raise RecipeError(
        f'{kind} "{name}" is not known.{did_you_mean(name, list(table))} Known: {", ".join(sorted(table))}.'
    )


def resolve(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """Import what ``table`` holds for ``name``: a module, or with ``module:attribute`` the attribute."""
    module, _, attribute = table[known(kind, name, table)].partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded
