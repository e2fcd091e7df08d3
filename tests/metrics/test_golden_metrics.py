"""Values that other programs gave for the same texts; the files under golden/ say which program and version."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tunesmith.metrics import bleu as corpus
from tunesmith.metrics.calibration import bin_columns, error_of_sums
from tunesmith.metrics.classification import accuracy, f1_by_label, macro_f1, mcc
from tunesmith.metrics.likelihood import best_choice, bits_per_byte, perplexity
from tunesmith.metrics.rouge import RougeScore, rouge
from tunesmith.metrics.rouge_w_s import rouge_s, rouge_w

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
CASES = json.loads((GOLDEN / "metric_cases.json").read_text(encoding="utf-8"))["cases"]
PAIRS = [json.loads(line) for line in (GOLDEN / "rouge155_goldens.jsonl").read_text(encoding="utf-8").splitlines()]
SIDES = ("precision", "recall", "fmeasure")
PERL_DECIMALS = 1.5e-5  # the script rounds to 5 decimals, and takes F from rounded values


def cases(*families: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    found = [case for case in CASES if case["metric"] in families or case["reference_impl"] in families]
    assert found
    return pytest.mark.parametrize("case", found, ids=lambda case: case["id"])


@cases("rouge_score 0.1.2")
def test_rouge_equals_rouge_score(case: dict[str, Any]) -> None:
    kind = case["metric"]
    score = rouge(case["candidate"], case["references"], kinds=[kind], stem=case["settings"]["use_stemmer"])[kind]
    assert score == tuple(case["expected"][side] for side in SIDES)


def weighted(case: dict[str, Any], variant: str) -> RougeScore:
    metric, texts = case["metric"], (case["candidate"], case["references"])
    if metric.startswith("rougeW-"):
        return rouge_w(*texts, weight=float(metric[7:]), stem=False, variant=variant)
    unigrams = metric.startswith("rougeSU")
    gap = metric.removeprefix("rougeSU" if unigrams else "rougeS")
    return rouge_s(*texts, gap=None if gap == "*" else int(gap), unigrams=unigrams, stem=False, variant=variant)


@cases("ROUGE-1.5.5.pl")
def test_rouge_w_s_and_su_equal_the_paper_and_the_script(case: dict[str, Any]) -> None:
    assert weighted(case, "paper") == pytest.approx(tuple(case["paper_formula"][side] for side in SIDES), abs=1e-12)
    expected = tuple(case["expected"][side] for side in SIDES)
    assert weighted(case, "rouge155") == pytest.approx(expected, abs=PERL_DECIMALS)


def test_texts_of_several_lines_equal_the_script_and_rouge_score() -> None:
    assert len(PAIRS) == 200
    kinds = ["rouge1", "rouge2", "rouge3", "rouge4", "rougeL", "rougeLsum"]
    for number, pair in enumerate(PAIRS):
        texts = (pair["candidate"], [pair["reference"]])
        plain = rouge(*texts, kinds=kinds, stem=False)
        assert {kind: list(plain[kind]) for kind in kinds} == pair["rouge_score_plain"], pair["id"]
        stemmed = rouge(*texts, kinds=kinds)
        assert {kind: list(stemmed[kind]) for kind in kinds} == pair["rouge_score_stem"], pair["id"]
        ours = {f"ROUGE-{size}": plain[f"rouge{size}"] for size in range(1, 5)} | {
            "ROUGE-L": plain["rougeLsum"],
            "ROUGE-S4": rouge_s(*texts, gap=4, stem=False, variant="rouge155"),
            "ROUGE-SU4": rouge_s(*texts, gap=4, unigrams=True, stem=False, variant="rouge155"),
        }
        if number % 4 == 0:  # the slow one
            ours["ROUGE-W-1.2"] = rouge_w(*texts, weight=1.2, stem=False, variant="rouge155")
        for name, score in ours.items():
            values = tuple(pair["perl_plain"][name][side] for side in SIDES)
            assert score == pytest.approx(values, abs=PERL_DECIMALS), (pair["id"], name)


def by_example(case: dict[str, Any]) -> tuple[list[str], list[tuple[str, ...]]]:
    """The files keep references as sacrebleu takes them: all first ones, then all second ones."""
    if case.get("level") == "sentence":
        return [case["candidate"]], [tuple(case["references"])]
    return case["candidate"], list(zip(*case["references"], strict=True))


@cases("bleu")
def test_bleu_equals_sacrebleu(case: dict[str, Any]) -> None:
    predictions, references = by_example(case)
    score = corpus.bleu(predictions, references, **case["settings"])
    assert score.value == pytest.approx(case["expected"]["score"], abs=case["tolerance"])
    lengths = [sum(row[side] for row in score.counts) for side in range(2)]
    assert lengths == [case["expected"]["sys_len"], case["expected"]["ref_len"]]


@cases("chrf")
def test_chrf_equals_sacrebleu(case: dict[str, Any]) -> None:
    score = corpus.chrf(*by_example(case), word_order=case["settings"]["word_order"])
    assert score.value == pytest.approx(case["expected"]["score"], abs=case["tolerance"])


@cases("ter")
def test_ter_equals_sacrebleu(case: dict[str, Any]) -> None:
    assert corpus.ter(*by_example(case)).value == pytest.approx(case["expected"]["score"], abs=case["tolerance"])


def test_sentence_bleu_of_200_texts_equals_sacrebleu() -> None:
    for pair in PAIRS:
        score = corpus.bleu([pair["candidate"]], [[pair["reference"]]], effective_order=True)
        assert score.value == pytest.approx(pair["sacrebleu_sentence"], abs=1e-9), pair["id"]


CLASSIFICATION = {
    "accuracy": accuracy,
    "f1_binary": lambda gold, predicted: f1_by_label(gold, predicted).get(1, 0.0),
    "f1_macro": macro_f1,
    "matthews_corrcoef": mcc,
}


EDGES = {"ece_10_equal_width": [place / 10 for place in range(1, 11)], "ece_1_bin": [1.0]}
"""Metric -> its bins."""


@cases(*CLASSIFICATION)
def test_labels_score_as_in_scikit_learn(case: dict[str, Any]) -> None:
    value = CLASSIFICATION[case["metric"]](case["references"], case["candidate"])
    assert value == pytest.approx(case["expected"]["value"], abs=case["tolerance"])


@cases("perplexity")
def test_perplexity_equals_the_formula(case: dict[str, Any]) -> None:
    assert perplexity(case["candidate"]) == pytest.approx(case["expected"]["value"], abs=case["tolerance"])


@cases("bits_per_byte")
def test_bits_per_byte_equal_the_formula(case: dict[str, Any]) -> None:
    value = bits_per_byte(case["candidate"], case["settings"]["bytes"])
    assert value == pytest.approx(case["expected"]["value"], abs=case["tolerance"])


@cases("acc_norm_choice")
def test_the_normalised_choice_is_that_of_the_harness(case: dict[str, Any]) -> None:
    choices = case["references"]
    chosen = best_choice(dict(zip(choices, case["candidate"], strict=True)), per_character=True)
    assert choices.index(chosen) == case["expected"]["value"]


@cases(*EDGES)
def test_calibration_error_is_that_of_uncertainty_calibration(case: dict[str, Any]) -> None:
    counts = np.array([case["candidate"], case["references"]], dtype=float).T
    sums = bin_columns(counts, np.array(EDGES[case["metric"]])).sum(axis=0, keepdims=True)
    assert error_of_sums(sums)[0] / 100 == pytest.approx(case["expected"]["value"], abs=case["tolerance"])


def test_every_case_is_used() -> None:
    tested = {"bleu", "chrf", "ter", *CLASSIFICATION, "perplexity", "bits_per_byte", "acc_norm_choice", *EDGES}
    left = [case["id"] for case in CASES if case["metric"] not in tested and not case["metric"].startswith("rouge")]
    assert left == []
