from pathlib import Path
from typing import Any

import pytest
import tiny_tuning as tiny
import torch
from torch import Tensor

from tunesmith.errors import RecipeError
from tunesmith.exporting.merging import merge_all
from tunesmith.exporting.sources import find_adapters
from tunesmith.inference.tuned import Tuned
from tunesmith.methods import lora, qlora
from tunesmith.methods.lora import Settings
from tunesmith.models.load import load, load_tokenizer
from tunesmith.models.skeleton import skeleton

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
BOTH = pytest.mark.parametrize("kind", ["causal", "seq2seq"])
SETTINGS = (
    Settings(rank=4),
    Settings(rank=16, alpha=8.0),
    Settings(rank=3, targets="attention"),
)


def fresh(kind: str, request: pytest.FixtureRequest) -> Any:
    return load(request.getfixturevalue(f"tiny_{kind}")).model


def logits(model: Any, kind: str) -> Tensor:
    given = {"input_ids": IDS} if kind == "causal" else {"input_ids": IDS, "decoder_input_ids": IDS[:, :5]}
    with torch.no_grad():
        return model(**given).logits


def trained(model: Any) -> Any:
    """The model with an adapter that does something."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return model.eval()


@BOTH
@pytest.mark.parametrize("settings", SETTINGS)
def test_as_many_parameters_learn_as_the_formula_says(
    kind: str, settings: Settings, request: pytest.FixtureRequest
) -> None:
    model = fresh(kind, request)
    expected = lora.count(settings, model)
    attached = lora.attach(settings, model, kind)
    learning = {name: weight for name, weight in attached.named_parameters() if weight.requires_grad}
    assert sum(weight.numel() for weight in learning.values()) == expected > 0
    assert all("lora_" in name for name in learning)


def test_the_number_of_the_causal_one_worked_by_hand(tiny_causal: Path) -> None:
    # per layer: q and o are 64 x 64, k and v are 32 x 64, gate and up are 128 x 64, down is 64 x 128
    layer = 2 * (64 + 64) + 2 * (32 + 64) + 3 * (128 + 64)
    assert lora.count(Settings(rank=5), load(tiny_causal).model) == 2 * 5 * layer
    assert lora.count(Settings(rank=5, targets=("q_proj",)), load(tiny_causal).model) == 2 * 5 * (64 + 64)


@BOTH
@pytest.mark.parametrize("settings", SETTINGS)
def test_before_training_the_output_is_exactly_that_of_the_base(
    kind: str, settings: Settings, request: pytest.FixtureRequest
) -> None:
    base = logits(fresh(kind, request), kind)
    attached = lora.attach(settings, fresh(kind, request), kind).eval()
    assert (logits(attached, kind) - base).abs().max().item() == 0


@BOTH
def test_one_step_changes_the_adapter_and_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    attached = lora.attach(Settings(rank=4), fresh(kind, request), kind)
    before = {name: weight.detach().clone() for name, weight in attached.named_parameters()}
    optimizer = torch.optim.SGD([w for w in attached.parameters() if w.requires_grad], lr=0.1)
    attached(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    moved = {name for name, weight in attached.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if "lora_B" in name}, "A gets no gradient while B is zero"


@BOTH
def test_the_output_head_gets_no_correction(kind: str, request: pytest.FixtureRequest) -> None:
    assert not [name for name in lora.target_layers(Settings(), fresh(kind, request)) if "lm_head" in name]


@BOTH
def test_attention_is_all_its_projections_and_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    found = {name.split(".")[-1] for name in lora.target_layers(Settings(targets="attention"), fresh(kind, request))}
    assert found == ({"q_proj", "k_proj", "v_proj", "o_proj"} if kind == "causal" else {"q", "k", "v", "o"})


def test_the_correction_is_scaled_by_alpha_over_rank(tiny_causal: Path) -> None:
    attached = trained(lora.attach(Settings(rank=4, alpha=6.0, targets=("q_proj",)), load(tiny_causal).model, "causal"))
    layer = attached.base_model.model.model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(3, 64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ (layer.base_layer.weight + 6.0 / 4 * b @ a).T, rtol=0, atol=1e-5)


def test_without_alpha_the_scale_is_two(tiny_causal: Path) -> None:
    attached = lora.attach(Settings(rank=4), load(tiny_causal).model, "causal")
    assert attached.base_model.model.model.layers[0].self_attn.q_proj.scaling == {"default": 2.0}


def test_dropout_works_while_training_and_only_then(tiny_causal: Path) -> None:
    attached = trained(lora.attach(Settings(rank=4, dropout=0.5), load(tiny_causal).model, "causal"))
    assert torch.equal(logits(attached, "causal"), logits(attached, "causal"))
    attached.train()
    assert not torch.equal(logits(attached, "causal"), logits(attached, "causal"))


@BOTH
def test_the_saved_adapter_is_loaded_by_plain_peft_and_answers_the_same(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from peft import PeftModel

    attached = trained(lora.attach(Settings(rank=4), fresh(kind, request), kind))
    lora.save(attached, tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {path.name for path in tmp_path.iterdir()}
    again = PeftModel.from_pretrained(fresh(kind, request), tmp_path).eval()
    assert torch.equal(logits(again, kind), logits(attached, kind))
    assert (logits(again, kind) - logits(fresh(kind, request), kind)).abs().max() > 1e-3, "the adapter does something"


@BOTH
def test_merged_it_answers_like_the_adapter_and_is_a_plain_model(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    attached = trained(lora.attach(Settings(rank=4), fresh(kind, request), kind))
    expected = logits(attached, kind)
    merged = lora.merge(attached)
    torch.testing.assert_close(logits(merged, kind), expected, rtol=0, atol=1e-5)
    names = {name for name, _ in merged.named_parameters()}
    assert names == {name for name, _ in fresh(kind, request).named_parameters()}
    merged.save_pretrained(tmp_path)
    load(request.getfixturevalue(f"tiny_{kind}")).tokenizer.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load(tmp_path).model, kind), expected, rtol=0, atol=1e-5)


def q_proj(settings: Settings, folder: Path) -> tuple[Any, Tensor, Tensor, Tensor]:
    """One corrected layer of a trained adapter: the layer, its weight in the base, A, B."""
    settings = settings.model_copy(update={"targets": ("q_proj",)})
    layer = (
        trained(lora.attach(settings, load(folder).model, "causal")).base_model.model.model.layers[0].self_attn.q_proj
    )
    base = load(folder).model.model.layers[0].self_attn.q_proj.weight
    return layer, base, layer.lora_A["default"].weight, layer.lora_B["default"].weight


class TestRankStabilised:
    def test_the_scale_is_alpha_over_the_root_of_the_rank(self, tiny_causal: Path) -> None:
        layer, base, a, b = q_proj(Settings(rank=9, alpha=6.0, rslora=True), tiny_causal)
        x = torch.randn(3, 64)
        with torch.no_grad():
            torch.testing.assert_close(layer(x), x @ (base + 6.0 / 3 * b @ a).T, rtol=0, atol=1e-5)

    def test_without_alpha_rank_16_is_scaled_as_ever(self, tiny_causal: Path) -> None:
        assert q_proj(Settings(rank=16, rslora=True), tiny_causal)[0].scaling == {"default": 2.0}
        assert q_proj(Settings(rank=4, rslora=True), tiny_causal)[0].scaling == {"default": 4.0}


class TestDora:
    def test_it_is_a_length_for_each_row_times_the_direction_of_the_corrected_one(self, tiny_causal: Path) -> None:
        layer, base, a, b = q_proj(Settings(rank=4, alpha=6.0, dora=True), tiny_causal)
        length = layer.lora_magnitude_vector["default"].weight
        x = torch.randn(3, 64)
        with torch.no_grad():
            torch.testing.assert_close(length, base.norm(dim=1))
            length.mul_(1.5)
            corrected = base + 6.0 / 4 * b @ a
            expected = length[:, None] * corrected / corrected.norm(dim=1, keepdim=True)
            torch.testing.assert_close(layer(x), x @ expected.T, rtol=0, atol=1e-5)

    @BOTH
    def test_one_more_number_learns_for_each_row(self, kind: str, request: pytest.FixtureRequest) -> None:
        model = fresh(kind, request)
        rows = sum(layer.out_features for layer in lora.target_layers(Settings(), model).values())
        assert lora.count(Settings(rank=4, dora=True), model) == lora.count(Settings(rank=4), model) + rows


class TestPissa:
    def test_a_and_b_begin_as_the_largest_singular_values(self, tiny_causal: Path) -> None:
        layer = lora.attach(Settings(rank=4, init="pissa"), load(tiny_causal).model, "causal")
        layer = layer.base_model.model.model.layers[0].self_attn.q_proj
        base = load(tiny_causal).model.model.layers[0].self_attn.q_proj.weight
        u, s, v = torch.linalg.svd(base.detach())
        begun = 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        torch.testing.assert_close(begun, u[:, :4] @ s[:4].diag() @ v[:4], rtol=0, atol=1e-5)
        torch.testing.assert_close(layer.base_layer.weight + begun, base, rtol=0, atol=1e-5)

    @BOTH
    @pytest.mark.parametrize("switches", [{}, {"rslora": True}, {"dora": True}, {"alpha": 3.0, "dropout": 0.1}])
    def test_what_is_saved_is_a_plain_lora_of_twice_the_rank_on_the_base_as_it_is(
        self, kind: str, switches: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        from peft import PeftModel

        attached = lora.attach(Settings(rank=4, init="pissa", **switches), fresh(kind, request), kind)
        torch.manual_seed(3)
        with torch.no_grad():
            for weight in attached.parameters():
                if weight.requires_grad:
                    weight.add_(0.05 * torch.randn_like(weight))
        lora.save(attached, tmp_path)
        again = PeftModel.from_pretrained(fresh(kind, request), tmp_path)
        assert again.peft_config["default"].r == 8
        assert again.peft_config["default"].init_lora_weights is True
        torch.testing.assert_close(logits(again.eval(), kind), logits(attached.eval(), kind), rtol=0, atol=1e-4)


FAMILIES: dict[str, tuple[dict[str, int], set[str]]] = {
    "opt": ({"ffn_dim": 32}, {"q_proj", "k_proj", "v_proj", "out_proj"}),
    "gptj": ({"rotary_dim": 4}, {"q_proj", "k_proj", "v_proj", "out_proj"}),
    "mpt": ({}, {"Wqkv", "out_proj"}),
    "phi": ({"intermediate_size": 32}, {"q_proj", "k_proj", "v_proj", "dense"}),
    "phi3": ({"intermediate_size": 32, "pad_token_id": 0}, {"qkv_proj", "o_proj"}),
    "gpt2": ({}, {"c_attn"}),
}
"""Family -> what its config needs to be small, and what it calls the projections of attention."""


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_found_in_every_family(family: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    own, expected = FAMILIES[family]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50, **own}
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    found = lora.target_layers(Settings(rank=4, targets="attention"), model)
    assert {name.split(".")[-1] for name in found} == expected


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory, tiny_causal: Path) -> Path:
    """Folder of a tiny model whose linear layers are Conv1D, with the tokenizer of the other one."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer, _ = load_tokenizer(tiny_causal)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=512, initializer_range=0.2, **ids
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class TestLayersThatKeepTheTranspose:
    @pytest.mark.parametrize("switches", [{}, {"dora": True}, {"init": "pissa"}])
    def test_trained_saved_loaded_and_merged_it_says_the_same(
        self, switches: dict[str, Any], gpt2: Path, tmp_path: Path
    ) -> None:
        given = tiny.recipe({"method": "lora", "rank": 4, **switches}, max_steps=4)
        given = given.model_copy(update={"model": str(gpt2)})
        if "init" not in switches:  # PiSSA takes A and B out of the base
            tiny.only_what_was_declared_learns(given, gpt2, tmp_path / "one")
        tiny.loaded_again_it_says_the_same(given, gpt2, tmp_path / "two")
        tiny.tuned(given, gpt2, tmp_path / "three")
        ((_, merged),) = merge_all(find_adapters([tmp_path / "three" / "adapter"]), tmp_path / "merged")
        assert merged.largest_difference < 1e-4
        assert merged.equal_answers == 32

    def test_several_share_a_base(self, gpt2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("tuned", "together"):
            monkeypatch.setattr(f"tunesmith.inference.{module}.fastest_dtype", lambda: torch.float32)
        for name, switches in (("plain", {}), ("dora", {"dora": True})):
            given = tiny.recipe({"method": "lora", "rank": 4, **switches}, max_steps=4, learning_rate=0.03)
            tiny.tuned(given.model_copy(update={"model": str(gpt2)}), gpt2, tmp_path / name)
        folders = {name: tmp_path / name / "adapter" for name in ("plain", "dora")}
        rows = [{"text": f"My {thing} is late."} for thing in tiny.THINGS]
        alone = {name: Tuned.load(folder).answer(rows) for name, folder in folders.items()}
        assert alone["plain"] != alone["dora"]
        names = ["plain", "dora"] * 4
        found = Tuned.load(gpt2, folders).answer(rows, adapter=names)
        assert found == [alone[name][n] for n, name in enumerate(names)]

    def test_by_hand(self, gpt2: Path) -> None:
        model = skeleton(gpt2)  # per layer: c_attn 96 x 32, attn.c_proj 32 x 32, c_fc 128 x 32, mlp.c_proj 32 x 128
        assert lora.count(Settings(rank=3), model) == 2 * 3 * ((96 + 32) + (32 + 32) + 2 * (128 + 32))

    def test_in_four_bits_they_are_refused(self, gpt2: Path) -> None:
        with pytest.raises(RecipeError, match=r"^qlora: the linear layers of this model are Conv1D.* Take lora\.$"):
            qlora.count(qlora.Settings(rank=4), skeleton(gpt2))


class TestWhatIsWrong:
    def test_a_model_without_linear_layers(self) -> None:
        model = torch.nn.Sequential(torch.nn.Embedding(5, 4))
        model.get_output_embeddings = lambda: None  # type: ignore[assignment]
        with pytest.raises(RecipeError) as caught:
            lora.count(Settings(), model)
        assert str(caught.value) == "lora: this model (Sequential) has no linear layers. Take modules."

    def refused(self, settings: Settings, folder: Path) -> tuple[str, ...]:
        with pytest.raises(RecipeError) as caught:
            lora.attach(settings, load(folder).model, "causal")
        return caught.value.problems

    def test_a_rank_larger_than_a_layer(self, tiny_causal: Path) -> None:
        assert self.refused(Settings(rank=33), tiny_causal) == (
            "lora: rank 33 is larger than the layer model.layers.0.self_attn.k_proj (32 x 64), and 3 more. "
            "Take a rank of at most 32.",
        )

    def test_a_rank_as_large_as_the_smallest_layer_is_allowed(self, tiny_causal: Path) -> None:
        lora.attach(Settings(rank=32), load(tiny_causal).model, "causal")

    def test_targets_that_no_layer_is_called(self, tiny_causal: Path) -> None:
        ends = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
        assert self.refused(Settings(rank=40, targets=("q_prj", "k_proj", "v")), tiny_causal) == (
            f'lora: no linear layer is called "q_prj"; this model has {ends}.',
            f'lora: no linear layer is called "v"; this model has {ends}.',
            "lora: rank 40 is larger than the layer model.layers.0.self_attn.k_proj (32 x 64), and 1 more. "
            "Take a rank of at most 32.",
        )

    def test_a_model_without_known_attention(self, tiny_causal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lora, "ATTENTION", ("nothing",))
        (problem,) = self.refused(Settings(targets="attention"), tiny_causal)
        assert problem.startswith("lora: no layer fits targets: attention; this model has down_proj, ")


def test_the_lectures_layer() -> None:
    assert lora.size(512, 64, 8) == 4608
