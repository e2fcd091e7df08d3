"""Answers of encoder-decoders by fused layers are those of transformers' generate."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith.inference import decode as decoding
from tunesmith.inference.decode import decode
from tunesmith.inference.encoded import EncodedReader
from tunesmith.inference.generate import Answer, generate, writes_itself
from tunesmith.methods import lora, soft_prompt
from tunesmith.models.load import Loaded, load
from tunesmith.settings import GenerateSettings

GREEDY = GenerateSettings()
Prompt = tuple[int, ...]


def prompts(seed: int = 1, count: int = 9) -> list[Prompt]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 40, (count,), generator=draw).tolist()
    found = {tuple(torch.randint(20, 300, (n,), generator=draw).tolist()) for n in lengths}
    return sorted(found, key=lambda ids: (-len(ids), ids))


def alone(loaded: Loaded, prompt: Prompt, new: int) -> tuple[list[int], bool]:
    out = loaded.model.generate(
        input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new, do_sample=False, num_beams=1, pad_token_id=loaded.tokenizer.pad_token_id,
        eos_token_id=sorted(loaded.stop_ids),
    )[0, 1:].tolist()  # fmt: skip
    stop = next((n for n, token in enumerate(out) if token in loaded.stop_ids), None)
    return (out, False) if stop is None else (out[:stop], True)


@pytest.fixture(params=["gated", "plain"])
def loaded(request: pytest.FixtureRequest, tiny_seq2seq: Path) -> Loaded:
    """A model with a gate and a head of its own as FLAN-T5, and one without as T5 1.0."""
    found = load(tiny_seq2seq)
    if request.param == "gated":
        return found
    from transformers import T5ForConditionalGeneration

    config = found.model.config
    config.update({"feed_forward_proj": "relu", "is_gated_act": False, "dense_act_fn": "relu",
                   "tie_word_embeddings": True, "scale_decoder_outputs": True})  # fmt: skip
    torch.manual_seed(3)
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.shared.weight.normal_(0, 1)
    return Loaded(model, found.tokenizer, "seq2seq", found.folder, 0)


def fused_only(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the prompts that the reader of encoder-decoders is given."""
    given: list[int] = []
    read = EncodedReader.read

    def noted(self: EncodedReader, reading: Any) -> Any:
        given.append(len(reading))
        return read(self, reading)

    monkeypatch.setattr(EncodedReader, "read", noted)
    return given


@pytest.mark.parametrize("slots", [1, 3, 50])
def test_answers_equal_those_of_each_prompt_alone(loaded: Loaded, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, given = prompts(), fused_only(monkeypatch)
    expected = [alone(loaded, prompt, 7) for prompt in asked]
    assert decode(loaded, asked, max_new_tokens=7, tokens_in_memory=slots * (len(asked[0]) + 7)) == expected
    assert sum(given) == len(asked)
    assert len({tuple(answer) for answer, _ in expected}) > 1


def test_prompts_that_begin_alike_share_nothing(loaded: Loaded) -> None:
    start = tuple(range(30, 50))
    asked = sorted({start + prompt for prompt in prompts(4)}, key=lambda ids: (-len(ids), ids))
    found = decode(loaded, asked, max_new_tokens=5, tokens_in_memory=150)
    assert found == [alone(loaded, prompt, 5) for prompt in asked]


def test_each_prompt_has_its_own_limit_and_a_stop_frees_its_slot(loaded: Loaded) -> None:
    asked = prompts(2)
    loaded.model.generation_config.eos_token_id = [alone(loaded, asked[0], 6)[0][2]]
    limits = [3 + number % 5 for number in range(len(asked))]
    found = decode(loaded, asked, max_new_tokens=limits, tokens_in_memory=2 * (len(asked[0]) + 7))
    expected = [alone(loaded, prompt, limit) for prompt, limit in zip(asked, limits, strict=True)]
    assert found == expected
    assert any(stopped for _, stopped in expected)


def test_an_adapter_that_is_not_merged_answers_as_through_transformers(tiny_seq2seq: Path) -> None:
    base = load(tiny_seq2seq)
    model = lora.attach(lora.Settings(rank=4), base.model, "seq2seq").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    wrapped = Loaded(model, base.tokenizer, base.kind, base.folder, base.context)
    asked = prompts(5)
    found = decode(wrapped, asked, max_new_tokens=5, tokens_in_memory=200)
    assert found == [alone(wrapped, prompt, 5) for prompt in asked]
    assert found != [alone(load(tiny_seq2seq), prompt, 5) for prompt in asked]


def test_virtual_tokens_of_the_encoder_are_read(tiny_seq2seq: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, given = load(tiny_seq2seq), fused_only(monkeypatch)
    model = soft_prompt.attach(soft_prompt.Settings(tokens=4, init="random"), base.model, "seq2seq").eval()
    tuned = Loaded(model, base.tokenizer, base.kind, base.folder, base.context)
    virtual = next(iter(tuned.virtual.values()))
    asked = [(*virtual, *prompt) for prompt in prompts(6)]
    found = generate(tuned, asked, settings=GREEDY, max_new_tokens=5)
    assert sum(given) == len(asked)
    answers = [alone(tuned, prompt, 5) for prompt in asked]
    assert found == [Answer(tuple(ids), "stop" if stopped else "length") for ids, stopped in answers]


def test_what_fused_layers_do_not_know_is_left_to_transformers(tiny_seq2seq: Path) -> None:
    assert writes_itself(load(tiny_seq2seq), GREEDY)
    assert not writes_itself(load(tiny_seq2seq), GenerateSettings(beams=2))
    base = load(tiny_seq2seq)
    soft_prompt.attach(soft_prompt.Settings(tokens=4, init="random", place="decoder"), base.model, "seq2seq")
    assert not writes_itself(base, GREEDY)
    bent = load(tiny_seq2seq)
    bent.model.generation_config.no_repeat_ngram_size = 2
    assert not writes_itself(bent, GREEDY)


def test_where_memory_runs_out_fewer_answers_are_written_at_once(
    tiny_seq2seq: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, asked, read = load(tiny_seq2seq), prompts(7), EncodedReader.read

    def scarce(self: EncodedReader, reading: Any) -> Any:
        if self.slots > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return read(self, reading)

    monkeypatch.setattr(EncodedReader, "read", scarce)
    found = decode(loaded, asked, max_new_tokens=4, tokens_in_memory=8 * (len(asked[0]) + 4))
    assert found == [alone(loaded, prompt, 4) for prompt in asked]
    assert "2 at once" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_other_number_formats(tiny_seq2seq: Path, dtype: torch.dtype) -> None:
    loaded = load(tiny_seq2seq, dtype=dtype)
    asked = prompts(8)
    found = decode(loaded, asked, max_new_tokens=4, tokens_in_memory=500)
    expected = [alone(loaded, prompt, 4) for prompt in asked]
    same = sum(one == two for one, two in zip(found, expected, strict=True))
    assert same == len(asked) if dtype == torch.float64 else same >= len(asked) // 2, "bfloat16 has ties"


def test_the_reader_is_chosen_by_the_model(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    for folder, kind in ((tiny_causal, decoding.FusedReader), (tiny_seq2seq, EncodedReader)):
        order = decoding._Order([(5, 6)], 0, [2], [0], frozenset(), lambda answer: False, lambda done, text: None)
        with decoding._reader(load(folder), order, 100, most=1) as reader:
            assert isinstance(reader, kind)
