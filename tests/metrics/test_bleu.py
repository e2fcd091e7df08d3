import random
from collections.abc import Callable

import numpy as np
import pytest
from sacrebleu import __version__ as VERSION

from tunesmith.metrics.bleu import CorpusScore, bleu, bleu_of_sums, chrf, chrf_of_sums, ter, ter_of_sums
from tunesmith.metrics.contract import Finish

Score = Callable[[list[str], list[list[str]]], CorpusScore]

WARM = "I am very happy to say that I am drinking a warm cup of tea."
TEA = "I am very happy that I am drinking a cup of tea."


def texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices("abcdefg", k=rng.randint(0, 9))) for _ in range(count)]


@pytest.mark.parametrize(("tokenize", "expected"), [("13a", 0.539), ("none", 0.495)])
def test_how_words_are_cut_decides_the_bleu_of_the_tea_example(tokenize: str, expected: float) -> None:
    score = bleu([TEA], [[WARM]], tokenize=tokenize)
    assert score.value / 100 == pytest.approx(expected, abs=5e-4)
    assert f"|tok:{tokenize}|" in score.signature


def test_signatures_are_those_of_sacrebleu() -> None:
    assert bleu([TEA], [[WARM]]).signature == f"bleu|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{VERSION}"
    assert chrf([TEA], [[WARM]]).signature == f"chrf|nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{VERSION}"
    assert chrf([TEA], [[WARM]], word_order=2).signature.startswith("chrf++|nrefs:1|case:mixed|eff:yes|nc:6|nw:2|")
    assert (
        ter([TEA], [[WARM]]).signature == f"ter|nrefs:1|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{VERSION}"
    )
    assert "|nrefs:var|" in bleu([TEA, TEA], [[WARM], [WARM, TEA]]).signature


def test_corpus_bleu_is_no_average_of_sentences() -> None:
    both = bleu([TEA, "no match here at all"], [[WARM], ["completely different words follow now"]]).value
    alone = bleu([TEA], [[WARM]]).value
    assert both != pytest.approx(alone / 2, abs=1)


@pytest.mark.parametrize(
    ("score", "finish"),
    [
        (lambda ours, theirs: bleu(ours, theirs), bleu_of_sums),
        (lambda ours, theirs: chrf(ours, theirs), chrf_of_sums),
        (lambda ours, theirs: chrf(ours, theirs, word_order=2), chrf_of_sums),
        (lambda ours, theirs: ter(ours, theirs), ter_of_sums),
    ],
    ids=["bleu", "chrf", "chrf++", "ter"],
)
def test_sums_give_what_sacrebleu_gives_for_the_same_examples(score: Score, finish: Finish) -> None:
    first, second, third = texts(0, 40), texts(1, 40), texts(2, 40)
    references = [[a] if place % 3 else [a, b] for place, (a, b) in enumerate(zip(second, third, strict=True))]
    counts = np.array(score(first, references).counts)
    for size in (1, 1, 2, 3, 5, 40):
        chosen = random.Random(size).choices(range(40), k=size)
        part = score([first[k] for k in chosen], [references[k] for k in chosen])
        assert finish(counts[chosen].sum(axis=0, keepdims=True))[0] == pytest.approx(part.value, abs=1e-9)


def test_nothing_and_perfect_are_the_ends_of_each_scale() -> None:
    same, empty = [[WARM]], [[""]]
    assert [one([WARM], same).value for one in (bleu, chrf, ter)] == pytest.approx([100, 100, 0])
    assert [one([""], same).value for one in (bleu, chrf, ter)] == [0, 0, 100]
    assert [one([""], empty).value for one in (bleu, chrf, ter)] == [0, 0, 0]
    assert ter_of_sums(np.array([[3.0, 0.0], [0.0, 0.0]])).tolist() == [100, 0]


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ("a text", [["a"]], "predictions must be a sequence of at least one text"),
        ([], [], "predictions must be a sequence of at least one text"),
        (["a", "b"], [["a", "b"]], "2 predictions, but references for 1; give one list of references for each"),
        (["a", "b"], [["a"], "b"], "references of prediction 1 must be a sequence of at least one text"),
        (["a", "b"], [[], ["b"]], "references of prediction 0 must be a sequence of at least one text"),
    ],
)
def test_shapes_that_sacrebleu_would_score_in_silence_are_refused(
    predictions: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bleu(predictions, references)
