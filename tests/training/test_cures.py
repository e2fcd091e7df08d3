"""Settings against forgetting: general instructions mixed in, held near to the base, averaged with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import ways
from torch import Tensor
from workshop import FULL, LORA, examples, ingredients, read_log, recipe

from tunesmith.data.replay import TASK
from tunesmith.errors import DataError
from tunesmith.inference.answer import load_tuned
from tunesmith.models.load import load
from tunesmith.records import TrainResult
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import CandidateDir
from tunesmith.training import loop
from tunesmith.training import tune as tuning
from tunesmith.training.averaging import chosen, mix
from tunesmith.training.batches import IGNORED, make_batch
from tunesmith.training.computing import ready
from tunesmith.training.distilling import held_to_base
from tunesmith.training.job import Job, trainable
from tunesmith.training.loss import counted_logits
from tunesmith.training.teacher import TOKENS, divergence, drawn
from tunesmith.training.tune import Ingredients, make_ready, tune

METHODS_OF_BOTH = pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])
OTHERS: dict[str, dict[str, Any]] = {  # but for bitfit, since the tiny models have no biases
    name: ways.CASES[name]
    for name in ("last-layers", "norms", "embeddings", "head", "sparse", "qlora", "soft-prompt", "p-tuning", "prefix",
                 "ia3", "bottleneck")
} | {"modules": {"method": "modules", "patterns": ["*norm*"]}}  # fmt: skip
NO_AVERAGE = {"soft-prompt", "p-tuning", "prefix", "bottleneck"}


def logits(model: Any, kind: str) -> Tensor:
    """What a model says to a fixed prompt, at every position."""
    ids = torch.tensor([[5, 17, 40, 300, 8, 9, 31]])
    more = {"decoder_input_ids": torch.tensor([[0, 7, 20]])} if kind == "seq2seq" else {}
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=ids, **more).logits
    return found


def tuned(model: Path, where: Path, method: dict[str, Any], *, validation: int = 0, **train: Any) -> TrainResult:
    return tune(ingredients(recipe(method, **train), model, validation=validation), "tuned", CandidateDir(where))


def job_of(model: Path, where: Path, method: dict[str, Any], **train: Any) -> Job:
    """What training begins with."""
    return make_ready(ingredients(recipe(method, **train), model), "tuned", CandidateDir(where), score=None).job


def answering(model: Path, where: Path, method: dict[str, Any]) -> Any:
    return load_tuned(method["method"], model, where / "adapter", dtype=torch.float32).model


class TestReplay:
    @METHODS_OF_BOTH
    def test_a_share_of_each_epoch_is_general(self, tiny: Path, tmp_path: Path, method: dict[str, Any]) -> None:
        job = job_of(tiny, tmp_path, method, replay=0.2, epochs=3)
        assert job.draw
        own, general = set[str](), list[str]()
        for epoch in range(3):
            ids = [job.train[place].example_id for place in job.draw.epoch(epoch)]
            own |= {one for one in ids if not one.startswith(TASK)}
            general += [one for one in ids if one.startswith(TASK)]
            assert (len(ids), len(general)) == (20, 4 * (epoch + 1))
        assert len(own) == 16, "each epoch has all examples of the tasks"
        assert len(set(general)) == 12, "and other instructions"
        assert tuned(tiny, tmp_path, method, replay=0.2, max_steps=2).replayed == 4
        assert read_log(tmp_path)[-1].kl is None

    def test_without_it_nothing_is_mixed_in(self, tiny_causal: Path, tmp_path: Path) -> None:
        assert tuned(tiny_causal, tmp_path, LORA, max_steps=1).replayed == 0

    def test_more_than_there_are_come_again_and_it_says_so(
        self, tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        tuned(tiny_causal, tmp_path, LORA, max_steps=1, replay=0.95)
        assert (
            "tuned: train.replay wants 304 general instructions, and 146 are there; they repeat."
            in capsys.readouterr().err
        )

    def test_nothing_to_train_on_stays_an_error(self, tiny_causal: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="there is nothing to train on: there are no training examples"):
            tune(Ingredients(recipe(LORA, replay=0.5), tiny_causal, [], []), "tuned", CandidateDir(tmp_path))

    def test_general_instructions_do_not_stand_in_for_rows_that_have_no_room(
        self, tiny_causal: Path, tmp_path: Path
    ) -> None:
        long = examples(1)[0].model_copy(update={"target": "word " * 3000})
        with pytest.raises(DataError, match="none of the 1 train examples has a target that fits"):
            tune(Ingredients(recipe(LORA, replay=0.5), tiny_causal, [long], []), "tuned", CandidateDir(tmp_path))

    def test_weights_are_chosen_by_examples_of_one_epoch(
        self, tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[str] = []
        real = tuning.Losses

        def noted(loaded: Any, given: Any, seed: int) -> Any:
            seen.extend(example.example_id for example in given)
            return real(loaded, given, seed)

        monkeypatch.setattr(tuning, "Losses", noted)
        job_of(tiny_causal, tmp_path, ways.CASES["sparse"], replay=0.2, epochs=3)
        assert len(seen) == 20
        assert len([one for one in seen if one.startswith(TASK)]) == 4


class TestHeldNearToTheBase:
    @METHODS_OF_BOTH
    def test_the_teacher_says_what_the_base_says(self, tiny: Path, tmp_path: Path, method: dict[str, Any]) -> None:
        teacher, base = job_of(tiny, tmp_path, method, kl=1.0).teacher, load(tiny)
        assert teacher
        assert len(teacher.texts) == len(teacher.states) > 20
        for index in (0, 7, len(teacher.texts) - 1):
            batch = make_batch([teacher.texts[index]], kind=base.kind, pad_id=base.tokenizer.pad_token_id)
            with torch.no_grad():
                said, labels = counted_logits(base.model, batch, base.kind)
            torch.testing.assert_close(teacher.logits([index]), said[labels != IGNORED])

    def test_every_token_of_a_text_counts_for_a_causal_model_and_the_answer_for_the_other(
        self, tiny: Path, tmp_path: Path
    ) -> None:
        job = job_of(tiny, tmp_path, LORA, kl=1.0)
        assert job.teacher
        for text, states in zip(job.teacher.texts, job.teacher.states, strict=True):
            assert len(states) == (len(text.input_ids) - 1 if job.kind == "causal" else len(text.target_ids))

    @METHODS_OF_BOTH
    def test_it_is_zero_before_training_and_its_gradient_is_that_of_the_formula(
        self, tiny: Path, tmp_path: Path, method: dict[str, Any]
    ) -> None:
        job = job_of(tiny, tmp_path, method, kl=0.5)
        assert job.teacher
        with ready(job) as inner:
            assert held_to_base(inner, 0) == pytest.approx(0, abs=1e-5)
            torch.manual_seed(3)
            with torch.no_grad():
                for weight in trainable(job.model).values():
                    weight.add_(0.05 * torch.randn(weight.shape))
            if inner.stack:
                inner.stack.refresh()
            job.model.zero_grad()
            found = held_to_base(inner, 4)
        indices = drawn([text.tokens for text in job.teacher.texts], seed=0, step=4)
        own = {name: weight.grad.clone() for name, weight in trainable(job.model).items() if weight.grad is not None}
        job.model.zero_grad()
        total, count = torch.zeros(()), 0
        for index in indices:  # each alone, in the model's own layers
            batch = make_batch([job.teacher.texts[index]], kind=job.kind, pad_id=job.pad_id)
            said, labels = counted_logits(job.model, batch, job.kind)
            q, p = said[labels != IGNORED].log_softmax(-1), job.teacher.logits([index]).log_softmax(-1)
            total = total + torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
            count += len(q)
        (0.5 * total / count).backward()
        assert found == pytest.approx(float(total.detach()) / count, rel=1e-4)
        assert found > 0.001
        assert own.keys() == {name for name, weight in trainable(job.model).items() if weight.grad is not None}
        for name, gradient in own.items():
            torch.testing.assert_close(gradient, job.model.get_parameter(name).grad, rtol=1e-3, atol=1e-6)

    @METHODS_OF_BOTH
    def test_a_model_that_is_held_stays_nearer(self, tiny: Path, tmp_path: Path, method: dict[str, Any]) -> None:
        ends = {}
        for weight in (1e-9, 5.0):
            where = tmp_path / str(weight)
            tuned(tiny, where, method, kl=weight, epochs=4.0)
            points = read_log(where)
            assert points[0].kl == pytest.approx(0, abs=1e-4)
            ends[weight] = sum(point.kl or 0 for point in points[-5:]) / 5
        assert ends[5.0] < 0.7 * ends[1e-9]

    def test_the_texts_of_a_step_depend_on_seed_and_step_alone_and_fill_it(self) -> None:
        sizes = [40 + 17 * n % 90 for n in range(100)]
        found = [drawn(sizes, seed=1, step=step) for step in range(50)]
        assert found == [drawn(sizes, seed=1, step=step) for step in range(50)]
        assert found != [drawn(sizes, seed=2, step=step) for step in range(50)]
        assert all(TOKENS - 130 <= sum(sizes[index] for index in step) <= TOKENS for step in found)
        many = {index for step in range(400) for index in drawn(sizes, seed=1, step=step)}
        assert many == set(range(100))
        assert drawn([900, 900], seed=0, step=0) in ([0], [1])

    def test_the_divergence_is_that_of_torch(self) -> None:
        torch.manual_seed(0)
        base, other = torch.randn(5, 30), torch.randn(5, 30)
        expected = torch.distributions.kl_divergence(
            torch.distributions.Categorical(logits=base), torch.distributions.Categorical(logits=other)
        ).sum()
        torch.testing.assert_close(divergence(base, other), expected)

    @pytest.mark.parametrize("name", OTHERS)
    def test_every_other_method_can_be_held_too(self, tiny_causal: Path, tmp_path: Path, name: str) -> None:
        tuned(tiny_causal, tmp_path, OTHERS[name], kl=0.5, max_steps=3)
        points = read_log(tmp_path)
        assert all(point.kl is not None and point.kl > -1e-5 for point in points)
        assert max(point.kl or 0 for point in points) > 1e-6

    def test_prompts_of_both_architectures(self, tiny_seq2seq: Path, tmp_path: Path) -> None:
        tuned(tiny_seq2seq, tmp_path, OTHERS["soft-prompt"], kl=0.5, max_steps=3)
        assert max(point.kl or 0 for point in read_log(tmp_path)) > 1e-4


class TestAverages:
    def test_full_tuning_is_averaged_weight_by_weight(self, tiny: Path, tmp_path: Path) -> None:
        tuned(tiny, tmp_path / "whole", FULL, max_steps=4)
        result = tuned(tiny, tmp_path / "part", FULL, max_steps=4, average=0.3)
        base, whole, part = (dict(load(folder).model.named_parameters()) for folder in
                             (tiny, tmp_path / "whole" / "adapter", tmp_path / "part" / "adapter"))  # fmt: skip
        for name, weight in part.items():
            torch.testing.assert_close(weight, 0.7 * base[name] + 0.3 * whole[name], rtol=1e-5, atol=1e-6)
        assert result.averaged
        assert (result.averaged.share, result.averaged.measure, result.averaged.tried) == (0.3, "", ())

    def test_lora_is_averaged_by_scaling_and_plain_peft_loads_it(self, tiny: Path, tmp_path: Path) -> None:
        from peft import PeftModel

        tuned(tiny, tmp_path / "whole", LORA, max_steps=4)
        tuned(tiny, tmp_path / "part", LORA, max_steps=4, average=0.3)
        base = load(tiny)
        start = {name: weight.detach().clone() for name, weight in base.model.named_parameters()}
        whole, part = (answering(tiny, tmp_path / name, LORA) for name in ("whole", "part"))
        merged = dict(whole.named_parameters())
        for name, weight in part.named_parameters():
            torch.testing.assert_close(weight, 0.7 * start[name] + 0.3 * merged[name], rtol=1e-4, atol=1e-5)
        model = PeftModel.from_pretrained(base.model, tmp_path / "part" / "adapter")
        torch.testing.assert_close(logits(model, base.kind), logits(part, base.kind), rtol=1e-4, atol=1e-4)

    @METHODS_OF_BOTH
    def test_auto_takes_the_smallest_share_that_keeps_the_gain_on_validation_rows(
        self, tiny: Path, tmp_path: Path, method: dict[str, Any]
    ) -> None:
        result = tuned(tiny, tmp_path, method, epochs=6.0, validation=6, average="auto")
        found = result.averaged
        assert found
        assert found.measure == "loss"
        assert [share for share, _ in found.tried] == [n / 10 for n in range(11)]
        values = dict(found.tried)
        assert values[1.0] == pytest.approx(result.validation_loss, abs=1e-4)
        assert values[0.0] > values[1.0], "or nothing was learned"
        limit = values[1.0] + 0.05 * (values[0.0] - values[1.0])
        assert found.share == min(share for share, value in found.tried if share > 0 and value <= limit)
        job = job_of(tiny, tmp_path / "again", method)
        model = answering(tiny, tmp_path, method)
        held_out = ingredients(recipe(method), tiny, validation=6).validation
        from tunesmith.data.encode import Coder, encode_training

        base = load(tiny)
        encoded, _ = encode_training(held_out, Coder(base.tokenizer, base.kind, 1024))
        total = sum(
            loop.loss_sum(model.eval(), make_batch([one], kind=job.kind, pad_id=job.pad_id), job.kind).item()
            for one in encoded
        )
        assert total / sum(len(one.target_ids) for one in encoded) == pytest.approx(values[found.share], abs=1e-4)

    def test_auto_goes_by_the_metric_that_keeps_the_best(self, tiny_causal: Path, tmp_path: Path) -> None:
        scores = iter([1.0, 9.0, *(float(n) for n in range(11))])
        given = recipe(LORA, max_steps=2, validations=2, keep_best="rouge1", average="auto")
        result = tune(
            ingredients(given, tiny_causal, validation=2), "tuned", CandidateDir(tmp_path), score=lambda _: next(scores)
        )
        assert result.averaged
        assert result.averaged.measure == "rouge1"
        assert result.averaged.tried[10] == (1.0, 10.0)
        assert result.averaged.share == 1.0, "at 0.9 it keeps 9 of 10, less than 95 %"

    def test_auto_without_validation_rows_is_refused(self, tiny_causal: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError) as caught:
            tuned(tiny_causal, tmp_path, LORA, max_steps=1, average="auto")
        assert str(caught.value) == (
            "candidates.tuned: train.average: auto is searched on validation rows, and there are none. Give "
            "split.validation a share, or name a share such as 0.5."
        )

    def test_where_nothing_was_gained_the_smallest_share_that_is_no_worse_is_taken(self) -> None:
        assert chosen([(0.0, 2.0), (0.5, 2.1), (0.8, 2.2), (1.0, 2.2)]) == 0.5
        assert chosen([(0.0, 2.0), (0.5, 1.01), (1.0, 1.0)]) == 0.5
        assert chosen([(0.0, 2.0), (0.5, 1.06), (1.0, 1.0)]) == 1.0

    @pytest.mark.parametrize("name", ["lora", "full", *(name for name in OTHERS if name not in NO_AVERAGE)])
    def test_with_no_share_of_the_tuned_it_is_the_base_and_with_all_it_is_the_tuned(
        self, tiny: Path, tmp_path: Path, name: str
    ) -> None:
        candidate = {"lora": LORA, "full": FULL, **OTHERS}[name]
        job = job_of(tiny, tmp_path, candidate)
        before = logits(job.model, job.kind)
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in trainable(job.model).values():
                weight.add_(0.1 * torch.randn(weight.shape))
        after = logits(job.model, job.kind)
        method = resolve("method", candidate["method"], METHODS)
        learned = {key: weight.detach().clone() for key, weight in trainable(job.model).items()}
        start = method.base_values(job.model, lambda: load(tiny).model)
        assert start.keys() <= learned.keys()
        mix(job.model, start, learned, 0.0)
        torch.testing.assert_close(logits(job.model, job.kind), before, rtol=1e-5, atol=1e-5)
        mix(job.model, start, learned, 1.0)
        assert torch.equal(logits(job.model, job.kind), after)
        assert (after - before).abs().max() > 1e-3

    def test_the_others_have_no_average(self) -> None:
        assert {name for name in METHODS if not hasattr(resolve("method", name, METHODS), "base_values")} == NO_AVERAGE


class TestTasksInTurn:
    @METHODS_OF_BOTH
    def test_the_next_task_begins_where_the_one_before_ended(
        self, tiny: Path, tmp_path: Path, method: dict[str, Any]
    ) -> None:
        given = recipe(method, max_steps=3)
        first, second = CandidateDir(tmp_path / "1"), CandidateDir(tmp_path / "2")
        tune(Ingredients(given, tiny, examples(8), [], keep=True), "tuned", first)
        kept = answering(tiny, tmp_path / "1", method)
        on = make_ready(Ingredients(given, tiny, examples(8, start=40), [], start=first.learned), "tuned", second,
                        score=None)  # fmt: skip
        torch.testing.assert_close(logits(on.job.model, on.job.kind), logits(kept, on.job.kind), rtol=1e-4, atol=1e-4)
        base = make_ready(Ingredients(given, tiny, examples(8, start=40), []), "tuned", second, score=None)
        assert on.job.identity != base.job.identity

    @METHODS_OF_BOTH
    def test_a_second_task_that_was_killed_goes_on_from_its_own_checkpoint(
        self, tiny_causal: Path, tmp_path: Path, method: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given = recipe(method, max_steps=4, checkpoint_minutes=1e-9, kl=0.5, average=0.5)
        first = CandidateDir(tmp_path / "1")
        tune(Ingredients(given, tiny_causal, examples(8), [], keep=True), "tuned", first)
        second = Ingredients(given, tiny_causal, examples(8, start=40), [], start=first.learned)
        tune(second, "tuned", CandidateDir(tmp_path / "whole"))
        real = loop.save

        def killed(*arguments: Any) -> None:
            real(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(loop, "save", killed)
            with pytest.raises(KeyboardInterrupt):
                tune(second, "tuned", CandidateDir(tmp_path / "cut"))
        tune(second, "tuned", CandidateDir(tmp_path / "cut"))
        ends = [
            {path.name: path.read_bytes() for path in (tmp_path / name / "adapter").glob("*.safetensors")}
            for name in ("whole", "cut")
        ]
        assert ends[0] == ends[1]
        assert ends[0]

    def test_what_is_not_there_any_more_is_named(self, tiny_causal: Path, tmp_path: Path) -> None:
        from tunesmith.errors import UserError

        given = Ingredients(recipe(LORA), tiny_causal, examples(4), [], start=tmp_path / "1" / "learned")
        with pytest.raises(UserError) as caught:
            tune(given, "tuned", CandidateDir(tmp_path / "2"))
        assert str(caught.value) == (
            f"{tmp_path}/1/learned: MANIFEST.json is missing or cannot be read. It is what the next task of the "
            f"sequence begins with: delete {tmp_path}/1 and run the same command again."
        )


def test_the_record_says_it_all(tiny_causal: Path, tmp_path: Path) -> None:
    tuned(tiny_causal, tmp_path, LORA, max_steps=2, validation=2, replay=0.2, kl=0.1, average="auto")
    found = json.loads(CandidateDir(tmp_path).train_result.read_text(encoding="utf-8"))
    assert found["replayed"] == 4
    assert len(found["averaged"]["tried"]) == 11
