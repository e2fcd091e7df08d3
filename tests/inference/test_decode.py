from contextlib import nullcontext

import flashing
import pytest
import torch

from tunesmith.errors import ResourceError
from tunesmith.inference import decode as decoding
from tunesmith.inference import fused_reading
from tunesmith.inference.decode import decode
from tunesmith.inference.reading import Pace, shared_prefix
from tunesmith.models.load import Loaded, load


def alone(loaded, prompt, new):
    out = loaded.model.generate(
        input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new, do_sample=False, pad_token_id=loaded.tokenizer.pad_token_id,
        eos_token_id=sorted(loaded.stop_ids),
    )[0, len(prompt) :].tolist()  # fmt: skip
    stop = next((n for n, token in enumerate(out) if token in loaded.stop_ids), None)
    return (out, False) if stop is None else (out[:stop], True)


def prompts(seed, *, prefix=0, count=9):
    draw = torch.Generator().manual_seed(seed)
    start = torch.randint(20, 300, (prefix,), generator=draw).tolist()
    lengths = torch.randint(3, 40, (count,), generator=draw).tolist()
    found = {tuple(start + torch.randint(20, 300, (n,), generator=draw).tolist()) for n in lengths}
    return sorted(found, key=lambda ids: (-len(ids), ids))


@pytest.fixture(params=["fused layers", "fused layers one by one", "layers of transformers", "a card's"])
def layers(request, monkeypatch):
    if request.param == "fused layers one by one":
        monkeypatch.setattr(fused_reading, "stepper", lambda stack, kept: None)
    if request.param == "layers of transformers":
        monkeypatch.setattr(decoding, "fused", lambda model, dtype: nullcontext())
    if request.param == "a card's":
        flashing.stand_in(monkeypatch)
        monkeypatch.setattr(decoding, "pace", lambda device, slots: Pace(8192, max(1, slots // 2)))
    return request.param


@pytest.mark.parametrize("prefix", [0, 12])
@pytest.mark.parametrize("slots", [1, 3, 50])
def test_answers_equal_those_of_each_prompt_alone(tiny_causal, layers, prefix, slots):
    loaded = load(tiny_causal)
    asked = prompts(1, prefix=prefix)
    found = decode(loaded, asked, max_new_tokens=7, tokens_in_memory=slots * (len(asked[0]) + 7))
    assert found == [alone(loaded, prompt, 7) for prompt in asked]


def test_an_answer_ends_at_a_stop_token_and_its_slot_is_used_again(tiny_causal, layers):
    loaded = load(tiny_causal)
    asked = prompts(2)
    first = alone(loaded, asked[0], 4)[0]
    loaded.model.generation_config.eos_token_id = [first[1]]
    found = decode(loaded, asked, max_new_tokens=4, tokens_in_memory=2 * (len(asked[0]) + 4))
    expected = [alone(loaded, prompt, 4) for prompt in asked]
    assert found == expected
    assert any(stopped for _, stopped in expected)


def test_an_answer_ends_with_the_token_that_its_reader_says(tiny_causal, layers):
    loaded = load(tiny_causal)
    asked = prompts(5)
    whole = decode(loaded, asked, max_new_tokens=6, tokens_in_memory=2 * (len(asked[0]) + 6))
    found = decode(
        loaded, asked, max_new_tokens=6, tokens_in_memory=2 * (len(asked[0]) + 6), ends=lambda answer: len(answer) == 3
    )
    assert any(len(answer) > 3 for answer, _ in whole)
    assert found == [(answer[:3], stopped or len(answer) >= 3) for answer, stopped in whole]


@pytest.mark.parametrize("prefix", [0, 12])
def test_an_answer_that_repeats_itself_is_written_in_fewer_calls(tiny_causal, monkeypatch, prefix):
    loaded = load(tiny_causal)
    asked = prompts(6, prefix=prefix, count=4)
    taken = []
    usual = decoding.FusedReader.write

    def counting(self, writing):
        taken.append([len(tokens) for _, tokens, _ in writing])
        return usual(self, writing)

    monkeypatch.setattr(decoding.FusedReader, "write", counting)
    found = decode(loaded, asked, max_new_tokens=90, tokens_in_memory=3 * (len(asked[0]) + 90))
    assert found == [alone(loaded, prompt, 90) for prompt in asked]
    assert max(map(max, taken)) > 4
    assert len(taken) < 2 * 89  # the fourth answer waits for one of the first three
    for end in (33, 57):  # in the midst of guesses
        short = decode(
            loaded, asked, max_new_tokens=90, tokens_in_memory=10_000, ends=lambda answer, end=end: len(answer) == end
        )
        assert short == [(answer[:end], stopped or len(answer) >= end) for answer, stopped in found]
    stop = found[0][0][40]
    loaded.model.generation_config.eos_token_id = [stop]
    stopped = decode(loaded, asked, max_new_tokens=90, tokens_in_memory=10_000)
    assert stopped == [alone(loaded, prompt, 90) for prompt in asked]


def test_a_prefix_that_all_share_is_read_once(tiny_causal, layers, monkeypatch):
    loaded = load(tiny_causal)
    asked = prompts(3, prefix=15)
    read = []
    kind = decoding.ModelReader if layers == "layers of transformers" else decoding.FusedReader
    usual = kind.read

    def counting(self, reading):
        read.append(sum(len(tokens) for _, tokens in reading))
        return usual(self, reading)

    monkeypatch.setattr(kind, "read", counting)
    decode(loaded, asked, max_new_tokens=1, tokens_in_memory=100_000)
    assert read == [15, sum(len(prompt) - 15 for prompt in asked)]


def test_an_adapter_that_is_not_merged_answers_as_through_transformers(tiny_causal):
    from tunesmith.methods import lora

    loaded = load(tiny_causal)
    model = lora.attach(lora.Settings(rank=4), loaded.model, "causal").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    wrapped = Loaded(model, loaded.tokenizer, loaded.kind, loaded.folder, loaded.context)
    asked = prompts(5)
    found = decode(wrapped, asked, max_new_tokens=5, tokens_in_memory=1000)
    assert found == [alone(wrapped, prompt, 5) for prompt in asked]
    assert found != [alone(load(tiny_causal), prompt, 5) for prompt in asked]


def test_the_model_attends_as_before_afterwards(tiny_causal):
    loaded = load(tiny_causal)
    before = loaded.model.config._attn_implementation
    decode(loaded, prompts(4), max_new_tokens=2, tokens_in_memory=1000)
    assert loaded.model.config._attn_implementation == before


def test_a_prefix_leaves_every_prompt_a_token_of_its_own():
    assert shared_prefix([tuple(range(20)), tuple(range(12))]) == 11
    assert shared_prefix([tuple(range(20))]) == 0


def test_where_memory_runs_out_fewer_answers_are_written_at_once(tiny_causal, monkeypatch, capsys):
    loaded = load(tiny_causal)
    asked = prompts(4)
    monkeypatch.setattr(decoding, "fused", lambda model, dtype: nullcontext())
    forward, rows = loaded.model.forward, []

    def scarce(*args, **options):
        rows.append(options["memory"].slots)
        if rows[-1] > 2 and len(rows) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 64 bytes.")
        return forward(*args, **options)

    monkeypatch.setattr(loaded.model, "forward", scarce)
    found = decode(loaded, asked, max_new_tokens=5, tokens_in_memory=100_000)
    monkeypatch.setattr(loaded.model, "forward", forward)
    assert max(rows) == len(asked)
    assert rows[-1] <= 2
    assert found == [alone(loaded, prompt, 5) for prompt in asked]
    assert capsys.readouterr().err == (
        "memory ran out; the answers begin again, 4 at once\nmemory ran out; the answers begin again, 2 at once\n"
    )


def test_one_prompt_that_does_not_fit_is_said_with_what_to_change(tiny_causal, monkeypatch):
    loaded = load(tiny_causal)

    def none(*args, **options):
        raise MemoryError

    monkeypatch.setattr(decoding.FusedReader, "read", none)
    with pytest.raises(ResourceError) as caught:
        decode(loaded, prompts(4)[:1], max_new_tokens=5, tokens_in_memory=100_000)
    assert str(caught.value) == (
        f"there is not enough memory to answer a single prompt of {len(prompts(4)[0])} tokens. Lower train.max_tokens "
        "or max_new_tokens, take a smaller model, or end other programs and run again."
    )
