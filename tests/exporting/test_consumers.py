"""What other programs can load: against real adapters of every method, and against what their sources refuse."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_run import Command
from tiny_tuning import recipe, tuned
from torch import Tensor

from tunesmith.environment import quiet_peft
from tunesmith.errors import RecipeError, RefusedError
from tunesmith.exporting.consumers import CONSUMERS, VLLM_RANKS, check
from tunesmith.exporting.sources import find_adapters
from tunesmith.models.load import load
from tunesmith.models.tiny import write_tiny

CASES: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 4},
    "dora": {"method": "lora", "rank": 4, "dora": True},
    "rslora": {"method": "lora", "rank": 4, "rslora": True},
    "pissa": {"method": "lora", "rank": 4, "init": "pissa"},
    "qlora": {"method": "qlora", "rank": 4},
    "ia3": {"method": "ia3"},
    "soft-prompt": {"method": "soft-prompt", "tokens": 2},
    "p-tuning": {"method": "p-tuning", "tokens": 2, "width": 8},
    "prefix": {"method": "prefix", "tokens": 2, "init": "random"},
    "bottleneck": {"method": "bottleneck", "width": 8},
    "norms": {"method": "norms"},
    "head": {"method": "head"},
    "full": {"method": "full"},
}
LORAS = {"lora", "rslora", "pissa", "qlora"}
CAN: dict[str, set[str]] = {
    "peft": {*LORAS, "dora", "ia3", "soft-prompt", "p-tuning", "prefix"},
    "transformers": {*LORAS, "ia3", "full"},
    "vllm": {*LORAS, "full"},
    "lorax": {*LORAS, "full"},
    "llamacpp": {*LORAS - {"rslora"}, "full"},
}
"""Program -> the cases that it can load onto a causal base."""


@pytest.fixture(scope="module")
def adapters(
    tmp_path_factory: pytest.TempPathFactory, steady_torch: None, texts: tuple[str, ...]
) -> Callable[[str, str], tuple[Path, Path]]:
    """Model and adapter folder of a case, trained for two steps."""
    models: dict[str, Path] = {}
    made: dict[tuple[str, str], Path] = {}

    def find(case: str, kind: str = "causal") -> tuple[Path, Path]:
        if kind not in models:
            folder = tmp_path_factory.mktemp("model")
            models[kind] = write_tiny(folder, kind=kind, texts=texts, hidden=32)  # type: ignore[arg-type]
        if (case, kind) not in made:
            where = tmp_path_factory.mktemp("tuned")
            tuned(recipe(CASES[case], max_steps=2), models[kind], where)
            made[case, kind] = where / "adapter"
        return models[kind], made[case, kind]

    return find


def test_every_program_has_an_expectation() -> None:
    assert CAN.keys() == CONSUMERS.keys()


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("case", CASES)
def test_who_can_load_what_a_method_leaves(
    case: str, consumer: str, adapters: Callable[[str], tuple[Path, Path]]
) -> None:
    (source,) = find_adapters([adapters(case)[1]])
    found = check(source, consumer)
    assert found.loads == (case in CAN[consumer]), found.reasons
    assert all(line.endswith(".") for line in (*found.reasons, *found.notes))


@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
@pytest.mark.parametrize("case", [case for case in CASES if case != "full"])
def test_what_is_said_of_peft_and_transformers_is_so(
    case: str, kind: str, adapters: Callable[[str, str], tuple[Path, Path]]
) -> None:
    from peft import PeftModel

    model, adapter = adapters(case, kind)
    (source,) = find_adapters([adapter])

    def by_peft() -> Any:
        return PeftModel.from_pretrained(load(model).model, adapter)

    def by_transformers() -> Any:
        found = load(model).model
        found.load_adapter(str(adapter))
        return found

    said = {}
    for consumer, attempt in (("peft", by_peft), ("transformers", by_transformers)):
        with quiet_peft():
            try:
                said[consumer] = logits(attempt(), kind)
            except (ValueError, KeyError, TypeError):
                said[consumer] = None
    if (truth := said["peft"]) is not None and (other := said["transformers"]) is not None:
        # it loads what it does not know how to read, too
        said["transformers"] = other if torch.allclose(truth, other, atol=1e-5) else None
    assert {name: check(source, name).loads for name in said} == {name: one is not None for name, one in said.items()}


def logits(model: Any, kind: str) -> Tensor:
    """What a model says to a fixed prompt."""
    ids = torch.tensor([[5, 17, 40, 8, 9, 31]])
    more = {"decoder_input_ids": torch.tensor([[0, 7, 20]])} if kind == "seq2seq" else {}
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=ids, **more).logits
    return found


@pytest.mark.parametrize("consumer", ["vllm", "lorax"])
def test_servers_without_encoder_decoders_say_so(
    consumer: str, adapters: Callable[[str, str], tuple[Path, Path]]
) -> None:
    (source,) = find_adapters([adapters("lora", "seq2seq")[1]])
    (reason,) = check(source, consumer).reasons
    assert "encoder-decoder" in reason
    assert check(source, "llamacpp").loads


def test_a_whole_encoder_decoder_is_refused_where_it_is_not_served(
    adapters: Callable[[str, str], tuple[Path, Path]],
) -> None:
    (source,) = find_adapters([adapters("full", "seq2seq")[1]])
    (reason,) = check(source, "vllm").reasons
    assert reason == "it is a whole model, an encoder-decoder of text, which vLLM has not had since 0.11."
    for consumer in ("lorax", "llamacpp", "transformers"):
        assert check(source, consumer).loads


@pytest.mark.parametrize(
    ("case", "kind", "consumer", "expected"),
    [
        ("norms", "causal", "vllm", "in tunesmith's own format for norms, because peft has none for it. Merge it."),
        ("head", "causal", "peft", "in tunesmith's own format for head, because peft has none for it. Merge it."),
        ("norms", "seq2seq", "vllm", "in tunesmith's own format for norms, because peft has none for it."),
        ("norms", "seq2seq", "lorax", "in tunesmith's own format for norms, because peft has none for it. Merge it."),
        ("bottleneck", "causal", "vllm", "in tunesmith's own format for bottleneck, because peft has none for it."),
        ("ia3", "causal", "vllm", "IA3, and vLLM serves LoRA alone (it had soft prompts until 0.9). Merge it."),
        ("ia3", "seq2seq", "vllm", "IA3, and vLLM serves LoRA alone (it had soft prompts until 0.9)."),
        ("ia3", "causal", "llamacpp", "IA3, and llama.cpp loads LoRA alone. Merge it."),
        ("prefix", "causal", "lorax", "a prefix, and LoRAX serves LoRA and Medusa alone."),
    ],
)
def test_a_method_has_its_own_name_and_is_to_be_merged_where_that_helps(
    case: str, kind: str, consumer: str, expected: str, adapters: Callable[[str, str], tuple[Path, Path]]
) -> None:
    (source,) = find_adapters([adapters(case, kind)[1]])
    assert check(source, consumer).reasons == [f"it is {expected}"]


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_of_a_base_in_four_bits_it_is_said_that_it_is_needed(
    consumer: str, adapters: Callable[[str], tuple[Path, Path]]
) -> None:
    note = (
        "it learned beside a base in four bits (NF4): load the base so there too, or merge it. Beside the base as it "
        "was it answers otherwise."
    )
    for case in ("lora", "qlora"):
        (source,) = find_adapters([adapters(case)[1]])
        assert (note in check(source, consumer).notes) == (case == "qlora")


LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
PLAIN = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none",
         "base_model_name_or_path": "someone/some-model"}  # fmt: skip


def lora_folder(folder: Path, *, rank: int = 4, layer: str = LAYER, more: tuple[str, ...] = (), **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    weights = {f"{layer}.lora_A.weight": torch.zeros(rank, 8), f"{layer}.lora_B.weight": torch.zeros(8, rank)}
    save_file({**weights, **{name: torch.zeros(2) for name in more}}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({**PLAIN, "r": rank, **config}))
    return folder


REFUSED: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "lengths": ({"use_dora": True}, dict.fromkeys(("vllm", "lorax", "llamacpp", "transformers"), "it is a DoRA")),
    "biases": ({"bias": "lora_only"}, dict.fromkeys(("vllm", "lorax", "llamacpp"), "biases of its own")),
    "whole layers": (
        {"modules_to_save": ["lm_head"], "more": ("base_model.model.lm_head.weight",)},
        dict.fromkeys(("vllm", "lorax", "llamacpp"), "it holds whole layers (lm_head: modules_to_save)"),
    ),
    "a tensor of another kind": (
        {"more": ("base_model.model.model.norm.weight",)},
        dict.fromkeys(("vllm", "lorax", "llamacpp"), "it holds base_model.model.model.norm.weight, which is no part"),
    ),
    "a rank too high": ({"rank": 600}, {"vllm": "its rank is 600, and vLLM takes at most 512."}),
    "a start that changed the base": ({"init_lora_weights": "pissa"}, {"vllm": "its init_lora_weights is pissa"}),
    "a variant": ({"use_qalora": True}, {"vllm": "it has use_qalora, a variant"}),
    "ranks by layer": ({"rank_pattern": {"q_proj": 4}}, {"lorax": "ranks or scales by layer"}),
    "scales by layer": (
        {"alpha_pattern": {"q_proj": 4}}, {"lorax": "ranks or scales by layer", "llamacpp": "scales by layer"}
    ),
    "some of the layers": ({"layers_to_transform": [0]}, {"lorax": "some of the layers"}),
    "a layer of another name": (
        {"layer": "base_model.model.model.layers.0.mlp.router"}, {"lorax": "it corrects router, which LoRAX"}
    ),
    "another scale": ({"use_rslora": True}, {"llamacpp": "alpha / sqrt(rank)"}),
    "a method of tomorrow": (
        {"peft_type": "TELEPATHY"},
        {"vllm": "it is TELEPATHY, and vLLM serves LoRA alone", "lorax": "TELEPATHY", "llamacpp": "TELEPATHY",
         "peft": "the installed peft knows no TELEPATHY.", "transformers": "knows no TELEPATHY."},
    ),
}  # fmt: skip
"""What an adapter has -> how it is made, and in which words who refuses it."""


@pytest.mark.parametrize("what", REFUSED)
def test_what_a_program_refuses_is_said_with_the_reason(what: str, tmp_path: Path) -> None:
    made, expected = REFUSED[what]
    (source,) = find_adapters([lora_folder(tmp_path / "adapter", **made)])
    for consumer in CONSUMERS:
        found = check(source, consumer)
        assert found.loads == (consumer not in expected), (consumer, found.reasons)
        if consumer in expected:
            assert any(expected[consumer] in reason for reason in found.reasons)


@pytest.mark.parametrize(("rank", "started_with"), [(8, None), (16, None), (17, 32), (256, 256), (257, 320)])
def test_vllm_is_told_how_high_ranks_are(rank: int, started_with: int | None, tmp_path: Path) -> None:
    (source,) = find_adapters([lora_folder(tmp_path / "adapter", rank=rank)])
    found = check(source, "vllm")
    assert found.loads
    expected = [f"its rank is {rank}: start vLLM with --max-lora-rank {started_with}, it is 16 else."]
    assert found.notes == (expected if started_with else [])
    assert started_with is None or started_with in VLLM_RANKS


def test_what_to_mind_is_said_of_what_can_be_loaded(tmp_path: Path) -> None:
    folder = lora_folder(tmp_path / "adapter", rank=200, layer="base_model.model.lm_head", rank_pattern={})
    (source,) = find_adapters([folder])
    assert check(source, "lorax").notes == ["its rank is 200: above 128 LoRAX answers one adapter after the other."]
    assert (
        "it corrects lm_head, which is refused where the base shares it with its embedding."
        in check(source, "llamacpp").notes
    )
    local = find_adapters([lora_folder(tmp_path / "local", base_model_name_or_path="mine")])[0]
    assert check(local, "peft").notes == [
        "its base is no model of the hub: name it yourself where you load the adapter."
    ]


# The command


def test_the_command_prints_what_it_found_and_ends_with_7_where_something_cannot_be_loaded(
    tmp_path: Path, tunesmith: Command
) -> None:
    good, bad = lora_folder(tmp_path / "good"), lora_folder(tmp_path / "bad", use_dora=True)
    found = tunesmith("export", good, "--check", "vllm")
    assert found == (0, f"{good}: vllm can load it\n", "")
    found = tunesmith("export", good, bad, "--check", "vllm")
    assert found.code == 7
    assert found.out.splitlines() == [
        f"{good}: vllm can load it",
        f"{bad}: vllm cannot load it",
        "  it is a DoRA, whose lengths it does not read. Merge it, or train without dora.",
    ]
    assert found.err == f"tunesmith: vllm cannot load {bad}.\n"
    as_json = tunesmith("export", bad, "--check", "lorax", "--json")
    assert as_json.code == 7
    (one,) = json.loads(as_json.out)["checked"]
    assert (one["consumer"], one["loads"], len(one["reasons"])) == ("lorax", False, 1)


def test_the_check_needs_no_torch_where_the_program_does_not(tmp_path: Path) -> None:
    import subprocess
    import sys

    folder = lora_folder(tmp_path / "adapter")
    code = (
        "import sys; sys.argv = ['tunesmith', 'export', sys.argv[1], '--check', 'vllm']\n"
        "from tunesmith.cli import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_adapters_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    folder = lora_folder(tmp_path / "adapter")
    (source,) = find_adapters([folder])
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(RecipeError, match="damaged"):
        check(source, "vllm")
    weights.unlink()
    with pytest.raises(RecipeError, match=r"has no adapter_model\.safetensors"):
        check(source, "vllm")
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(RefusedError, match="pickled weights"):
        check(source, "vllm")
    lora_folder(folder, peft_type=None)
    with pytest.raises(RecipeError, match="names no peft_type"):
        check(source, "vllm")
