from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from markupsafe import Markup
from run_folder import HOSTILE

from tunesmith.records import Comparison, Score
from tunesmith.reporting.charts import WIDTH
from tunesmith.reporting.contents import Lengths, TaskReport
from tunesmith.reporting.figures import (
    Axis,
    Curve,
    Gain,
    curves,
    forest,
    interval_bar,
    length_histograms,
    share_bar,
)
from tunesmith.reporting.side_by_side import Cell, Column
from tunesmith.reporting.tradeoff import gain_against_cost
from tunesmith.wording import MINUS

COLUMN = Column("rouge1", "ROUGE-1", "points of 100", "higher", "sig", decimals=1, low=20.0, high=40.0)


def drawn(figure: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(figure))


def texts(figure: Markup) -> list[str]:
    return ["".join(element.itertext()) for element in drawn(figure).iter("text")]


def gain(name: str, difference: float, *, slot: int = 1, trainable: int | None = 1000, half: float = 1.0) -> Gain:
    found = Comparison(
        task="t", metric="rouge1", better=name, than="zero-shot", difference=difference, low=difference - half,
        high=difference + half, p_value=0.01, test="paired bootstrap", n=10, sentence="",
    )  # fmt: skip
    return Gain(name, slot, trainable, found)


def marker_places(figure: Markup) -> list[tuple[float, float]]:
    """Return the middle of every square marker."""
    found = []
    for element in drawn(figure).iter("polygon"):
        corners = [tuple(map(float, corner.split(","))) for corner in element.attrib["points"].split()]
        found.append((sum(x for x, _ in corners) / len(corners), sum(y for _, y in corners) / len(corners)))
    return found


def test_an_interval_bar_spans_the_interval_with_its_dot_at_the_score() -> None:
    score = Score(
        task="t", metric="rouge1", value=30, unit="points of 100", higher_is_better=True, n=10, n_empty=0, low=20,
        high=40, signature="sig",
    )  # fmt: skip
    root = drawn(interval_bar(Cell(score, "30.0", "20.0 to 40.0", ""), COLUMN, 0))
    line = next(one for one in root.iter("line") if "interval" in one.attrib["class"])
    middle = (float(line.attrib["x1"]) + float(line.attrib["x2"])) / 2
    assert float(next(root.iter("circle")).attrib["cx"]) == pytest.approx(middle, abs=0.1)
    assert root.attrib["aria-label"] == "30.0 points of 100, 95 % interval 20.0 to 40.0"


def test_a_forest_has_a_row_for_each_candidate_with_its_numbers() -> None:
    found = forest([gain("lora", 3.21), gain("full", -2.0)], COLUMN)
    assert "+3.2 (2.2 to 4.2)" in texts(found)
    assert f"{MINUS}2.0 ({MINUS}3.0 to {MINUS}1.0)" in texts(found)
    assert drawn(found).attrib["aria-label"] == (
        f"ROUGE-1: difference to zero-shot. lora +3.2 (2.2 to 4.2); full {MINUS}2.0 ({MINUS}3.0 to {MINUS}1.0)."
    )


def test_a_forest_puts_better_right_of_the_zero_line() -> None:
    figure = forest([gain("lora", 3.0), gain("full", -2.0)], COLUMN)
    zero = next(float(one.attrib["x1"]) for one in drawn(figure).iter("line") if one.attrib["class"] == "zero")
    better, worse = marker_places(figure)
    assert worse[0] < zero < better[0]


def test_a_gain_stands_at_its_height_and_what_trains_nothing_left_of_the_rest() -> None:
    figure = gain_against_cost(
        [gain("few-shot", 2, trainable=0), gain("lora", 8, trainable=10_000), gain("full", 8, trainable=10**8)], COLUMN
    )
    few, lora, full = marker_places(figure)
    assert few[0] < lora[0] < full[0]
    assert few[1] > lora[1] == full[1]


def test_names_beside_the_right_edge_go_to_the_left_of_their_marker() -> None:
    figure = gain_against_cost([gain("a-very-long-name", 1, trainable=10), gain("b", 1, trainable=10**9)], COLUMN)
    for element in drawn(figure).iter("text"):
        if "label" in element.attrib.get("class", ""):
            assert float(element.attrib["x"]) < WIDTH


def test_equal_gains_at_equal_cost_have_names_that_do_not_cover_each_other() -> None:
    figure = gain_against_cost([gain("a", 1), gain("b", 1)], COLUMN)
    heights = [float(e.attrib["y"]) for e in drawn(figure).iter("text") if "label" in e.attrib.get("class", "")]
    assert abs(heights[0] - heights[1]) >= 15


def test_many_gains_are_numbered_from_the_largest_and_named_below_with_their_parameters() -> None:
    many = [gain(f"way-{n}", n, slot=n + 1, trainable=10**n) for n in range(12)]
    found = texts(gain_against_cost(many, COLUMN))
    assert found.count("1way-11") == 0
    names = [one for one in found if "way-" in one]
    assert len(names) == 12
    numbers = [int("".join(e.itertext())[: len(str(n))]) for n in range(1, 13) for e in labels(many, str(n))]
    assert numbers == [n for n in range(1, 13) for _ in range(2)], "once beside the marker, once in the key"
    assert {"10 G", "100 G"} <= set(found)


