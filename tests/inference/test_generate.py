from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tunesmith.errors import ResourceError
from tunesmith.inference import decode
from tunesmith.inference.generate import BENDING, Answer, _unbent, generate
from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.load import Loaded, load
from tunesmith.settings import GenerateSettings

GREEDY = GenerateSettings()
SAMPLING = GenerateSettings(temperature=1.0, tokens_per_batch=200)


@pytest.fixture(params=["causal", "seq2seq"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    """Each of the two tiny models in turn, with an end token that it is likely to write."""
    found = load(request.getfixturevalue(f"tiny_{request.param}"))
    words = [
        token for answer in generate(found, PROMPTS, settings=GREEDY, max_new_tokens=6) for token in answer.ids[2:]
    ]
    found.model.generation_config.eos_token_id = [found.tokenizer.eos_token_id, max(set(words), key=words.count)]
    return found


def some_prompts(seed: int, count: int) -> list[tuple[int, ...]]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 30, (count,), generator=draw).tolist()
    return [tuple(torch.randint(5, 300, (n,), generator=draw).tolist()) for n in lengths]


PROMPTS = some_prompts(0, 8)


def alone(loaded: Loaded, prompt: Sequence[int], new: int, **options: Any) -> Answer:
    """One prompt at a time, without padding, by transformers."""
    out = loaded.model.generate(
        input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=new, do_sample=False, pad_token_id=loaded.tokenizer.pad_token_id,
        eos_token_id=sorted(loaded.stop_ids), **options,
    )[0]  # fmt: skip
    ids = out[len(prompt) if loaded.kind == "causal" else 1 :].tolist()
    stop = next((n for n, token in enumerate(ids) if token in loaded.stop_ids), None)
    return Answer(tuple(ids), "length") if stop is None else Answer(tuple(ids[:stop]), "stop")


@pytest.mark.parametrize("tokens_per_batch", [1, 100, 8192])
def test_greedy_answers_are_those_of_each_prompt_alone_in_the_order_of_the_prompts(
    loaded: Loaded, tokens_per_batch: int
) -> None:
    settings = GenerateSettings(tokens_per_batch=tokens_per_batch)
    found = generate(loaded, PROMPTS, settings=settings, max_new_tokens=6)
    assert found == [alone(loaded, prompt, 6) for prompt in PROMPTS]
    assert {answer.finish for answer in found} == {"stop", "length"}, "or this would prove less"
    assert generate(loaded, PROMPTS[::-1], settings=settings, max_new_tokens=6) == found[::-1]


def test_an_answer_ends_before_its_stop_token_or_at_the_limit(loaded: Loaded) -> None:
    for answer in generate(loaded, PROMPTS, settings=GREEDY, max_new_tokens=6):
        assert not loaded.stop_ids & set(answer.ids)
        assert len(answer.ids) == 6 or answer.finish == "stop"


def rows_read(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Fills with the shape of the ids of every pass through a causal model that is not fused, or through an encoder."""
    if loaded.kind == "causal":
        monkeypatch.setattr(decode, "fused", lambda model, dtype: nullcontext())
    shapes: list[tuple[int, int]] = []
    reader = loaded.model.get_encoder() if loaded.kind == "seq2seq" else loaded.model
    forward = reader.forward

    def counting(*args: Any, **options: Any) -> Any:
        shapes.append(tuple(options["input_ids"].shape))
        return forward(*args, **options)

    encode = EncoderDecoder.encode

    def noted(stack: EncoderDecoder, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        shapes.extend((1, length) for length in lengths)
        return encode(stack, ids, lengths)

    monkeypatch.setattr(reader, "forward", counting)
    monkeypatch.setattr(EncoderDecoder, "encode", noted)
    return shapes


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_equal_prompts_are_answered_once(
    loaded: Loaded, settings: GenerateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = rows_read(loaded, monkeypatch)
    once = generate(loaded, PROMPTS, settings=settings, max_new_tokens=3)
    read_once = list(shapes)
    shapes.clear()
    thrice = generate(loaded, [*PROMPTS, *PROMPTS[::-1], *PROMPTS], settings=settings, max_new_tokens=3)
    assert thrice == [*once, *once[::-1], *once]
    assert shapes == read_once
    assert len(shapes) > 0


def test_a_batch_keeps_within_its_tokens(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = rows_read(loaded, monkeypatch)
    generate(loaded, PROMPTS, settings=SAMPLING, max_new_tokens=4)
    first = [shape for shape in shapes if shape[1] > 1]
    assert sum(rows for rows, _ in first) == len(PROMPTS)
    assert all(rows * (width + 4) <= 200 for rows, width in first)
    assert len(first) > 1


def test_beams_are_those_of_each_prompt_alone(loaded: Loaded) -> None:
    found = generate(loaded, PROMPTS, settings=GenerateSettings(beams=3), max_new_tokens=5)
    assert found == [alone(loaded, prompt, 5, num_beams=3) for prompt in PROMPTS]
    assert found != generate(loaded, PROMPTS, settings=GREEDY, max_new_tokens=5)


def test_sampling_depends_on_the_seed_alone(loaded: Loaded) -> None:
    def sampled(seed: int, prompts: list[tuple[int, ...]] = PROMPTS, temperature: float = 1.0) -> list[Answer]:
        torch.rand(3)
        settings = GenerateSettings(temperature=temperature)
        return generate(loaded, prompts, settings=settings, max_new_tokens=6, seed=seed)

    first = sampled(0)
    assert sampled(0) == first
    assert sampled(0, PROMPTS[::-1]) == first[::-1], "nor on the order of the prompts"
    assert sampled(1) != first
    cold = sampled(0, temperature=1e-4)
    assert cold == generate(loaded, PROMPTS, settings=GREEDY, max_new_tokens=6)


def test_a_small_top_p_leaves_the_likeliest_token_alone(loaded: Loaded) -> None:
    settings = GenerateSettings(temperature=1.0, top_p=1e-6)
    found = generate(loaded, PROMPTS, settings=settings, max_new_tokens=6)
    assert found == generate(loaded, PROMPTS, settings=GREEDY, max_new_tokens=6)


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_the_random_state_of_the_caller_is_left_alone(loaded: Loaded, settings: GenerateSettings) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    generate(loaded, PROMPTS[:3], settings=settings, max_new_tokens=2)
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("settings", [GREEDY, SAMPLING], ids=["greedy", "sampling"])
def test_progress_counts_distinct_prompts(loaded: Loaded, settings: GenerateSettings) -> None:
    told: list[tuple[float, str]] = []
    generate(
        loaded, PROMPTS * 2, settings=settings, max_new_tokens=2, show=lambda done, text: told.append((done, text))
    )
    assert told[-1] == (8, "8/8 prompts")
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_the_text_of_an_answer_has_no_control_tokens_and_no_space_around_it(loaded: Loaded) -> None:
    pad, end = loaded.tokenizer.pad_token_id, loaded.tokenizer.eos_token_id
    words = loaded.tokenizer("  The lamp is broken.\n", add_special_tokens=False)["input_ids"]
    assert Answer((pad, *words, end), "stop").text(loaded) == "The lamp is broken."
    assert Answer((), "stop").text(loaded) == ""


def test_no_prompts_have_no_answers(loaded: Loaded) -> None:
    assert generate(loaded, [], settings=GREEDY, max_new_tokens=3) == []


def test_what_the_maker_of_a_model_asks_for_is_done(loaded: Loaded) -> None:
    before = generate(loaded, PROMPTS, settings=GREEDY, max_new_tokens=6)
    loaded.model.generation_config.repetition_penalty = 1.8
    loaded.model.generation_config.min_new_tokens = 3
    found = generate(loaded, PROMPTS, settings=GREEDY, max_new_tokens=6)
    assert found == [alone(loaded, prompt, 6) for prompt in PROMPTS]
    assert min(len(answer.ids) for answer in found) >= 3
    assert found != before


def test_every_field_that_bends_the_odds_is_one_that_transformers_has(tiny_causal: Path) -> None:
    from transformers import GenerationConfig

    assert set(BENDING) <= set(GenerationConfig().to_dict())
    assert _unbent(load(tiny_causal).model)


def test_a_model_with_an_adapter_answers_as_the_merged_one(loaded: Loaded) -> None:
    from tunesmith.methods import lora

    wrapped = lora.attach(lora.Settings(rank=4), loaded.model, loaded.kind)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    wrapped.eval()
    tuned = Loaded(wrapped, loaded.tokenizer, loaded.kind, loaded.folder, loaded.context)
    found = generate(tuned, PROMPTS, settings=GREEDY, max_new_tokens=6)
    merged = Loaded(lora.merge(wrapped), loaded.tokenizer, loaded.kind, loaded.folder, loaded.context)
    assert found == generate(merged, PROMPTS, settings=GREEDY, max_new_tokens=6)
    assert found != generate(load(loaded.folder), PROMPTS, settings=GREEDY, max_new_tokens=6)


BEAMS = GenerateSettings(beams=2)  # by transformers' generate


def test_a_batch_that_does_not_fit_into_memory_is_answered_in_halves(
    tiny_seq2seq: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tiny_seq2seq)
    asked = [[5, 6, 7, 1], [9, 30, 1], [12, 1], [40, 41, 42, 1], [7, 7, 1]]
    usual = generate(loaded, asked, settings=BEAMS, max_new_tokens=4)
    whole, sizes = loaded.model.generate, []

    def scarce(**options: Any) -> Any:
        sizes.append(len(options["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(**options)

    monkeypatch.setattr(loaded.model, "generate", scarce)
    assert generate(loaded, asked, settings=BEAMS, max_new_tokens=4) == usual
    assert sizes == [5, 2, 3, 1, 2]
    monkeypatch.setattr(loaded.model, "generate", scarce_of_all)
    with pytest.raises(ResourceError, match="not enough memory to answer a single prompt of 4 tokens"):
        generate(loaded, asked[:1], settings=BEAMS, max_new_tokens=4)


def scarce_of_all(**options: Any) -> Any:
    raise MemoryError
