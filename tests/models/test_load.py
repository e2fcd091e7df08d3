import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tunesmith.errors import RecipeError, RefusedError, ResourceError, UserError
from tunesmith.models.load import check_adapter, load, materialize


@pytest.fixture
def folder(tiny_causal: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_causal, tmp_path / "m"))


def refusal(kind: type[UserError], folder: Path) -> str:
    with pytest.raises(kind) as caught:
        load(folder)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


def test_a_model_is_loaded_for_inference_in_32_bits(tiny_causal: Path) -> None:
    loaded = load(tiny_causal)
    assert not loaded.model.training
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.float32}
    assert loaded.folder == tiny_causal


def test_another_number_format_can_be_asked_for(tiny_causal: Path) -> None:
    assert load(tiny_causal, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_saved_and_loaded_again_it_answers_the_same(tiny_seq2seq: Path, tmp_path: Path) -> None:
    first = load(tiny_seq2seq)
    first.model.save_pretrained(tmp_path)
    first.tokenizer.save_pretrained(tmp_path)
    again = load(tmp_path)
    ids = torch.tensor([first.tokenizer("Where is my order?")["input_ids"]])
    with torch.inference_mode():
        assert torch.equal(
            first.model(input_ids=ids, decoder_input_ids=ids).logits,
            again.model(input_ids=ids, decoder_input_ids=ids).logits,
        )


def test_a_tokenizer_without_padding_pads_with_its_last_token(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["pad_token"]
    path.write_text(json.dumps(config))
    tokenizer = load(folder).tokenizer
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"


def test_every_token_that_ends_an_answer_is_known(folder: Path) -> None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": [2, 7]}))
    assert load(folder).stop_ids == {2, 7}


def test_a_folder_is_materialized_as_it_is(tiny_causal: Path) -> None:
    assert materialize(tiny_causal.name, base=tiny_causal.parent) == tiny_causal.resolve()


def test_a_hub_that_cannot_be_reached_says_what_else_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ResourceError) as caught:
        materialize("nobody/nothing-of-this-name", base=tmp_path)
    assert str(caught.value).startswith('model: "nobody/nothing-of-this-name" could not be fetched from the hub: ')
    assert str(caught.value).endswith(
        " Check the name and the network, download it elsewhere and give its folder, or use the built-in "
        "smollm2-135m-instruct."
    )


class TestDamage:
    def test_truncated_weights(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        problem = refusal(RecipeError, folder)
        assert problem.startswith(f"model: the weights in {folder} are damaged: ")
        assert problem.endswith(". Copy or fetch them again.")

    def test_weights_that_are_not_there_are_never_made_up(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        weights = load_file(path)
        del weights["model.norm.weight"], weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, path, metadata={"format": "pt"})
        assert refusal(RecipeError, folder) == (
            f"model: {folder} lacks 2 of its weights, model.layers.1.mlp.up_proj.weight among them. Is it complete, "
            "and is it a language model?"
        )

    def test_weights_of_another_shape(self, folder: Path) -> None:
        path = folder / "model.safetensors"
        weights = load_file(path)
        weights["model.norm.weight"] = torch.ones(65)
        save_file(weights, path, metadata={"format": "pt"})
        assert refusal(RecipeError, folder).startswith(f"model: {folder} cannot be loaded: ")

    def test_an_architecture_that_nobody_knows(self, folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "lemma"}))
        assert "lemma" in refusal(RecipeError, folder)

    def test_an_architecture_that_is_no_language_model(self, folder: Path) -> None:
        (folder / "config.json").write_text('{"model_type": "vit"}')
        assert refusal(RecipeError, folder).startswith(f"model: {folder} cannot be loaded: ")

    def test_no_tokenizer(self, folder: Path) -> None:
        for path in folder.glob("tokenizer*"):
            path.unlink()
        assert refusal(RecipeError, folder).startswith(f"model: {folder} cannot be loaded: ")

    def test_pickled_weights_are_not_even_opened(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        assert "has only pickled weights (pytorch_model.bin)" in refusal(RefusedError, folder)


class TestAdapters:
    def test_a_folder_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError) as caught:
            check_adapter(tmp_path)
        assert str(caught.value) == f"{tmp_path} has no adapter_config.json. Give the folder that training wrote."

    def test_one_without_weights(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(RecipeError) as caught:
            check_adapter(tmp_path)
        assert str(caught.value) == f"{tmp_path} has no adapter_model.safetensors. Is the folder complete?"

    def test_one_with_pickled_weights(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text("{}")
        (tmp_path / "adapter_model.bin").write_bytes(b"")
        with pytest.raises(RefusedError) as caught:
            check_adapter(tmp_path)
        assert str(caught.value) == f"{tmp_path} has pickled weights (adapter_model.bin). Save them as safetensors."

    @pytest.mark.parametrize("content", ["{", "[]", ""])
    def test_one_with_a_broken_config(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "adapter_config.json").write_text(content)
        (tmp_path / "adapter_model.safetensors").write_bytes(b"")
        with pytest.raises(RecipeError) as caught:
            check_adapter(tmp_path)
        assert (
            str(caught.value)
            == f"model: {tmp_path}/adapter_config.json is not a JSON object. Is the download complete?"
        )

    def test_a_good_one_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "adapter_config.json").write_text('{"r": 4}')
        (tmp_path / "adapter_model.safetensors").write_bytes(b"")
        assert check_adapter(tmp_path) == {"r": 4}


def test_what_the_hub_says_is_told_without_the_names_of_its_errors() -> None:
    from tunesmith.models.load import _said_by_hub

    said = _said_by_hub(OSError("Got: ConnectError: [Errno -2] Name or service not known"))
    assert said == "it cannot be reached: Name or service not known."
