from tunesmith.inference.repeats import ALIKE, FIRST, MOST, Repeats


def after(answer: list[int]) -> Repeats:
    written: list[int] = []
    repeats = Repeats(written)
    for token in answer:
        written.append(token)
        repeats.note()
    return repeats


def test_what_never_stood_there_before_gives_no_guess() -> None:
    assert after(list(range(40))).guess(5) == []
    short = [*range(ALIKE - 1), 50, *range(ALIKE - 1)]  # too few tokens alike
    assert after(short).guess(5) == []


def test_what_followed_the_last_time_is_guessed() -> None:
    same = list(range(ALIKE))
    answer = [*same, 50, 51, *same, 60, 61, 62, *same]
    assert after(answer).guess(1) == [60]
    assert after(answer).guess(0) == []


def test_a_guess_goes_round_where_what_repeats_is_short() -> None:
    answer = [7, 8, 9] * 5
    repeats = after(answer)
    for _ in range(5):
        repeats.judge(right=True)
    assert repeats.guess(100) == [7, 8, 9, 7, 8, 9, 7, 8]
    assert len(repeats.guess(100)) == MOST


def test_guesses_grow_while_they_are_right() -> None:
    answer = [4] * 40
    repeats, lengths = after(answer), []
    for right in (True, True, True, False):
        lengths.append(len(repeats.guess(100)))
        repeats.judge(right=right)
    assert lengths == [FIRST, 2 * FIRST, 4 * FIRST, MOST]
    assert len(repeats.guess(100)) == FIRST