def labels(gains: list[Gain], text: str) -> list[ElementTree.Element]:
    """Return the labels with this text; the title that a browser shows over it left out."""
    named = [e for e in drawn(gain_against_cost(gains, COLUMN)).iter("text") if "label" in e.attrib.get("class", "")]
    return [e for e in named if (e[0].tail or "") == text]


@pytest.mark.parametrize("count", [6, 21])
def test_labels_of_crowded_gains_cover_neither_each_other_nor_a_marker(count: int) -> None:
    crowd = [gain(f"w{n}", 15 + n % 3, trainable=4_000_000 + 90_000 * n) for n in range(count)]
    figure = gain_against_cost([gain("low", 0.1, trainable=10), *crowd], COLUMN)
    places = marker_places(figure)[: count + 1]
    boxes = []
    for element in drawn(figure).iter("text"):
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        if "label" in element.attrib.get("class", "") and y < 280:
            boxes.append((x, y - 11, x + 7 * len(element[0].tail or ""), y + 4))
    assert len(boxes) == count + 1
    for place, (left, top, right, bottom) in enumerate(boxes):
        assert not any(left < b[2] and b[0] < right and top < b[3] and b[1] < bottom for b in boxes[:place])
        assert not any(left < x < right and top < y < bottom for x, y in places)


def test_the_kept_checkpoint_wears_a_ring_on_the_validation_line() -> None:
    line = Curve("lora", 1, ((0, 3.0), (10, 2.0), (20, 2.5)), bold=True, best=(10, 2.0))
    figure = curves([line], x=Axis("tokens"), y=Axis("nats"), label="loss")
    ring = next(one for one in drawn(figure).iter("circle") if "ring" in one.attrib["class"])
    assert (float(ring.attrib["cx"]), float(ring.attrib["cy"])) == pytest.approx(marker_places(figure)[1], abs=0.2)


def test_a_candidate_with_two_lines_is_named_once() -> None:
    lines = [Curve("lora", 1, ((0, 3.0), (9, 2.0)), bold=False), Curve("lora", 1, ((9, 2.2),), bold=True)]
    named = [e for e in texts(curves(lines, x=Axis("tokens"), y=Axis("nats"), label="")) if e.endswith("lora")]
    assert len(named) == 1


def test_lower_loss_is_drawn_lower() -> None:
    line = Curve("lora", 1, ((0, 3.0), (10, 2.0)), bold=True)
    first, last = marker_places(curves([line], x=Axis("tokens"), y=Axis("nats"), label=""))
    assert last[1] > first[1]


def lengths(name: str) -> TaskReport:
    one = Lengths(candidate=name, n=4, median=3, ratio=1.25, empty=0, cut_off=0, histogram=(1, 3))
    return TaskReport(
        task="t", scores={}, comparisons=(), length_edges=(0, 2, 4), target_lengths=(4, 0), lengths=(one,), choices=(),
        examples=(),
    )  # fmt: skip


def test_length_histograms_show_answers_and_targets() -> None:
    figure = length_histograms(lengths("lora"), {"lora": 2})
    classes = [one.attrib["class"] for one in drawn(figure).iter("path")]
    assert classes == ["area c2", "outline"]
    assert "ratio 1.25" in texts(figure)


def test_a_share_bar_is_as_wide_as_its_share() -> None:
    assert next(drawn(share_bar(1, 4)).iter("rect")).attrib["width"] == "25"
    assert next(drawn(share_bar(0, 0)).iter("rect")).attrib["width"] == "0"


FIGURES: list[Callable[[str], Markup]] = [
    lambda name: forest([gain(name, 1)], COLUMN),
    lambda name: gain_against_cost([gain(name, 1)], COLUMN),
    lambda name: curves([Curve(name, 0, ((1, 1),), bold=True)], x=Axis("x"), y=Axis("y"), label=name),
    lambda name: length_histograms(lengths(name), {name: 0}),
]


@pytest.mark.parametrize("name", HOSTILE[:9])  # the tenth has a character that XML does not know
@pytest.mark.parametrize("make", FIGURES)
def test_hostile_names_stay_text(make: Callable[[str], Markup], name: str) -> None:
    figure = make(name)
    assert {element.tag for element in drawn(figure).iter()} <= {
        "svg", "line", "text", "title", "path", "circle", "polygon", "rect",
    }  # fmt: skip
    assert any(name in text for text in texts(figure))


@pytest.mark.parametrize("make", FIGURES)
def test_figures_carry_no_colours_and_no_styles_of_their_own(make: Callable[[str], Markup]) -> None:
    for element in drawn(make("lora")).iter():
        assert not {"style", "fill", "stroke", "href", "onload"} & set(element.attrib)
