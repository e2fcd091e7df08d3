"""A merged model answers as its adapter did, or is not written."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import Command
from tiny_tuning import examples, logits, prompt, recipe, tuned

from tunesmith.errors import GateError, RecipeError, UsageError
from tunesmith.exporting import replay
from tunesmith.exporting.merging import LIMITS, Merged, merge_all
from tunesmith.exporting.replay import choose_prompts, encode
from tunesmith.exporting.sources import Source, find_adapters
from tunesmith.inference.answer import load_beside
from tunesmith.inference.tuned import Tuned
from tunesmith.models.load import Loaded, load
from tunesmith.models.tiny import write_tiny
from tunesmith.records import AdapterCard
from tunesmith.registry import METHODS, resolve
from tunesmith.rundir import read_record, write_record, write_records

CASES: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 4},
    "dora": {"method": "lora", "rank": 4, "dora": True},
    "pissa, rslora": {"method": "lora", "rank": 4, "init": "pissa", "rslora": True},
    "qlora": {"method": "qlora", "rank": 4},
    "ia3": {"method": "ia3"},
    "last-layers": {"method": "last-layers", "layers": 1, "head": True},
    "modules": {"method": "modules", "patterns": ["*.v_proj", "*.wo"]},
    "norms": {"method": "norms"},
    "embeddings": {"method": "embeddings"},
    "head": {"method": "head"},
    "sparse": {"method": "sparse", "share": 0.01, "examples": 4},
}
PATTERNS = {"causal": ["*.v_proj"], "seq2seq": ["*.wo"]}
METHODS_THAT_MERGE = [name for name in METHODS if hasattr(resolve("method", name, METHODS), "merge")]
METHODS_THAT_DO_NOT = [name for name in METHODS if name not in METHODS_THAT_MERGE]
SMALL = {"soft-prompt": {"tokens": 3}, "prefix": {"tokens": 3}, "p-tuning": {"tokens": 3, "width": 8},
         "bottleneck": {"width": 8}}  # fmt: skip


def test_every_method_that_merges_has_a_case_and_the_others_a_reason() -> None:
    no_tiny_model_has_biases, nothing_to_merge = "bitfit", "full"
    covered = {case["method"] for case in CASES.values()} | {no_tiny_model_has_biases, nothing_to_merge}
    assert covered == set(METHODS_THAT_MERGE)
    for name in METHODS_THAT_DO_NOT:
        assert resolve("method", name, METHODS).NO_MERGE.endswith(".")
    for name in METHODS_THAT_MERGE:
        assert not hasattr(resolve("method", name, METHODS), "NO_MERGE")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        kind: write_tiny(folder / kind, kind=kind, texts=texts, hidden=32)  # type: ignore[arg-type]
        for kind in ("causal", "seq2seq")
    }


Train = Callable[..., Path]


@pytest.fixture
def train(models: dict[str, Path], tmp_path: Path) -> Train:
    """The adapter folder of a short training; the card names the base as a recipe would."""

    def make(candidate: dict[str, Any], kind: str = "causal", *, where: str = "tuned") -> Path:
        given = recipe(candidate, max_steps=4).model_copy(update={"model": str(models[kind])})
        tuned(given, models[kind], tmp_path / "candidates" / where, count=12)
        return tmp_path / "candidates" / where / "adapter"

    return make


def merged(adapter: Path, out: Path, **options: Any) -> Merged:
    (found,) = merge_all(find_adapters([adapter]), out, **options)
    assert found[0] == out
    return found[1]


def plain_transformers(folder: Path, kind: str) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto = AutoModelForSeq2SeqLM if kind == "seq2seq" else AutoModelForCausalLM
    return auto.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        pytest.param(case, kind, marks=[pytest.mark.slow] if kind == "seq2seq" and case != "lora" else [])
        for case in CASES
        for kind in ("causal", "seq2seq")
    ],
)
def test_plain_transformers_says_the_same_from_the_merged_folder(
    case: str, kind: str, models: dict[str, Path], train: Train, tmp_path: Path
) -> None:
    candidate = CASES[case] | ({"patterns": PATTERNS[kind]} if case == "modules" else {})
    adapter, out = train(candidate, kind), tmp_path / "out"
    found = merged(adapter, out)
    method = resolve("method", candidate["method"], METHODS)
    beside = load_beside(method, models[kind], adapter, dtype=torch.float32)
    plain = Loaded(plain_transformers(out, kind), beside.tokenizer, beside.kind, out, beside.context)
    base = load(models[kind])
    for n in range(3):
        ids = prompt(beside, n)
        torch.testing.assert_close(logits(plain, ids), logits(beside, ids), rtol=0, atol=1e-4)
        assert (logits(plain, ids) - logits(base, ids)).abs().max() > 1e-3, "and not what the base says"
    assert found.largest_difference < 1e-4
    assert (found.equal_answers, found.prompts, found.dtype) == (32, 32, "float32")
    assert found.dequantized == (case == "qlora")
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    assert read_record(out / "merged.json", Merged) == found


def test_a_folder_that_was_merged_is_asked_in_the_same_words(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.inference.tuned.fastest_dtype", lambda: torch.float32)
    adapter = train(CASES["lora"])
    merged(adapter, tmp_path / "out")
    rows = [{"text": f"My lamp of day {n} is late."} for n in range(4)]
    answers = Tuned.load(tmp_path / "out").answer(rows)
    assert answers == Tuned.load(adapter).answer(rows)
    assert any(answers)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_sixteen_bits_it_is_half_as_large_and_further_off(dtype: Any, train: Train, tmp_path: Path) -> None:
    adapter = train(CASES["lora"])
    wide, narrow = merged(adapter, tmp_path / "wide"), merged(adapter, tmp_path / "narrow", dtype=dtype)
    assert narrow.bytes == pytest.approx(wide.bytes / 2, rel=0.1)
    assert wide.largest_difference < narrow.largest_difference <= LIMITS[dtype][0]
    assert json.loads((tmp_path / "narrow" / "config.json").read_text())["dtype"] == dtype


# The gate


def test_a_merged_model_that_says_otherwise_is_not_kept(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tunesmith: Command
) -> None:
    adapter = train(CASES["lora"])
    lora = resolve("method", "lora", METHODS)
    monkeypatch.setattr(lora, "merge", lambda model: model.unload())
    found = tunesmith("export", adapter, "--merge", "--out", tmp_path / "out")
    assert found.code == GateError.exit_code == 7
    assert found.err.splitlines()[-1].startswith(f"tunesmith: {adapter}: 32 shipped chats replayed: the largest logit ")
    assert found.err.endswith("does not answer as the adapter does, and was not kept. Serve the adapter as it is.\n")
    assert found.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["candidates"]


@pytest.mark.parametrize(
    ("largest", "equal", "holds"), [(0.009, 32, True), (0.011, 32, False), (0.0, 31, True), (0.0, 30, False)]
)
def test_what_is_at_a_limit_is_let_pass_and_no_more(largest: float, equal: int, holds: bool) -> None:
    allowed, least = LIMITS["float32"]
    found = Merged(
        adapter="a", method="lora", model="m", model_hash="h", dtype="float32", dequantized=False, prompts=32,
        prompts_from="32 shipped chats", largest_difference=largest, largest_allowed=allowed, equal_answers=equal,
        least_equal=least, bytes=1, tunesmith="0",
    )  # fmt: skip
    assert found.holds is holds


def test_the_limits_are_what_the_page_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([\d.]+) \| (\d+) of (\d+) \|$", page, re.MULTILINE)
    assert {name: (float(largest), int(least)) for name, largest, least, _ in rows} == LIMITS
    assert {int(prompts) for *_, prompts in rows} == {replay.PROMPTS}


def test_too_much_rounding_is_refused_with_another_way(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LIMITS, "bfloat16", (1e-9, 24))
    with pytest.raises(GateError, match=r"Rounded to bfloat16 it is another model, and was not kept\. Leave --dtype"):
        merged(train(CASES["lora"]), tmp_path / "out", dtype="bfloat16")
    assert not (tmp_path / "out").exists()


# The prompts


def test_test_examples_of_the_run_are_replayed_where_there_are_some(train: Train, tmp_path: Path) -> None:
    adapter = train(CASES["lora"])
    own = examples(50, split="test")
    write_records(tmp_path / "data" / "test.jsonl", own)
    assert find_adapters([adapter])[0].run is None, "a run has its recipe beside it"
    (tmp_path / "recipe.json").write_text("{}")
    (source,) = find_adapters([adapter])
    chosen, origin = choose_prompts(source)
    assert origin == "32 test examples of the run"
    assert len(chosen) == len({one.id for one in chosen}) == 32
    assert {own[0].id, own[48].id} < {one.id for one in chosen}
    write_records(tmp_path / "data" / "test.jsonl", own[:5])
    chosen, origin = choose_prompts(source)
    assert origin == "5 test examples of the run and 27 shipped chats"
    assert chosen[:5] == own[:5]
    assert len(chosen) == len({one.prompt for one in chosen}) == 32
    found = merged(adapter, tmp_path / "out")
    assert (found.prompts, found.least_equal) == (32, 31)
    assert found.sentence.startswith("5 test examples of the run and 27 shipped chats replayed: the largest")
    write_records(tmp_path / "data" / "test.jsonl", [])
    assert choose_prompts(source)[1] == "32 shipped chats"


def test_prompts_are_cut_where_training_cut_them(models: dict[str, Path], train: Train) -> None:
    (source,) = find_adapters([train(CASES["lora"])])
    loaded, (chosen, _) = load(models["causal"]), choose_prompts(source)
    ids = encode(chosen, loaded, max_tokens=100)
    assert max(map(len, ids)) <= 100
    small = replace(loaded, context=200)
    assert max(map(len, encode(chosen, small, max_tokens=10**6))) == small.context - replay.TOKENS


# What cannot be merged


@pytest.mark.parametrize("method", METHODS_THAT_DO_NOT)
def test_a_method_without_a_merge_says_why(method: str, train: Train, tmp_path: Path) -> None:
    adapter = train({"method": method, **SMALL[method]})
    with pytest.raises(RecipeError) as caught:
        merged(adapter, tmp_path / "out")
    assert str(caught.value) == f"{adapter}: {method} cannot be merged: {resolve('method', method, METHODS).NO_MERGE}"
    assert not (tmp_path / "out").exists()


def test_all_that_cannot_be_merged_are_named_before_anything_is_done(train: Train, tmp_path: Path) -> None:
    lora, full = train(CASES["lora"], where="a"), train({"method": "full"}, where="b")
    soft = train({"method": "soft-prompt", "tokens": 2}, where="c")
    foreign = tmp_path / "candidates" / "d" / "adapter"
    shutil.copytree(lora, foreign)
    (foreign / "tunesmith.json").unlink()
    with pytest.raises(RecipeError) as caught:
        list(merge_all(find_adapters([tmp_path]), tmp_path / "out"))
    assert caught.value.problems == (
        f"{full} is a whole model already. Copy it as it is.",
        f"{soft}: soft-prompt cannot be merged: it stands before the prompt as tokens, and no weight of the base "
        "stands for them.",
        f"{foreign} has no tunesmith.json. Give the adapter folder of a candidate of a run.",
        f"Name those that can be merged alone: {lora}.",
    )
    assert not (tmp_path / "out").exists()


def test_another_base_is_refused(train: Train, models: dict[str, Path], tmp_path: Path, texts: tuple[str, ...]) -> None:
    adapter = train(CASES["ia3"])
    other = write_tiny(tmp_path / "other", kind="causal", texts=texts, hidden=32, seed=1)
    with pytest.raises(RecipeError) as caught:
        merged(adapter, tmp_path / "out", base=str(other))
    assert str(caught.value) == (
        f"{adapter} was trained on {models['causal']}, whose weights are not those in {other}. Name its base with "
        "--base."
    )
    copy = tmp_path / "copy"
    shutil.copytree(models["causal"], copy)
    assert merged(adapter, tmp_path / "out", base=str(copy)).equal_answers == 32


def test_a_base_with_a_relative_path_is_found_from_another_folder(
    train: Train, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = train(CASES["ia3"])
    card = read_record(adapter / "tunesmith.json", AdapterCard)
    shutil.copytree(models["causal"], tmp_path / "bases" / "mine")
    write_record(adapter / "tunesmith.json", card.model_copy(update={"model": "bases/mine"}))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    place = Path("../candidates/tuned/adapter")
    assert merged(place, Path("out")).equal_answers == 32
    assert Tuned.load(place).loaded.folder == tmp_path / "bases" / "mine"
    shutil.rmtree(tmp_path / "bases")
    write_record(adapter / "tunesmith.json", card.model_copy(update={"model": "mine"}))
    for attempt, option in ((lambda: merged(place, Path("new")), "--base"), (lambda: Tuned.load(place), "base=")):
        with pytest.raises(RecipeError) as caught:
            attempt()
        said = str(caught.value)
        assert said.startswith(f'{place}: its base: "mine" is no catalog name, folder, .gguf file or hub id.')
        assert said.endswith(f" Name its base with {option}.")
    with pytest.raises(RecipeError, match=r'^base: "nowhere" is no catalog name'):
        Tuned.load(place, base="nowhere")
    assert Tuned.load("out").answer([{"text": "My lamp is late."}]), "a merged model needs no base"


# The command


def test_several_are_merged_each_into_a_folder_of_its_name(train: Train, tmp_path: Path, tunesmith: Command) -> None:
    train(CASES["lora"], where="one"), train(CASES["ia3"], where="two")
    out = tmp_path / "out"
    found = tunesmith(
        "export", tmp_path / "candidates" / "one", tmp_path / "candidates" / "two", "--merge", "--out", out
    )
    assert found.code == 0, found.err
    one, two = found.out.splitlines()
    assert one.startswith(f"{out / 'one'}: 0.1 MB in float32. 32 shipped chats replayed: the largest logit difference ")
    assert two.endswith("32 of 32 greedy answers are equal (100%; at least 31 must be).")
    assert sorted(path.name for path in out.iterdir()) == ["one", "two"]
    as_json = tunesmith("export", tmp_path / "candidates/two", "--merge", "--out", out / "three", "--json", "--quiet")
    document = json.loads(as_json.out)
    assert document["schema"] == 1
    assert document["merged"][0]["folder"] == str(out / "three")
    assert document["merged"][0]["equal_answers"] == 32


def test_merging_into_a_base_in_four_bits_says_so(train: Train, tmp_path: Path, tunesmith: Command) -> None:
    found = tunesmith("export", train(CASES["qlora"]), "--merge", "--out", tmp_path / "out")
    assert found.code == 0, found.err
    assert (
        "tuned: learned beside a base in four bits. It is merged into the weights that these stand for, turned back "
        "from four bits, not into the base as it was before rounding."
    ) in found.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "say what is wanted, either --merge --out FOLDER or --check PROGRAM."),
        (("--merge", "--check", "peft"), 2, "say what is wanted, either --merge --out FOLDER or --check PROGRAM."),
        (("--merge",), 2, "--merge needs --out FOLDER, where the merged model goes."),
        (("--check", "peft", "--out", "x"), 2, "--out, --base and --dtype go with --merge. Leave them out."),
        (("--check", "vlm"), 2, '"vlm" is not known. Did you mean "vllm"? Known: vllm, lorax, llamacpp,'),
        (("--merge", "--out", "new", "--dtype", "float8"), 2, '"float8" is not known. Did you mean "float32"? Known:'),
        (("--merge", "--out", "candidates"), 2, "candidates: is there already. Give --out the name of a new folder."),
        (("--merge", "--out", "new", "--base", "nothing/at all"), 3, '--base: "nothing/at all" is no catalog name'),
    ],
)
def test_a_command_called_wrongly_says_how_it_is_called(
    words: tuple[str, ...], code: int, said: str, train: Train, tmp_path: Path, tunesmith: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    found = tunesmith("export", train(CASES["ia3"]), *words)
    assert (found.code, found.out) == (code, "")
    assert said in found.err


def test_places_without_an_adapter_are_named_together(tmp_path: Path, tunesmith: Command) -> None:
    (tmp_path / "empty").mkdir()
    found = tunesmith("export", tmp_path / "empty", tmp_path / "nowhere", "--merge", "--out", tmp_path / "out")
    assert found.code == 3
    assert found.err.splitlines() == [
        f"tunesmith: {tmp_path / name}: there is no adapter. Give a run folder, or the folder candidates/NAME/adapter "
        "of one."
        for name in ("empty", "nowhere")
    ]


def test_two_of_one_name_are_merged_one_by_one(train: Train, tmp_path: Path) -> None:
    adapter = train(CASES["ia3"])
    shutil.copytree(adapter, tmp_path / "other" / "tuned" / "adapter")
    with pytest.raises(UsageError, match=r"--out: several adapters are called tuned\. Merge them one by one"):
        list(merge_all(find_adapters([adapter, tmp_path / "other" / "tuned"]), tmp_path / "out"))


def test_a_damaged_adapter_is_named(train: Train, tmp_path: Path) -> None:
    adapter = train(CASES["lora"])
    (adapter / "adapter_model.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(RecipeError, match="this adapter does not fit the base model"):
        merged(adapter, tmp_path / "out")


def test_a_source_knows_its_name_and_card(train: Train) -> None:
    adapter = train(CASES["lora"])
    (source,) = find_adapters([adapter, adapter.parent, adapter.parent.parent.parent])
    assert source == Source(adapter, "tuned", read_record(adapter / "tunesmith.json", AdapterCard), None)
    assert source.config["peft_type"] == "LORA"
