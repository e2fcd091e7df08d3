"""Many adapters on one base: each answers as it does alone, whoever else is in the batch."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_tuning import THINGS

from tunesmith.data.templates import load_template
from tunesmith.errors import DataError, RecipeError, UsageError
from tunesmith.inference import together, tuned
from tunesmith.inference.asking import Asker
from tunesmith.inference.generate import generate
from tunesmith.inference.together import Adapters
from tunesmith.inference.tuned import Tuned
from tunesmith.models.fused.stack import read_stack
from tunesmith.models.tiny import write_tiny
from tunesmith.recipe import recipe_from_text
from tunesmith.records import Example
from tunesmith.rundir import CandidateDir
from tunesmith.settings import GenerateSettings, Recipe
from tunesmith.training.tune import Ingredients, tune

ROWS = [{"said": f"My {thing} of day {n} is late." + " Please help." * (n % 3)} for n, thing in enumerate(THINGS)]
CASES: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 4},
    "narrow lora": {"method": "lora", "rank": 2, "targets": "attention", "rslora": True},
    "dora": {"method": "lora", "rank": 4, "dora": True},
    "pissa": {"method": "lora", "rank": 4, "init": "pissa"},
    "ia3": {"method": "ia3"},
    "soft-prompt": {"method": "soft-prompt", "tokens": 5, "init": "random"},
    "p-tuning": {"method": "p-tuning", "tokens": 3, "width": 8},
    "prefix": {"method": "prefix", "tokens": 4, "init": "random"},
    "other prefix": {"method": "prefix", "tokens": 2, "init": "random"},
    "bottleneck": {"method": "bottleneck", "width": 8},
    "parallel bottleneck": {"method": "bottleneck", "width": 8, "place": "parallel", "blocks": "feed-forward"},
}
FOR_DECODERS: dict[str, dict[str, Any]] = {
    "decoder prompt": {"method": "soft-prompt", "tokens": 3, "init": "random", "place": "decoder"},
    "both prompts": {"method": "soft-prompt", "tokens": 2, "init": "random", "place": "both"},
}
TEMPLATE = {"prompt": "Customer: {{ text }}\nIn short:", "target": "{{ label }}", "system": "Be brief."}


def cases(kind: str) -> dict[str, dict[str, Any]]:
    return CASES if kind == "causal" else CASES | FOR_DECODERS


def recipe(model: Path, candidate: dict[str, Any], *, choices: tuple[str, ...] = (), tasks: str = "a") -> Recipe:
    made = [
        {"name": name, "source": "rows.csv", "columns": {"text": "said"}, "template": TEMPLATE, "max_new_tokens": 7,
         "choices": list(choices)}
        for name in tasks
    ]  # fmt: skip
    train = {"precision": "float32", "learning_rate": 0.03, "max_steps": 6, "tokens_per_step": 200}
    body = {"name": "t", "model": str(model), "tasks": made, "train": train, "candidates": {"tuned": candidate}}
    return recipe_from_text(json.dumps(body))


def trained(given: Recipe, where: Path, word: str) -> Path:
    """The adapter folder of a short training towards answers with a word of their own."""
    examples = [
        Example.model_validate(
            {"id": f"{task.name}/train/rows.csv:{n}", "task": task.name, "split": "train", "target": f"{word} it is",
             "references": (), "history": ({"role": "system", "content": "Be brief."},),
             "prompt": f"Customer: {row['said']}\nIn short:"}
        )
        for task in given.tasks
        for n, row in enumerate(ROWS)
    ]  # fmt: skip
    tune(Ingredients(given, Path(given.model), examples, []), "tuned", CandidateDir(where))
    return where / "adapter"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: write_tiny(folder / kind, kind=kind, texts=texts, hidden=32)  # type: ignore[arg-type]
        for kind in ("causal", "seq2seq")
    }


@pytest.fixture(scope="module")
def folders(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Path]]:
    """Every case, trained on an architecture, once for all tests."""
    found: dict[str, dict[str, Path]] = {}

    def find(kind: str) -> dict[str, Path]:
        if kind not in found:
            found[kind] = {
                name: trained(recipe(models[kind], case), tmp_path_factory.mktemp("one"), THINGS[n % len(THINGS)])
                for n, (name, case) in enumerate(cases(kind).items())
            }
        return found[kind]

    return find


@pytest.fixture(autouse=True)
def in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tuned, together):
        monkeypatch.setattr(module, "fastest_dtype", lambda: torch.float32)


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_mixed_in_one_batch_each_answers_as_it_does_alone(
    kind: str, models: dict[str, Path], folders: Callable[[str], dict[str, Path]]
) -> None:
    own = folders(kind)
    alone = {name: Tuned.load(folder).answer(ROWS) for name, folder in own.items()}
    assert all(any(answers) for answers in alone.values())
    different = [a != b for a, b in combinations(alone.values(), 2)]
    assert sum(different) > 0.8 * len(different), "adapters that answer alike would prove nothing"
    shared = Tuned.load(models[kind], own)
    names = [name for _ in ROWS for name in own]
    rows = [row for row in ROWS for _ in own]
    assert shared.answer(rows, adapter=names) == [alone[name][n] for n in range(len(ROWS)) for name in own]
    assert {name: shared.answer(ROWS, adapter=name) for name in own} == alone, "and one after the other"


def test_they_are_really_in_one_batch(
    models: dict[str, Path], folders: Callable[[str], dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {name: folders("causal")[name] for name in ("lora", "ia3", "soft-prompt", "prefix", "bottleneck")}
    shared = Tuned.load(models["causal"], own)
    owners: list[set[int]] = []
    turn = shared.loaded.model.get_input_embeddings().turn
    take = turn.take
    monkeypatch.setattr(turn, "take", lambda marks: (take(marks), owners.append(set(turn.owners.tolist()))))
    shared.answer(ROWS[:5], adapter=list(own))
    assert {1, 2, 3, 4, 5} in owners


def test_prompts_alone_share_a_base_of_fused_layers(
    models: dict[str, Path], folders: Callable[[str], dict[str, Path]]
) -> None:
    own = {name: folders("causal")[name] for name in ("soft-prompt", "p-tuning")}
    shared = Tuned.load(models["causal"], own)
    assert read_stack(shared.loaded.model, dtype=torch.float32) is not None
    names = ["soft-prompt", "p-tuning"] * 4
    expected = {name: Tuned.load(folder).answer(ROWS) for name, folder in own.items()}
    assert shared.answer(ROWS, adapter=names) == [expected[name][n] for n, name in enumerate(names)]


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("beams", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_so_they_do_by_transformers_own_generation(
    kind: str, beams: int, models: dict[str, Path], folders: Callable[[str], dict[str, Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tunesmith.inference.generate.takes_ragged", lambda model: False)
    shared = Tuned.load(models[kind], folders(kind))
    settings = GenerateSettings(beams=beams)
    together_names = [name for name, member in shared.members.items() if not member.alone]
    for names in [together_names] if kind == "causal" else [together_names, ["prefix"], ["both prompts"]]:
        found, expected = [], []
        for name in names:
            asker = shared.members[name].asker
            single = Tuned.load(folders(kind)[name])
            numbered = dict(enumerate(ROWS[:3]))
            mine = asker.questions(shared.loaded, numbered, asker.task(None))
            its = Asker(single.card, single.loaded.virtual).questions(single.loaded, numbered, asker.task(None))
            found += [question.ids for question in mine]
            answers = generate(single.loaded, [one.ids for one in its], settings=settings, max_new_tokens=5)
            expected += [one.ids for one in answers]
        answers = generate(shared.loaded, found, settings=settings, max_new_tokens=5)
        assert [one.ids for one in answers] == expected


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_choices_are_ranked_by_the_adapter_of_each_row(
    kind: str, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        name: trained(recipe(models[kind], CASES[name], choices=("late", "broken", "lost")), tmp_path / name, word)
        for name, word in (("lora", "lost"), ("ia3", "late"), ("soft-prompt", "broken"), ("prefix", "lost"))
    }
    seen: list[list[list[float]]] = []
    rank = together.answer_all.__globals__["rank_all"]
    monkeypatch.setitem(together.answer_all.__globals__, "rank_all", lambda *a: seen.append(rank(*a)) or seen[-1])
    alone = {name: Tuned.load(folder).answer(ROWS) for name, folder in own.items()}
    single, seen[:] = dict(zip(own, seen, strict=True)), []
    shared = Tuned.load(models[kind], own)
    names = [list(own)[n % 4] for n in range(len(ROWS))]
    assert shared.answer(ROWS, adapter=names) == [alone[name][n] for n, name in enumerate(names)]
    ranked = [logprobs for part in seen for logprobs in part]
    order = sorted(range(len(names)), key=lambda n: names[n] == "prefix") if kind == "seq2seq" else range(len(names))
    for logprobs, n in zip(ranked, order, strict=True):
        assert logprobs == pytest.approx(single[names[n]][n], abs=1e-4)


def test_answers_keep_their_own_length(models: dict[str, Path], tmp_path: Path) -> None:
    given = recipe(models["causal"], CASES["lora"])
    short = given.model_copy(update={"tasks": (given.tasks[0].model_copy(update={"max_new_tokens": 2}),)})
    own = {"long": trained(given, tmp_path / "long", "lamp"), "short": trained(short, tmp_path / "short", "lamp")}
    alone = {name: Tuned.load(folder).answer(ROWS) for name, folder in own.items()}
    assert alone["long"] != alone["short"]
    names = ["long", "short"] * 4
    found = Tuned.load(models["causal"], own).answer(ROWS, adapter=names)
    assert found == [alone[name][n] for n, name in enumerate(names)]


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_one_prompt_for_each_task(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    prompt = {"method": "soft-prompt", "tokens": 3, "init": "random", "per_task": True}
    several = trained(recipe(models[kind], prompt, tasks="ab"), tmp_path / "several", "lamp")
    single = trained(recipe(models[kind], CASES["lora"]), tmp_path / "single", "bill")
    alone = Tuned.load(several)
    shared = Tuned.load(models[kind], {"a": several, "other": several, "lora": single})
    asked = [("a", None), ("other", "b"), ("lora", None), ("a", "b"), ("other", "a")]
    found = shared.answer(ROWS[:5], adapter=[name for name, _ in asked], task=[task for _, task in asked])
    expected = [alone.answer([row], task=task)[0] for row, task in zip(ROWS, "ababa", strict=False)]
    expected[2] = Tuned.load(single).answer([ROWS[2]])[0]
    assert found == expected
    with pytest.raises(UsageError, match="task: say which of a, b these rows are"):
        shared.answer(ROWS, adapter="other")


def test_adapters_beside_a_base_in_four_bits(
    models: dict[str, Path], folders: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    own = {
        name: trained(recipe(models["causal"], {"method": "qlora", "rank": 4, **more}), tmp_path / name, word)
        for name, word, more in (("plain", "lamp", {}), ("dora", "bill", {"dora": True}))
    }
    alone = {name: Tuned.load(folder).answer(ROWS) for name, folder in own.items()}
    names = ["plain", "dora"] * 4
    found = Tuned.load(models["causal"], own).answer(ROWS, adapter=names)
    assert found == [alone[name][n] for n, name in enumerate(names)]
    with pytest.raises(RecipeError) as caught:
        Tuned.load(models["causal"], {**own, "other": folders("causal")["lora"]})
    assert str(caught.value) == (
        "plain, dora learned beside a base in four bits, and other did not: they would answer otherwise on the same "
        "one. Load the two kinds apart."
    )


def test_the_base_is_as_large_as_before_and_nothing_is_loaded_again(
    models: dict[str, Path], folders: Callable[[str], dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Tuned.load(models["causal"], folders("causal"))
    monkeypatch.setattr("safetensors.torch.load_file", lambda *_: pytest.fail("a file was read"))
    for name in shared.members:
        assert shared.answer(ROWS[:1], adapter=name)
    sizes = shared.sizes
    assert sizes[""] == sum(path.stat().st_size for path in models["causal"].iterdir())
    lora = folders("causal")["lora"]
    assert sizes["lora"] == sum(path.stat().st_size for path in lora.iterdir())
    lines = str(shared).splitlines()
    assert lines[0] == f"lora: lora, {sizes['lora'] / 1e6:.2f} MB ({sizes['lora'] / sizes['']:.2%} of the base)"
    assert lines[-1] == f"base: causal, {sizes[''] / 1e6:.1f} MB"


def test_in_bfloat16_each_still_answers(
    models: dict[str, Path], folders: Callable[[str], dict[str, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "fastest_dtype", lambda: torch.bfloat16)
    own = folders("causal")
    shared = Tuned.load(models["causal"], own)
    assert shared.loaded.model.dtype == torch.bfloat16
    names = (list(own) * 2)[: len(ROWS)]
    assert len(shared.answer(ROWS, adapter=names)) == len(ROWS)


# What cannot be


def test_folders_that_cannot_share_a_base_are_named_together(
    models: dict[str, Path], folders: Callable[[str], dict[str, Path]], tmp_path: Path, texts: tuple[str, ...]
) -> None:
    other = write_tiny(tmp_path / "other", kind="causal", texts=texts, hidden=32, seed=1)
    foreign = trained(recipe(other, CASES["lora"]), tmp_path / "foreign", "lamp")
    norms = trained(recipe(models["causal"], {"method": "norms"}), tmp_path / "norms", "lamp")
    full = trained(recipe(models["causal"], {"method": "full"}), tmp_path / "full", "lamp")
    half = tmp_path / "half"
    shutil.copytree(folders("causal")["lora"], half)
    (half / "adapter_model.safetensors").unlink()
    nothing = tmp_path / "nothing"
    own = {"good": folders("causal")["lora"], "none": nothing, "foreign": foreign, "norms": norms, "full": full,
           "half": half}  # fmt: skip
    with pytest.raises(RecipeError) as caught:
        Tuned.load(models["causal"], own)
    assert caught.value.problems == (
        f"none: {nothing} has no tunesmith.json. Give the adapter folder of a candidate of a run.",
        f"foreign: {foreign} was trained on {other}, whose weights are not those in {models['causal']}. Load it on the "
        "base that it was trained on.",
        f"norms: {norms}: norms cannot share a base: it changes weights of the base, which all others read. Load it by "
        "itself.",
        f"full: {full}: full cannot share a base: it is a whole model. Load it by itself.",
        f"half: {half} has no adapter_model.safetensors. Is the folder complete?",
    )


BROKEN: dict[str, tuple[str, Callable[[dict[str, torch.Tensor]], None], str]] = {
    "a layer that is not there": (
        "lora", lambda w: w.update({k.replace("layers.1", "layers.7"): w.pop(k) for k in list(w) if "layers.1" in k}),
        "the base has no layer model.layers.7",
    ),
    "half a correction": ("lora", lambda w: w.update(dict([w.popitem()][:0])), "in place of A and B"),
    "a correction of another size": (
        "lora", lambda w: w.update({k: v[:, :-1] for k, v in w.items() if "lora_A" in k}), "a correction is",
    ),
    "scales of another size": (
        "ia3", lambda w: w.update({k: v[:-1] if len(v) > 1 else v[:, :-1] for k, v in w.items()}),
        "features, and its scale",
    ),
    "virtual tokens of another width": (
        "soft-prompt", lambda w: w.update({k: v[:, :-1].contiguous() for k, v in w.items()}), "does not fit the base"),
    "a prefix of another width": (
        "prefix", lambda w: w.update({k: v[..., :-2].contiguous() for k, v in w.items()}), "does not fit the base"),
    "a network too many": (
        "bottleneck", lambda w: w.update({"model.layers.9.mlp.bottleneck.up.bias": torch.zeros(3)}),
        "model.layers.9.mlp.bottleneck.up.bias belongs to no block of the base",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_an_adapter_that_does_not_fit_says_why(
    what: str, models: dict[str, Path], folders: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    name, spoil, expected = BROKEN[what]
    folder = tmp_path / "adapter"
    shutil.copytree(folders("causal")[name], folder)
    weights = load_file(folder / "adapter_model.safetensors")
    spoil(weights)
    save_file({key: value.contiguous().clone() for key, value in weights.items()}, folder / "adapter_model.safetensors")
    with pytest.raises(RecipeError) as caught:
        Tuned.load(models["causal"], {"it": folder})
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"{folder}: this adapter does not fit the base model in {models['causal']}: ")


def test_parts_that_cannot_be_kept_apart_are_refused(
    models: dict[str, Path], folders: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(folders("causal")["lora"], folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "modules_to_save": ["lm_head"]}))
    with pytest.raises(RecipeError, match="it has modules_to_save, which adapters that share a base cannot have"):
        Tuned.load(models["causal"], {"it": folder})


@pytest.fixture(scope="module")
def pair(models: dict[str, Path], folders: Callable[[str], dict[str, Path]]) -> Adapters:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(together, "fastest_dtype", lambda: torch.float32)
        return Tuned.load(models["causal"], {name: folders("causal")[name] for name in ("lora", "ia3")})


def test_an_adapter_that_is_not_loaded_is_named(pair: Adapters) -> None:
    with pytest.raises(UsageError) as caught:
        pair.answer(ROWS[:3], adapter=["lora", "lorra", "nothing"])
    assert caught.value.problems == (
        'adapter: there is no "lorra". Did you mean "lora"? Loaded: lora, ia3.',
        'adapter: there is no "nothing". Loaded: lora, ia3.',
    )


def test_there_is_one_name_for_each_row(pair: Adapters) -> None:
    for given in ({"adapter": ["lora"]}, {"adapter": "lora", "task": ["a"]}):
        with pytest.raises(UsageError) as caught:
            pair.answer(ROWS[:3], **given)  # type: ignore[arg-type]
        what = "task" if "task" in given else "adapter"
        assert str(caught.value) == f"{what}: there are 1 names for 3 rows. Give one for each row, or one for all."


def test_rows_without_a_column_are_named_by_their_place(pair: Adapters) -> None:
    with pytest.raises(DataError) as caught:
        pair.answer([ROWS[0], {}, {}, ROWS[1]], adapter=["lora", "ia3", "lora", "ia3"])
    assert sorted(problem.split(":")[0] for problem in caught.value.problems) == ["row 2", "row 3"]


def test_no_rows_no_answers(pair: Adapters) -> None:
    assert pair.answer([], adapter="lora") == []
    assert pair.answer([], adapter=[]) == []


def test_no_adapters_and_a_base_twice_are_refused(models: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="adapters: there are none"):
        Tuned.load(models["causal"], {})
    with pytest.raises(UsageError, match="base: the base comes first here"):
        Tuned.load(models["causal"], {"a": "b"}, base="c")  # type: ignore[call-overload]


def test_a_template_asks_in_the_same_words_for_all(pair: Adapters) -> None:
    asker = pair.members["ia3"].asker
    question = asker.questions(pair.loaded, {1: ROWS[0]}, asker.task(None))[0]
    assert {token // pair.loaded.model.get_input_embeddings().stride for token in question.ids} == {2}
    plain = replace(asker, mark=0).questions(pair.loaded, {1: ROWS[0]}, asker.task(None))[0]
    assert pair.loaded.after(question.ids, plain.ids) == list(question.ids)
    assert load_template(asker.task(None)).system == "Be brief."
