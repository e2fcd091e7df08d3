from random import Random

import pytest

from tunesmith.errors import UserError
from tunesmith.metrics.worst import Copy, Original, WorstCase, worst_cases
from tunesmith.records import Example, Perturbed, Prediction


def original(number: int, text: str, *, target: str = "a b c d") -> Original:
    example = Example(id=str(number), task="t", split="test", prompt="?", target=target, references=(target,))
    return example, answer(str(number), text)


def answer(name: str, text: str) -> Prediction:
    return Prediction(example_id=name, text=text, prompt_tokens=1, new_tokens=1, finish="stop")


def copy(asked: Original, kind: str, text: str, *, fair: bool = False) -> Copy:
    example = asked[0].model_copy(update={"id": f"{asked[0].id}~{kind}", "group": asked[0].id})
    family = "fairness" if fair else "robustness"
    return Perturbed(family=family, kind=kind, of=asked[0].id, example=example), answer(example.id, text)


def only(originals: list[Original], copies: list[Copy], *metrics: str, family: str = "robustness") -> WorstCase:
    (found,) = worst_cases(originals, copies, families=[family], metrics=metrics)  # type: ignore[list-item]
    return found


def test_the_worst_of_each_example_then_the_mean() -> None:
    asked = [original(0, "a b c d"), original(1, "a b c d"), original(2, "x")]
    copies = [copy(asked[0], "typos", "a b c d"), copy(asked[0], "spaces", "a b x y"), copy(asked[1], "typos", "x"),
              copy(asked[2], "typos", "a b c d")]  # fmt: skip
    found = only(asked, copies, "rouge1")
    assert (found.original, found.worst, found.difference) == pytest.approx((200 / 3, 50 / 3, -50))
    assert (found.n, found.changed, found.higher_is_better) == (3, 3, True)
    typos, spaces = found.kinds
    assert (typos.kind, typos.changed, typos.value, typos.difference) == ("typos", 3, pytest.approx(200 / 3), 0)
    assert (spaces.changed, spaces.value) == (1, pytest.approx(50))
    assert found.worst_low <= found.worst <= found.worst_high
    assert found.low <= found.difference <= found.high


def test_where_lower_is_better_the_worst_is_the_highest() -> None:
    asked = [original(0, "no no no"), original(1, "a b c")]
    copies = [copy(asked[0], "typos", "no no no no no"), copy(asked[1], "typos", "a b c")]
    found = only(asked, copies, "repetition")
    assert (found.original, found.worst) == pytest.approx((0, 100 * (2 / 3) / 2))
    assert not found.higher_is_better
    assert [(one.example_id, one.before, one.kind) for one in found.losses] == [("0", 0, "typos")]


def test_copies_that_change_nothing_leave_every_score_as_it_is() -> None:
    asked = [original(number, "a b x") for number in range(4)]
    for copies in ([], [copy(one, "typos", one[1].text) for one in asked]):
        found = only(asked, copies, "rouge1")
        assert found.worst == found.original
        assert (found.difference, found.low, found.high, found.losses) == (0, 0, 0, ())
        assert (found.worst_low, found.worst_high) == (found.original_low, found.original_high)


@pytest.mark.parametrize("metric", ["rouge1", "exact-match", "repetition", "longest-repeat", "invented-numbers"])
def test_the_worst_case_is_never_better_than_the_original(metric: str) -> None:
    random = Random(metric)
    for _ in range(10):
        asked = [original(number, " ".join(random.choices("abcd12", k=4))) for number in range(6)]
        copies = [copy(one, kind, " ".join(random.choices("abcd12", k=4))) for one in asked for kind in ("x", "y")]
        found = only(asked, copies, metric)
        sign = 1 if found.higher_is_better else -1
        assert sign * found.difference <= 0
        assert all(sign * found.worst <= sign * one.value for one in found.kinds)


def test_the_largest_losses_are_named_with_both_answers() -> None:
    asked = [original(number, "a b c d") for number in range(8)]
    copies = [copy(one, kind, "a b c d" if number == 7 else "a " * (number % 4)) for number, one in enumerate(asked)
              for kind in ("typos", "spaces")]  # fmt: skip
    losses = only(asked, copies, "rouge1").losses
    assert len(losses) == 5
    assert [loss.after for loss in losses] == sorted(loss.after for loss in losses)
    assert len({loss.example_id for loss in losses}) == 5
    assert (losses[0].before, losses[0].answer, losses[0].changed_answer) == (100, "a b c d", "")


def test_families_are_kept_apart_and_one_without_copies_is_there() -> None:
    asked = [original(0, "a b c d")]
    copies = [copy(asked[0], "typos", "x")]
    robust, fair = worst_cases(asked, copies, families=["robustness", "fairness"], metrics=["rouge1"])
    assert (robust.family, robust.worst, fair.family, fair.worst, fair.changed) == ("robustness", 0, "fairness", 100, 0)
    assert fair.kinds == ()


def test_a_name_swap_is_scored_against_its_own_reference() -> None:
    asked = [original(0, "Ngozi calls", target="Ngozi calls")]
    changed, prediction = copy(asked[0], "first-names", "Linda calls", fair=True)
    example = changed.example.model_copy(update={"target": "Linda calls", "references": ("Linda calls",)})
    found = only(asked, [(changed.model_copy(update={"example": example}), prediction)], "rouge1", family="fairness")
    assert found.worst == 100


def test_metrics_of_the_whole_set_or_without_a_better_side_have_no_worst_case() -> None:
    asked = [original(0, "a b c d")]
    found = worst_cases(asked, [], families=["robustness"], metrics=["bleu", "length-ratio", "rouge2"])
    assert [one.metric for one in found] == ["rouge2"]
    assert worst_cases(asked, [], families=["robustness"], metrics=["bleu"]) == ()


def test_without_examples_there_is_nothing_to_measure() -> None:
    with pytest.raises(UserError, match="there are no examples to score"):
        worst_cases([], [], families=["robustness"], metrics=["rouge1"])
