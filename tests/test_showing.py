import io
from pathlib import Path

import pytest
from rich.console import Console
from small_run import Command

from tunesmith.opening import open_run
from tunesmith.showing import show_examples


def shown(recipe: Path, *overrides: str, count: int = 1, **options: object) -> str:
    text = io.StringIO()
    with open_run(recipe, overrides=overrides) as job:
        show_examples(job, count, Console(file=text, highlight=False, **options))  # type: ignore[arg-type]
    return text.getvalue()


def test_a_pipe_gets_the_text_as_the_model_sees_it(small: Path, tunesmith: Command) -> None:
    found = tunesmith("show", small, "-n", "1", "--quiet", "--set", "tasks.0.template=prompt-completion",
                      "--set", "tasks.0.columns={prompt: dialogue, completion: summary}")  # fmt: skip
    first, *rest = found.out.splitlines()
    assert (found.code, found.err) == (0, "")
    assert first.startswith("summarize/train/chats.csv:2: ")
    assert first.endswith(" tokens")
    assert rest == [
        "<|im_start|>user",
        "Customer: my lamp number 0 is broken. Agent: sorry, a new lamp comes on day 0.<|im_end|>",
        "<|im_start|>assistant",
        "⟦The lamp is broken.<|im_end|>⟧",
    ]


def test_a_terminal_gets_the_trained_tokens_in_colour(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    found = shown(small, force_terminal=True, color_system="standard", width=200)
    assert "\x1b[30;42mThe lamp is broken.<|im_end|>\x1b[0m" in found
    assert "⟦" not in found


def test_long_lines_stay_whole(small: Path) -> None:
    whole = "Customer: my lamp number 0 is broken. Agent: sorry, a new lamp comes on day 0."
    assert whole in shown(small, width=20).splitlines()


def test_it_shows_as_many_as_asked_for(small: Path) -> None:
    assert shown(small, count=5, width=500).count("⟦") == 5


def test_what_is_cut_or_left_out_is_said(small: Path) -> None:
    cut = shown(small, "train.max_tokens=120", width=500)
    assert cut.splitlines()[-1].startswith("summarize/train/chats.csv:2: its prompt was cut from ")
    assert cut.endswith(" tokens\n")


def test_an_encoder_decoder_shows_its_target_too(small: Path, tiny_seq2seq: Path) -> None:
    found = shown(small, f"model={tiny_seq2seq}", width=500)
    assert found.splitlines()[-1].endswith("</s>⟦The lamp is broken.</s>⟧")
