"""How a token of the vocabulary is written down beside a virtual token."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith.training.nearest import in_words


@pytest.fixture(scope="module")
def tokenizer(tiny_causal: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_causal)


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        ("Ā", "<0x00>"),
        ("ĉ", "<0x09>"),
        ("ġ", "<0x7F>"),
        ("â", "<0xE2>"),
        ("ģ", "<0x81>"),
        ("Ċ", "\n"),
        ("Ġ", " "),
        ("a", "a"),
        ("<|im_end|>", "<|im_end|>"),
    ],
)
def test_a_byte_that_is_no_character_to_be_shown_is_written_as_its_number(
    piece: str, text: str, tokenizer: Any
) -> None:
    assert in_words(tokenizer, tokenizer.convert_tokens_to_ids(piece)) == text


def test_every_token_can_be_told_from_every_other_and_stands_in_a_page(tokenizer: Any) -> None:
    found = [in_words(tokenizer, token) for token in range(len(tokenizer))]
    assert len(set(found)) == len(found)
    assert all(one == "\n" or one >= " " for text in found for one in text)
    assert not any("\ufffd" in text for text in found)
