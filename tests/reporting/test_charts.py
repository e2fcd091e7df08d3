import re
from colorsys import rgb_to_hls
from itertools import combinations, pairwise

import pytest

from tunesmith.reporting.charts import (
    SLOTS,
    Scale,
    around,
    figure,
    linear_ticks,
    log_ticks,
    marker,
    settle,
    short,
    slot_class,
    tag,
)
from tunesmith.reporting.html import TEMPLATES


def test_text_and_attributes_are_escaped() -> None:
    made = tag("text", "<b>&", aria_label='"><script>')
    assert made == '<text aria-label="&#34;&gt;&lt;script&gt;">&lt;b&gt;&amp;</text>'


def test_elements_inside_elements_are_not_escaped_again() -> None:
    assert tag("g", tag("title", "a & b")) == "<g><title>a &amp; b</title></g>"


def test_a_figure_says_in_words_what_it_shows() -> None:
    assert figure([], label="a < b", height=10, width=20.5) == (
        '<svg class="chart" viewBox="0 0 20.5 10" role="img" aria-label="a &lt; b"/>'
    )


def test_a_linear_scale_maps_ends_to_ends() -> None:
    scale = Scale(10, 20, start=100, end=0)
    assert [scale(value) for value in (10, 15, 20)] == [100, 50, 0]


def test_a_logarithmic_scale_gives_equal_room_to_equal_factors() -> None:
    scale = Scale(1, 10_000, start=0, end=400, log=True)
    assert [scale(value) for value in (1, 10, 100)] == pytest.approx([0, 100, 200])


def test_a_scale_without_extent_puts_all_in_the_middle() -> None:
    assert Scale(3, 3, start=0, end=10)(3) == 5


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3, 7, [-2, 0, 2, 4, 6]),
        (0.31, 0.34, [0.31, 0.32, 0.33, 0.34]),
        (5, 5, [5]),
    ],
)
def test_linear_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert linear_ticks(low, high, 5) == pytest.approx(ticks)


def test_many_powers_of_ten_are_thinned() -> None:
    assert len(log_ticks(1, 1e14)) <= 7


def test_a_range_is_never_empty() -> None:
    assert around([]) == pytest.approx((-0.05, 1.05))
    assert around([0, 0]) == (-1, 1)
    assert around([4, 4]) == pytest.approx((3.8, 4.2))


def test_labels_side_by_side_keep_their_height_and_others_move_apart() -> None:
    assert settle([(0, 50, 40), (100, 50, 40)], low=0, high=100) == [50, 50]
    moved = settle([(0, 50, 40)] * 4, low=0, high=100)
    assert all(abs(a - b) >= 15 for a, b in combinations(moved, 2))


def test_labels_stay_within_the_drawing() -> None:
    assert settle([(0, 99, 40), (0, 99, 40)], low=0, high=100) == [99, 84]


def test_every_slot_has_its_own_shape_and_colour() -> None:
    shapes = [re.sub(r' class="[^"]*"', "", marker(slot, 0, 0)) for slot in range(SLOTS)]
    classes = [re.search(r"c\d", marker(slot, 0, 0)).group() for slot in range(SLOTS)]  # type: ignore[union-attr]
    assert len(set(shapes)) == SLOTS
    assert classes == [f"c{slot}" for slot in range(SLOTS)]


def test_after_the_last_slot_the_second_comes_again_so_that_the_baseline_keeps_its_own() -> None:
    assert [slot_class(place) for place in (SLOTS - 1, SLOTS, SLOTS + 6, SLOTS + 7)] == ["c7", "c1", "c7", "c1"]
    assert marker(SLOTS, 0, 0) == marker(1, 0, 0)


def test_long_names_end_in_an_ellipsis() -> None:
    assert short("abcdef", 6) == "abcdef"
    assert short("abcdefg", 6) == "abcde…"


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8")
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([a-z0-9-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", STYLE)
}


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("name", ["ink", "soft", "link", "warn", "up", "down", *(f"k{slot}" for slot in range(SLOTS))])
def test_every_colour_of_text_has_enough_contrast(name: str, mode: int) -> None:
    assert _contrast(COLOURS[name][mode], COLOURS["paper"][mode]) >= 4.5
    assert _contrast(COLOURS[name][mode], COLOURS["panel"][mode]) >= 4.5


@pytest.mark.parametrize("mode", [0, 1])
def test_marked_words_are_readable_and_the_two_strengths_differ(mode: int) -> None:
    weak, strong, ink = COLOURS["n1"][mode], COLOURS["n2"][mode], COLOURS["ink"][mode]
    assert _contrast(weak, ink) >= 4.5
    assert _contrast(strong, ink) >= 4.5
    assert _contrast(weak, strong) >= 1.2


@pytest.mark.parametrize("mode", [0, 1])
def test_colours_of_neighbouring_candidates_differ_in_hue(mode: int) -> None:
    hues = []
    for slot in range(1, SLOTS):  # the first is grey
        parts = [int(COLOURS[f"k{slot}"][mode][place : place + 2], 16) / 255 for place in (1, 3, 5)]
        hues.append(360 * rgb_to_hls(*parts)[0])
    for one, other in pairwise(hues):
        assert min(abs(one - other), 360 - abs(one - other)) >= 40
