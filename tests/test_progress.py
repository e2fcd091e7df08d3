from collections.abc import Iterator

import pytest

from tunesmith import progress
from tunesmith.progress import be_quiet, counting_on, printable, say, track


@pytest.fixture(autouse=True)
def loud() -> Iterator[None]:
    be_quiet(False)
    yield
    be_quiet(False)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module sees; the last entry counts."""
    now = [100.0]
    monkeypatch.setattr("tunesmith.progress.time.monotonic", lambda: now[-1])
    return now


def test_remarks_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("one")
    assert capsys.readouterr() == ("", "one\n")


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    be_quiet(True)
    say("one")
    with track("work", 2) as show:
        show(2, "done")
    assert capsys.readouterr() == ("", "")


def test_a_pipe_gets_a_line_every_fifteen_seconds_and_at_the_end(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with track("work", 10) as show:
        for done, at in ((1, 105.0), (2, 116.0), (3, 118.0), (4, 140.0), (10, 141.0)):
            clock.append(at)
            show(done, f"step {done}")
    assert capsys.readouterr() == ("", (
        "work: 20 %, 1 min 04 s left; step 2\n"
        "work: 40 %, 60 s left; step 4\n"
        "work: 100 %, 0 s left; step 10\n"
    ))  # fmt: skip


def test_what_was_done_before_does_not_shorten_the_time_that_is_left(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with track("work", 10, done=6) as show:
        clock.append(120.0)
        show(8, "step 8")
    assert capsys.readouterr().err == "work: 80 %, 20 s left; step 8\n"


def test_a_later_part_counts_on_from_those_before_it() -> None:
    shown: list[tuple[float, str]] = []
    show = counting_on(lambda done, text: shown.append((done, text)), 4, 10, "prompts")
    show(1, "1/6 prompts")
    assert shown == [(5, "5/10 prompts")]


def test_nothing_done_yet_is_no_division_by_zero(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with track("work", 10) as show:
        clock.append(200.0)
        show(0, "reading")
    assert capsys.readouterr().err == "work: 0 %, 0 s left; reading\n"


@pytest.mark.parametrize(("no_color", "bar"), [("", True), ("1", False)])
def test_a_terminal_gets_a_bar_unless_colours_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch, no_color: str, bar: bool
) -> None:
    drawn: list[str] = []

    def note(title: str, total: float, before: float) -> None:
        drawn.append(title)
        raise StopIteration

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(progress, "_bar", note)
    if bar:
        with pytest.raises(RuntimeError), track("work", 1):
            pass
    else:
        with track("work", 1):
            pass
    assert drawn == (["work"] if bar else [])


def test_the_bar_shows_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with track("work", 4) as show:
        show(3, "step 3/4")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "work" in shown.err
    assert "75 %" in shown.err
    assert "step 3/4" in shown.err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 東 🪑", "plain é 東 🪑"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        ("\u202e", "\\u202e"),
    ],
)
def test_control_characters_are_shown_as_their_numbers(text: str, shown: str) -> None:
    assert printable(text) == shown
