from io import StringIO

import pytest
from rich.console import Console

from tunesmith.reporting.contents import Report
from tunesmith.reporting.gather import gather
from tunesmith.reporting.terminal import print_summary
from tunesmith.rundir import RunDir


def printed(report: Report, *, terminal: bool = False, width: int = 80) -> str:
    out = StringIO()
    print_summary(
        report, Console(file=out, force_terminal=terminal, width=width, color_system="standard" if terminal else None)
    )
    return out.getvalue()


def test_in_a_pipe_it_is_plain_lines_with_aligned_columns(report: Report) -> None:
    lines = printed(report).splitlines()
    assert lines[: len(report.headline)] == list(report.headline)
    start = next(place for place, line in enumerate(lines) if line.startswith("candidate"))
    assert [line.split()[0] for line in lines[start + 1 : start + 5]] == ["zero-shot", "two-shot", "lora", "full"]
    assert lines[start].split()[:4] == ["candidate", "ROUGE-1", "ROUGE-2", "BLEU"]
    assert len({line.index(")") for line in lines[start + 1 : start + 5]}) == 1
    assert lines[start + 5] == "* best; in brackets the 95 % interval"
    assert "\x1b" not in "".join(lines)


def test_each_candidate_has_its_scores_intervals_and_costs(report: Report) -> None:
    lora, *_ = [line for line in printed(report).splitlines() if line.startswith("lora ")]
    score = report.tasks[0].scores["lora"][0]
    assert f"{score.value:.1f}" in lora
    assert f"({score.low:.1f} to {score.high:.1f})" in lora
    for cost in ("4.88 M", "19.6 MB", "6 min 52 s", "38 s", "1.9 GB"):
        assert cost in lora


def test_on_a_terminal_no_line_is_wider_than_it(report: Report) -> None:
    out = StringIO()
    print_summary(report, Console(file=out, force_terminal=True, width=100, color_system=None))
    assert max(map(len, out.getvalue().splitlines())) <= 100


def test_the_headline_is_bold_on_a_terminal_only(report: Report) -> None:
    assert "\x1b[1m" in printed(report, terminal=True, width=200)


def test_what_is_missing_is_said(run: RunDir) -> None:
    run.candidate("full").scores("summarize").unlink()
    text = printed(gather(run))
    assert 'full is not finished: there are no scores for task "summarize"\n' in text
    assert any(line.startswith("full") and " - " in line for line in text.splitlines())


@pytest.mark.parametrize("terminal", [True, False])
def test_names_cannot_steer_the_terminal_or_the_markup(report: Report, terminal: bool) -> None:
    bad = report.candidates[2].model_copy(update={"name": "[red]x\x1b[2J"})
    text = printed(report.model_copy(update={"candidates": (bad,)}), terminal=terminal, width=200)
    assert "[red]x\N{REPLACEMENT CHARACTER}[2J" in text
    assert "\x1b[2J" not in text


def test_what_was_forgotten_has_a_table_of_its_own(report: Report) -> None:
    lines = printed(report).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("forgotten"))
    assert lines[start].split()[:6] == ["forgotten", "of", "items", "before", "after", "change"]
    assert [line.split()[:2] for line in lines[start + 1 : -1]] == [
        [name, what] for name in ("lora", "full") for what in ("probe,", "own-sums,")
    ]
    full = report.forgetting.changes[1] if report.forgetting else None
    assert full
    *_, shipped, own, pair = lines
    assert shipped.split()[:7] == ["full", "probe,", "%", "80", "93.8", "82.5", "\N{MINUS SIGN}11.2"]
    assert f"+{full.prose.change:.3f}" in shipped
    assert own.split()[:7] == ["full", "own-sums,", "ROUGE-1", "40", "32.0", "23.0", "\N{MINUS SIGN}9.0"]
    assert pair.startswith("lora gets 7 of 80 probe items right that full gets wrong, and 0 the other way round (p = ")


def test_a_skill_that_the_base_lacks_is_named(report: Report) -> None:
    assert report.forgetting
    first, *others = report.forgetting.changes
    skills = (first.skills[0].model_copy(update={"had": False}), *first.skills[1:])
    changes = (first.model_copy(update={"skills": skills}), *others)
    text = printed(report.model_copy(update={"forgetting": report.forgetting.model_copy(update={"changes": changes})}))
    assert "The base does no better than a blind guess in entities: no loss can show there.\n" in text


def test_without_a_probe_there_is_no_such_table(report: Report) -> None:
    assert "forgotten" not in printed(report.model_copy(update={"forgetting": None}))
