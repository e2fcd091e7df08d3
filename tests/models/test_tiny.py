from hashlib import sha256
from pathlib import Path
from typing import Literal

import pytest
import torch

from tunesmith.errors import UsageError
from tunesmith.models.load import load
from tunesmith.models.tiny import write_tiny

KINDS = ("causal", "seq2seq")
Kind = Literal["causal", "seq2seq"]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_files_whatever_was_drawn_before(
    kind: Kind, texts: tuple[str, ...], tmp_path: Path
) -> None:
    first = write_tiny(tmp_path / "first", kind=kind, texts=texts, seed=3)
    torch.rand(17)
    second = write_tiny(tmp_path / "second", kind=kind, texts=texts, seed=3)
    assert digests(first) == digests(second)


def test_another_seed_gives_other_weights_and_the_same_tokenizer(texts: tuple[str, ...], tmp_path: Path) -> None:
    first = digests(write_tiny(tmp_path / "first", kind="causal", texts=texts, seed=0))
    second = digests(write_tiny(tmp_path / "second", kind="causal", texts=texts, seed=1))
    assert {name for name in first if first[name] != second[name]} == {"model.safetensors"}


def test_writing_one_does_not_disturb_anybody_elses_random_numbers(texts: tuple[str, ...], tmp_path: Path) -> None:
    torch.manual_seed(5)
    undisturbed = torch.rand(3)
    torch.manual_seed(5)
    write_tiny(tmp_path, kind="causal", texts=texts)
    assert torch.equal(torch.rand(3), undisturbed)


def test_the_causal_one_is_a_llama_with_grouped_heads_and_one_embedding(tiny_causal: Path) -> None:
    loaded = load(tiny_causal)
    config = loaded.model.config
    assert (loaded.kind, config.model_type, loaded.context) == ("causal", "llama", 1024)
    assert (config.num_attention_heads, config.num_key_value_heads) == (4, 2)
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    assert loaded.stop_ids == {loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")}


def test_the_encoder_decoder_is_a_t5_with_gates_and_a_head_of_its_own(tiny_seq2seq: Path) -> None:
    loaded = load(tiny_seq2seq)
    assert (loaded.kind, loaded.model.config.model_type) == ("seq2seq", "t5")
    assert loaded.model.config.is_gated_act
    assert loaded.model.lm_head.weight is not loaded.model.shared.weight
    assert loaded.tokenizer("a")["input_ids"][-1] == loaded.tokenizer.eos_token_id


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_has_an_embedding_and_any_text_comes_back(
    kind: Kind, texts: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    loaded = load(request.getfixturevalue(f"tiny_{kind}"))
    assert len(loaded.tokenizer) == loaded.model.config.vocab_size <= 512
    for text in (*texts, "never seen: Ω ≠ ω\n\ttabs  and  spaces"):
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert loaded.tokenizer.decode(ids) == text


def test_the_chat_template_marks_every_turn(tiny_causal: Path) -> None:
    tokenizer = load(tiny_causal).tokenizer
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    asked = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert asked == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    told = tokenizer.apply_chat_template(turns, tokenize=False)
    assert asked == told + "<|im_start|>assistant\n"


@pytest.mark.parametrize("kind", KINDS)
def test_size_can_be_chosen(kind: Kind, texts: tuple[str, ...], tmp_path: Path) -> None:
    model = load(write_tiny(tmp_path, kind=kind, texts=texts, hidden=32, layers=1, vocabulary=270)).model
    assert model.get_input_embeddings().weight.shape == (270, 32)
    assert model.config.num_hidden_layers == 1


@pytest.mark.parametrize("kind", KINDS)
def test_its_first_guess_is_about_as_bad_as_chance(kind: Kind, request: pytest.FixtureRequest) -> None:
    loaded = load(request.getfixturevalue(f"tiny_{kind}"))
    ids = torch.tensor([loaded.tokenizer("The customer asks where order 4711 is.")["input_ids"]])
    with torch.inference_mode():
        loss = loaded.model(input_ids=ids, labels=ids).loss.item()
    chance = torch.tensor(float(loaded.model.config.vocab_size)).log().item()
    assert chance - 1 < loss < chance + 2


def test_an_impossible_size_is_refused_with_all_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        write_tiny(tmp_path / "never", kind="causal", texts=[], hidden=50, layers=0, vocabulary=100)
    assert caught.value.problems == (
        "hidden is 50; give a multiple of 32, such as 64.",
        "vocabulary is 100; give at least 260: 256 bytes and the special tokens.",
        "layers is 0; give at least 1.",
    )
    assert not (tmp_path / "never").exists()
