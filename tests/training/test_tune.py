import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from workshop import FULL, LORA, example, examples, ingredients, read_log, recipe

from tunesmith import __version__
from tunesmith.errors import DataError, ResourceError
from tunesmith.inference.answer import load_tuned
from tunesmith.models.catalog import fingerprint
from tunesmith.models.load import Loaded, load
from tunesmith.records import AdapterCard, TrainResult
from tunesmith.rundir import CandidateDir, read_record
from tunesmith.settings import TrainSettings
from tunesmith.training import tune as module
from tunesmith.training.job import own_memory, trainable
from tunesmith.training.tune import Ingredients, check_context, tune

METHODS = pytest.mark.parametrize("method", [LORA, FULL], ids=["lora", "full"])


def logits(model: Any, kind: str) -> Tensor:
    """What a model says to a fixed prompt, at every position."""
    ids = torch.tensor([[5, 17, 40, 300, 8, 9, 31]])
    more = {"decoder_input_ids": torch.tensor([[0, 7, 20]])} if kind == "seq2seq" else {}
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=ids, **more).logits
    return found


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Fills with the model that ``tune`` trained and the base as it was loaded."""
    kept: dict[str, Any] = {}
    real = module.write_adapter

    def spy(given: Any, name: str, model: Any, loaded: Loaded, where: Any) -> None:
        kept.update(model=model, loaded=loaded)
        real(given, name, model, loaded, where)

    monkeypatch.setattr(module, "write_adapter", spy)
    return kept


@METHODS
def test_what_is_loaded_answers_as_what_was_trained(
    tiny: Path, tmp_path: Path, trained: dict[str, Any], method: dict[str, Any]
) -> None:
    where = CandidateDir(tmp_path)
    tune(ingredients(recipe(method, max_steps=6), tiny), "tuned", where)
    found = load_tuned(method["method"], tiny, where.adapter, dtype=torch.float32)
    base = load(tiny)
    assert type(found.model) is type(base.model), "merged: nothing of peft is left"
    assert (found.kind, found.context) == (base.kind, base.context)
    after = logits(found.model, base.kind)
    assert (after - logits(trained["model"], base.kind)).abs().max() < 1e-5
    assert (after - logits(base.model, base.kind)).abs().max() > 1e-2


def test_plain_peft_loads_the_adapter(tiny: Path, tmp_path: Path, trained: dict[str, Any]) -> None:
    from peft import PeftModel

    where = CandidateDir(tmp_path)
    tune(ingredients(recipe(LORA, max_steps=4), tiny), "tuned", where)
    base = load(tiny)
    model = PeftModel.from_pretrained(base.model, where.adapter)
    assert (logits(model, base.kind) - logits(trained["model"], base.kind)).abs().max() < 1e-5


def test_an_adapter_folder_holds_the_files_of_peft_and_a_card(tiny: Path, tmp_path: Path) -> None:
    where = CandidateDir(tmp_path)
    result = tune(ingredients(recipe(LORA, max_steps=2, seed=3), tiny), "tuned", where)
    names = {path.name for path in where.adapter.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tunesmith.json"} <= names
    assert {path.suffix for path in where.adapter.iterdir()} <= {".json", ".safetensors", ".md"}, "nothing is pickled"
    assert result.adapter_bytes == sum(path.stat().st_size for path in where.adapter.iterdir())
    card = read_record(where.adapter / "tunesmith.json", AdapterCard)
    assert card == AdapterCard(
        model="tiny", model_hash=fingerprint(tiny), method="lora",
        settings={"rank": 4, "alpha": None, "dropout": 0.0, "targets": "all-linear", "rslora": False, "dora": False,
                  "init": "default"},
        tasks=card.tasks, seed=3, max_tokens=1024, tunesmith=__version__,
    )  # fmt: skip
    assert [task["name"] for task in card.tasks] == ["orders"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "train.json", "train.jsonl"]


def test_full_tuning_writes_a_whole_model(tiny: Path, tmp_path: Path) -> None:
    where = CandidateDir(tmp_path)
    tune(ingredients(recipe(FULL, max_steps=2), tiny), "tuned", where)
    names = {path.name for path in where.adapter.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "tunesmith.json"} <= names
    assert "adapter_config.json" not in names
    assert json.loads((where.adapter / "config.json").read_text())["dtype"] == "float32"
    again, base = load(where.adapter), load(tiny)
    assert again.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    assert again.tokenizer.chat_template == base.tokenizer.chat_template
    if base.kind == "causal":
        assert again.model.lm_head.weight is again.model.model.embed_tokens.weight


def test_the_result_says_what_the_log_says(tiny: Path, tmp_path: Path) -> None:
    where = CandidateDir(tmp_path)
    given = ingredients(recipe(LORA, epochs=2.0, validations=3), tiny, validation=3)
    result = tune(given, "tuned", where)
    assert read_record(where.train_result, TrainResult) == result
    log = read_log(tmp_path)
    steps = [point for point in log if point.loss is not None]
    validated = {point.validation_loss: point.step for point in log if point.validation_loss is not None}
    assert len(validated) == 3
    assert (result.steps, result.epochs) == (len(steps), 2.0)
    assert (result.tokens, result.target_tokens) == (log[-1].tokens, log[-1].target_tokens)
    assert result.tokens == 2 * (result.encoding.prompt_tokens + result.encoding.target_tokens)
    assert result.train_loss == pytest.approx(steps[-1].loss)
    assert result.validation_loss == min(validated)
    assert result.best_step == validated[min(validated)]
    assert result.seconds == pytest.approx(log[-1].seconds, abs=0.01)
    assert (result.method, result.precision, result.stopped) == ("lora", "float32", "finished")
    assert result.learning_rate == 0.01
    assert result.total == load(tiny).model.num_parameters()
    assert 0 < result.trainable < result.total
    assert result.peak_bytes > 50_000_000


def test_the_train_loss_is_the_mean_of_the_last_tenth_of_the_steps(tiny_causal: Path, tmp_path: Path) -> None:
    given = ingredients(recipe(LORA, max_steps=20, tokens_per_step=1), tiny_causal, train=20)
    result = tune(given, "tuned", CandidateDir(tmp_path))
    losses = [point.loss or 0.0 for point in read_log(tmp_path)]
    assert result.train_loss == pytest.approx(sum(losses[-2:]) / 2)
    assert result.validation_loss is None


def test_tuning_leaves_no_trace_on_the_next_one(tiny_causal: Path, tmp_path: Path) -> None:
    given = ingredients(recipe({**LORA, "dropout": 0.2}, max_steps=3), tiny_causal)
    for name in ("a", "b"):
        tune(given, "tuned", CandidateDir(tmp_path / name))
        torch.rand(3)
    first, second = ((tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_generated_metric_chooses_the_best_weights(tiny: Path, tmp_path: Path, trained: dict[str, Any]) -> None:
    scores, seen = iter([10.0, 30.0, 20.0]), []

    def score(loaded: Loaded) -> float:
        assert loaded.kind == load(tiny).kind
        seen.append(logits(loaded.model, loaded.kind))
        return next(scores)

    given = ingredients(recipe(LORA, max_steps=6, validations=3, keep_best="rouge1"), tiny, validation=2)
    result = tune(given, "tuned", CandidateDir(tmp_path), score=score)
    assert (result.best_step, result.validation_loss) == (4, None)
    kind = trained["loaded"].kind
    assert (logits(trained["model"], kind) - seen[1]).abs().max() < 1e-5
    assert (seen[2] - seen[1]).abs().max() > 1e-3
    found = [point.validation_score for point in read_log(tmp_path) if point.validation_loss is not None]
    assert found == [10.0, 30.0, 20.0]


@pytest.mark.parametrize(("validation", "validations"), [(0, 4), (3, 0)])
def test_a_generated_metric_without_validation_rows_is_refused(
    tiny_causal: Path, tmp_path: Path, validation: int, validations: int
) -> None:
    given = recipe(LORA, validations=validations, keep_best="rouge1")
    needed = ingredients(given, tiny_causal, validation=validation)
    with pytest.raises(DataError) as caught:
        tune(needed, "tuned", CandidateDir(tmp_path), score=lambda _: 1.0)
    assert str(caught.value) == (
        "tuned: train.keep_best: rouge1 needs validation rows and train.validations above 0; there are "
        f"{validation} rows, and train.validations is {validations}."
    )


def test_nothing_to_train_on_is_refused_before_the_first_step(tiny_causal: Path, tmp_path: Path) -> None:
    given = Ingredients(recipe(LORA, max_tokens=8), tiny_causal, examples(5), [])
    with pytest.raises(DataError, match=r"^there is nothing to train on: none of the 5 train examples has a target"):
        tune(given, "tuned", CandidateDir(tmp_path))
    assert not CandidateDir(tmp_path).train_log.exists()


def test_validation_examples_without_room_are_counted_and_named(
    tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = [
        example(500, split="validation"),
        example(501, split="validation", prompt="Why is it late? " * 30),
        example(502, split="validation", target="late " * 90),
    ]
    given = Ingredients(recipe(LORA, max_steps=1, max_tokens=80), tiny_causal, examples(4), held_out)
    tune(given, "tuned", CandidateDir(tmp_path))
    assert (
        "tuned: validation: 1 prompts were cut to 80 tokens, 1 examples left out because their target does not fit "
        "(orders/validation/rows.csv:504).\n"
    ) in capsys.readouterr().err


def test_the_start_says_how_much_learns(tiny_causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = tune(ingredients(recipe(LORA, max_steps=1), tiny_causal), "tuned", CandidateDir(tmp_path))
    share = 100 * result.trainable / result.total
    said = f"tuned: lora trains {result.trainable:,} of {result.total:,} parameters ({share:.2f} %)\n"
    assert capsys.readouterr().err.startswith(said)


@METHODS
def test_bfloat16_trains_too_and_what_is_written_is_float32(tiny: Path, tmp_path: Path, method: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    where = CandidateDir(tmp_path)
    given = ingredients(recipe(method, max_steps=8, precision="bfloat16"), tiny, validation=2)
    result = tune(given, "tuned", where)
    assert result.precision == "bfloat16"
    losses = [point.loss or 0.0 for point in read_log(tmp_path) if point.loss is not None]
    assert losses[-1] < losses[0] - 0.5
    (weights,) = where.adapter.glob("*.safetensors")
    assert {value.dtype for value in load_file(weights).values()} == {torch.float32}


def test_the_automatic_rate_is_that_of_the_method(tiny_causal: Path, tmp_path: Path) -> None:
    given = ingredients(recipe(FULL, max_steps=1, learning_rate="auto"), tiny_causal)
    assert tune(given, "tuned", CandidateDir(tmp_path)).learning_rate == 5e-5


@pytest.mark.parametrize(("context", "limit"), [(1024, 300), (200, 200), (0, 300)])
def test_the_limit_is_the_smaller_of_recipe_and_context(context: int, limit: int) -> None:
    model = SimpleNamespace(get_input_embeddings=lambda: None)
    loaded = Loaded(model, None, "causal", Path(), context)
    assert check_context(loaded, TrainSettings(max_tokens=300)) == limit


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@METHODS
def test_a_disk_that_is_full_when_the_adapter_is_written_keeps_the_training(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any]
) -> None:
    where = CandidateDir(tmp_path)
    given = ingredients(recipe(method, max_steps=3, checkpoint_minutes=1e-9), tiny_causal)
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_record", full_disk)
        with pytest.raises(ResourceError) as caught:
            tune(given, "tuned", where)
    assert "B free), the adapter was not written. What was written before is untouched" in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}: the disk is full (")
    assert not where.adapter.exists()
    assert not where.train_result.exists()
    steps = [point.step for point in read_log(tmp_path)]
    tune(given, "tuned", where)
    assert [point.step for point in read_log(tmp_path)] == steps == [1, 2, 3], "no step is taken again"
    assert where.adapter.exists()


def test_a_disk_that_is_full_when_the_log_is_written_is_explained(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.training import loop

    monkeypatch.setattr(loop.Outlet, "record", full_disk)
    with pytest.raises(ResourceError) as caught:
        tune(ingredients(recipe(LORA, max_steps=3), tiny_causal), "tuned", CandidateDir(tmp_path))
    assert "train.jsonl was not written. What was written before is untouched: free some space" in str(caught.value)


def test_weights_that_learn_leave_the_pages_of_their_file_and_others_stay(tiny: Path) -> None:
    model = load(tiny).model
    for name, one in model.named_parameters():
        one.requires_grad_("norm" not in name)
    were = {name: (one.data_ptr(), one.detach().clone()) for name, one in model.named_parameters()}
    tied = len({one.data_ptr() for one in model.state_dict().values()})
    own_memory(model)
    moved = {name for name, one in model.named_parameters() if one.data_ptr() != were[name][0]}
    assert moved == set(trainable(model)) < set(were)
    assert all(torch.equal(one, were[name][1]) for name, one in model.named_parameters())
    assert len({one.data_ptr() for one in model.state_dict().values()}) == tied


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux tells what is mapped")
def test_training_writes_to_no_page_of_a_file(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spy(job: Any) -> Any:
        lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if ".safetensors" in line]
        ranges = [[int(end, 16) for end in line[0].split("-")] for line in lines]
        places = [one.data_ptr() for one in trainable(job.model).values()]
        inside.extend(place for place in places if any(low <= place < high for low, high in ranges))
        return real(job)

    inside: list[int] = []
    real = module.train
    monkeypatch.setattr(module, "train", spy)
    tune(ingredients(recipe(FULL, max_steps=1), tiny), "tuned", CandidateDir(tmp_path))
    assert not inside
