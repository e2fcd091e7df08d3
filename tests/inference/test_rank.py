from pathlib import Path

import pytest
import torch

from tunesmith.inference import rank
from tunesmith.inference.rank import rank_all, rank_choices
from tunesmith.models.load import Loaded, load

PROMPT = [5, 17, 40, 300, 8, 9, 31, 7]
SINGLE = [[7], [2], [300]]
MIXED = [[7, 2], [40, 41, 42, 43, 2], [2], [300, 9, 2], [7, 9, 11, 2]]


@pytest.fixture(params=["causal", "seq2seq"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return load(folder)


def plain(loaded: Loaded, prompt: list[int], choice: list[int]) -> float:
    """One choice at a time: the whole text through the model, and the likelihood of its last tokens summed up."""
    with torch.no_grad():
        if loaded.kind == "seq2seq":
            start = loaded.model.config.decoder_start_token_id
            logits = loaded.model(
                input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *choice[:-1]]])
            ).logits[0]
        else:
            logits = loaded.model(input_ids=torch.tensor([prompt + choice])).logits[0, len(prompt) - 1 : -1]
    return sum(float(row.log_softmax(-1)[token]) for row, token in zip(logits, choice, strict=True))


@pytest.mark.parametrize(
    "choices", [SINGLE, MIXED, MIXED[:1], [[9, 2], [9, 2]]], ids=["single", "mixed", "one", "same"]
)
@pytest.mark.parametrize("prompt", [PROMPT, PROMPT[:1]], ids=["long", "one token"])
def test_a_likelihood_is_that_of_its_tokens_one_after_the_other(
    loaded: Loaded, prompt: list[int], choices: list[list[int]]
) -> None:
    found = rank_choices(loaded, prompt, choices)
    assert found == pytest.approx([plain(loaded, prompt, choice) for choice in choices], abs=1e-4)
    assert all(likelihood < 0 for likelihood in found)


def test_all_tokens_together_are_certain(loaded: Loaded) -> None:
    found = rank_choices(loaded, PROMPT, [[token] for token in range(loaded.model.config.vocab_size)])
    assert torch.tensor(found).exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_neither_order_nor_company_changes_a_likelihood(loaded: Loaded) -> None:
    found = rank_choices(loaded, PROMPT, MIXED)
    assert rank_choices(loaded, PROMPT, MIXED[::-1])[::-1] == pytest.approx(found, abs=1e-5)
    assert [rank_choices(loaded, PROMPT, [choice])[0] for choice in MIXED] == pytest.approx(found, abs=1e-5)


def test_recurrent_models_rank_too(tiny_causal: Path) -> None:
    from transformers import AutoModelForCausalLM, Lfm2Config, MambaConfig

    sizes = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "layer_types": ["conv", "full_attention"]}
    for config in (MambaConfig(**sizes, state_size=8), Lfm2Config(**sizes, **heads, intermediate_size=64)):
        model = AutoModelForCausalLM.from_config(config).float().eval()
        other = Loaded(model, load(tiny_causal).tokenizer, "causal", tiny_causal, 0)
        found = rank_choices(other, PROMPT, MIXED)
        assert found == pytest.approx([plain(other, PROMPT, choice) for choice in MIXED], abs=1e-4)


def test_likelihoods_are_taken_in_float32(tiny_causal: Path) -> None:
    half = load(tiny_causal, dtype=torch.bfloat16)
    found = rank_choices(half, PROMPT, MIXED)
    assert found == pytest.approx([plain(load(tiny_causal), PROMPT, choice) for choice in MIXED], abs=0.5)
    assert any(value != torch.tensor(value).bfloat16().item() for value in found)


HEAD = [11, 12, 13, 14, 15, 16, 17, 18, 19]
ASKED = [[*HEAD, 5, 17], [*HEAD, 40], [*HEAD, 300, 8, 9, 31, 7], [*HEAD, 5, 17]]
OFFERED = [MIXED, SINGLE, [[9, 2], [9, 2]], [[21, 22, 23, 24, 2], [21, 22, 25, 2], [21, 22, 2]]]


@pytest.mark.parametrize("tokens", [1, 40, 1000], ids=["a row each", "some rows", "one row"])
@pytest.mark.parametrize("prompts", [ASKED, [prompt[len(HEAD) :] for prompt in ASKED]], ids=["shared", "not shared"])
def test_many_questions_at_once_rank_as_each_alone(
    loaded: Loaded, prompts: list[list[int]], tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank, "TOKENS_AT_ONCE", tokens)
    before = loaded.model.config._attn_implementation
    told: list[float] = []
    found = rank_all(loaded, prompts, OFFERED, show=lambda done, text: told.append(done))
    for prompt, choices, logprobs in zip(prompts, OFFERED, found, strict=True):
        assert logprobs == pytest.approx([plain(loaded, prompt, choice) for choice in choices], abs=1e-4)
    assert told[-1] == len(prompts)
    assert loaded.model.config._attn_implementation == before


def test_what_prompts_share_is_read_once(tiny_causal: Path) -> None:
    loaded = load(tiny_causal)
    read: list[int] = []
    hook = loaded.model.get_input_embeddings().register_forward_hook(
        lambda _, given, made: read.append(given[0].numel())
    )
    rank_all(loaded, ASKED, OFFERED)
    hook.remove()
    trunks = sum(len(prompt) - len(HEAD) for prompt in ASKED) + 1 + 2  # what all choices begin with: 9; 21, 22
    branches = (1 + 4 + 0 + 2 + 3) + 0 + 0 + (2 + 1 + 0)  # without the last token, which is only predicted
    assert read == [len(HEAD) + trunks + branches]


def test_a_layer_that_looks_back_only_so_far_does_so_in_branches_too(tiny_causal: Path) -> None:
    from transformers import AutoModelForCausalLM, MistralConfig

    config = MistralConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=64, sliding_window=4,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).float().eval()
    other = Loaded(model, load(tiny_causal).tokenizer, "causal", tiny_causal, 0)
    found = rank_all(other, ASKED, OFFERED)
    for prompt, choices, logprobs in zip(ASKED, OFFERED, found, strict=True):
        assert logprobs == pytest.approx([plain(other, prompt, choice) for choice in choices], abs=1e-4)


def test_recurrent_models_answer_many_questions_too(tiny_causal: Path) -> None:
    from transformers import AutoModelForCausalLM, MambaConfig

    config = MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=8)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    other = Loaded(model, load(tiny_causal).tokenizer, "causal", tiny_causal, 0)
    found = rank_all(other, ASKED, OFFERED)
    assert found == [rank_choices(other, prompt, choices) for prompt, choices in zip(ASKED, OFFERED, strict=True)]
