from pathlib import Path
from types import SimpleNamespace

import pytest
from test_plan import data
from workshop import FULL, LORA, recipe

from tunesmith import machine
from tunesmith.errors import ResourceError
from tunesmith.plan_records import CandidatePlan, Plan
from tunesmith.planning import plan as planning
from tunesmith.planning import room
from tunesmith.planning.plan import make_plan
from tunesmith.planning.room import check_room
from tunesmith.registry import METHODS
from tunesmith.settings import Recipe
from tunesmith.wording import size


def planned(given: Recipe, folder: Path, free: int, monkeypatch: pytest.MonkeyPatch, *, table: bool = False) -> Plan:
    monkeypatch.setattr(planning, "available_memory", lambda: free)
    return make_plan(given, folder, data(train=30), names=["tuned"], table=table)


def tuned(given: Recipe, folder: Path, free: int, monkeypatch: pytest.MonkeyPatch) -> CandidatePlan:
    return planned(given, folder, free, monkeypatch).candidates[0]


def test_the_nearest_setting_that_fits(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = recipe(FULL, tokens_per_batch=2048, tokens_per_step=2048, max_tokens=512)
    enough = tuned(given, tiny_causal, 10**12, monkeypatch)
    assert enough.advice == ""
    assert enough.train
    needed = enough.train.needed
    little = tuned(given, tiny_causal, needed - 10, monkeypatch)
    assert little.advice == (
        "It fits with candidates.tuned.train.tokens_per_batch=1024, which changes the speed alone."
    )
    changed = recipe({**FULL, "train": {"tokens_per_batch": 1024}}, tokens_per_step=2048, max_tokens=512)
    assert tuned(changed, tiny_causal, needed - 10, monkeypatch).advice == ""
    none = tuned(given, tiny_causal, 1000, monkeypatch)
    assert none.advice == "No setting of it fits: take a smaller model."


def test_moments_of_8_bits_are_tried_where_wide_ones_are_too_much(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(tokens: int, optimizer: str = "adamw") -> Recipe:
        return recipe({**FULL, "train": {"tokens_per_batch": tokens, "optimizer": optimizer}}, tokens_per_step=2048)

    def needed(recipe: Recipe) -> int:
        found = tuned(recipe, tiny_causal, 10**12, monkeypatch).train
        assert found
        return found.needed

    little = needed(given(64, "adamw-8bit"))
    assert little < needed(given(64)) < needed(given(128))
    way = "candidates.tuned.train"
    assert tuned(given(64), tiny_causal, little, monkeypatch).advice == f"It fits with {way}.optimizer=adamw-8bit."
    assert tuned(given(128), tiny_causal, little, monkeypatch).advice == (
        f"It fits with {way}.optimizer=adamw-8bit and {way}.tokens_per_batch=64."
    )
    assert "8bit" not in tuned(given(64), tiny_causal, little - 1, monkeypatch).advice
    monkeypatch.setattr(room, "optimizer_problems", lambda settings: ["there is no bitsandbytes."])
    assert "8bit" not in tuned(given(64), tiny_causal, little, monkeypatch).advice


def test_a_training_without_memory_is_refused_with_what_would_fit(
    tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tuned(recipe(FULL), tiny_causal, 1000, monkeypatch)
    assert found.train
    monkeypatch.setattr(machine, "available_memory", lambda: found.train.needed - 1)
    with pytest.raises(ResourceError) as caught:
        check_room(found, tmp_path)
    gigabytes = f"{found.train.needed / 1e9:.1f} GB"
    assert str(caught.value) == (
        f"training tuned needs about {gigabytes} of memory, this machine has {gigabytes} free. No setting of it fits: "
        "take a smaller model."
    )
    monkeypatch.setattr(machine, "available_memory", lambda: found.train.needed)
    check_room(found, tmp_path)
    check_room(found.model_copy(update={"train": None}), tmp_path)


def test_a_training_without_disk_is_refused(tiny_causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuned(recipe(FULL, keep_checkpoints=3), tiny_causal, 10**12, monkeypatch)
    assert found.working_disk == (16 * 4 + 4) * found.trainable
    free = [found.working_disk - 1]
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[0]))
    with pytest.raises(ResourceError) as caught:
        check_room(found, tmp_path / "new")
    megabytes = size(found.working_disk)
    assert str(caught.value) == (
        f"{tmp_path}/new: training tuned needs {megabytes}, the disk has {megabytes} free. Free some, or point "
        "TUNESMITH_HOME (models) or --out (runs) at another disk."
    )
    free[0] += 1
    check_room(found, tmp_path / "new")


def test_the_table_has_every_method_that_it_can_and_grows_with_length_and_batch(
    tiny_causal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = planned(recipe({**LORA, "rank": 4}), tiny_causal, 330_000_000, monkeypatch, table=True)
    assert {one.method for one in found.fits} == {"full", "lora", "qlora", "soft-prompt"} & set(METHODS)
    assert max(one.length for one in found.fits) == 1024, "the context of the model"
    for method in {one.method for one in found.fits}:
        cells = {(one.length, one.examples): one.peak for one in found.fits if one.method == method}
        for (length, count), peak in cells.items():
            assert peak <= cells.get((length, 2 * count), peak)
            assert peak <= cells.get((2 * length, count), peak)
    for one in found.fits:
        assert one.fits == (one.peak - found.program <= 330_000_000)


def test_a_method_that_this_model_cannot_take_is_named(tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = planned(recipe(FULL), tiny_causal, 10**12, monkeypatch, table=True)
    named = {one.method for one in found.fits}
    from tunesmith.methods import lora

    def refuse(settings: object, model: object) -> int:
        from tunesmith.errors import RecipeError

        raise RecipeError("lora: no layer fits.")

    assert "lora" in named
    monkeypatch.setattr(lora, "count", refuse)
    again = planned(recipe(FULL), tiny_causal, 10**12, monkeypatch, table=True)
    assert "lora" not in {one.method for one in again.fits}
    assert "lora is not in the table: lora: no layer fits." in again.notes
