"""The probe put to a model, against the slow way: one text after the other through the whole model."""

from pathlib import Path

import pytest
import torch

from tunesmith.data.encode import Coder
from tunesmith.forgetting.asked import Rows, make_probe
from tunesmith.inference.probe import take_probe
from tunesmith.models.load import Loaded, load
from tunesmith.probe_records import Probe, ProbeResult
from tunesmith.settings import DataSettings, SplitSettings


@pytest.fixture(scope="module", params=["causal", "seq2seq"])
def loaded(request: pytest.FixtureRequest) -> Loaded:
    folder: Path = request.getfixturevalue(f"tiny_{request.param}")
    return load(folder)


@pytest.fixture(scope="module")
def probe() -> Probe:
    """A few items of every skill, and three paragraphs."""
    whole = make_probe("default", Rows(SplitSettings(), DataSettings(), 0, Path()))
    few = [item for item in whole.items if item.id.endswith(("-01", "-02", "-11"))]
    skills = tuple(skill.model_copy(update={"max_new_tokens": 4}) for skill in whole.skills)
    return whole.model_copy(update={"items": tuple(few), "prose": whole.prose[:3], "skills": skills})


@pytest.fixture(scope="module")
def taken(loaded: Loaded, probe: Probe) -> ProbeResult:
    return take_probe(loaded, probe, name="tiny", digest="abc")


def likelihood(loaded: Loaded, prompt: list[int], target: list[int]) -> float:
    """Nats of a target after a prompt: both through the whole model, alone."""
    with torch.no_grad():
        if loaded.kind == "seq2seq":
            start = loaded.model.config.decoder_start_token_id
            logits = loaded.model(
                input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *target[:-1]]])
            ).logits[0]
        else:
            logits = loaded.model(input_ids=torch.tensor([prompt + target])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1).gather(1, torch.tensor(target)[:, None]).sum())


def test_every_item_and_every_paragraph_has_its_result_in_order(taken: ProbeResult, probe: Probe) -> None:
    assert [answer.item for answer in taken.answers] == [item.id for item in probe.items]
    assert [loss.paragraph for loss in taken.prose] == [paragraph.id for paragraph in probe.prose]
    assert taken.probe == "abc"


def test_choices_have_the_likelihood_of_the_slow_way_and_the_best_is_chosen(
    taken: ProbeResult, probe: Probe, loaded: Loaded
) -> None:
    coder = Coder(loaded.tokenizer, loaded.kind, 1024)
    for item, answer in zip(probe.items, taken.answers, strict=True):
        if not item.choices:
            assert answer.choice_logprobs == {}
            continue
        slow = {
            choice: likelihood(loaded, coder.ids(item), coder.target(item.model_copy(update={"target": choice})))
            for choice in item.choices
        }
        assert answer.choice_logprobs == pytest.approx(slow, abs=1e-3)
        assert answer.text == max(answer.choice_logprobs, key=lambda choice: answer.choice_logprobs[choice])
        assert answer.value == (100.0 if answer.text == item.target else 0.0)


def test_written_answers_are_right_only_where_they_agree(taken: ProbeResult, probe: Probe) -> None:
    written = [answer for item, answer in zip(probe.items, taken.answers, strict=True) if not item.choices]
    assert len(written) == 6
    assert {answer.value for answer in written} == {0.0}  # a random model repeats nothing


def test_a_paragraph_of_a_causal_model_costs_all_its_tokens_but_the_first(
    taken: ProbeResult, probe: Probe, loaded: Loaded
) -> None:
    for paragraph, loss in zip(probe.prose, taken.prose, strict=True):
        words = paragraph.text.split()
        parts = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
        whole = loaded.tokenizer(paragraph.text)["input_ids"]
        read, asked = (whole[:1], whole[1:]) if loaded.kind == "causal" else (
            loaded.tokenizer(part)["input_ids"] for part in parts
        )  # fmt: skip
        assert loss.tokens == len(asked)
        assert loss.nats == pytest.approx(-likelihood(loaded, read, asked), rel=1e-5)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.usefixtures("users_home", "steady_torch")
def test_the_built_in_model_has_every_skill_that_it_is_asked_for() -> None:
    """What it does not have it cannot lose: one-sided binomial test against a blind guess, or one in twenty."""
    from math import comb

    from tunesmith.models.load import materialize

    whole = make_probe("default", Rows(SplitSettings(), DataSettings(), 0, Path()))
    found = take_probe(load(materialize("smollm2-135m-instruct", base=Path())), whole, name="base", digest="")
    values = {answer.item: answer.value for answer in found.answers}
    for skill in whole.skills:
        own = [item for item in whole.items if item.task == skill.name]
        blind, n = 1 / len(own[0].choices) if own[0].choices else 0.05, len(own)
        right = round(sum(values[item.id] for item in own) / 100)
        p_value = sum(comb(n, k) * blind**k * (1 - blind) ** (n - k) for k in range(right, n + 1))
        assert p_value < 0.01, f"{skill.name}: {right} of {n}"
