import shutil
from pathlib import Path

import pytest

from tunesmith.errors import RecipeError, RefusedError, UserError
from tunesmith.models.catalog import CATALOG, Wheel, check_folder, check_name, fingerprint, home


def refusal(kind: type[UserError], model: str, base: Path) -> str:
    with pytest.raises(kind) as caught:
        check_name(model, base=base)
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("smollm2-135m-instruct", "wheel"),
        ("flan-t5-small", "hub"),
        ("google/flan-t5-xl", "hub"),
        ("org/a.b-c_1", "hub"),
    ],
)
def test_a_name_says_what_it_stands_for(model: str, kind: str, tmp_path: Path) -> None:
    assert check_name(model, base=tmp_path) == kind


def test_paths_begin_at_the_recipe(tiny_causal: Path, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"")
    assert check_name(tiny_causal.name, base=tiny_causal.parent) == "folder"
    assert check_name(str(tiny_causal), base=Path("/nowhere")) == "folder"
    assert check_name("m.gguf", base=tmp_path) == "gguf"


def test_a_path_may_begin_with_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m.gguf").write_bytes(b"")
    assert check_name("~/m.gguf", base=Path("/nowhere")) == "gguf"


def test_an_unknown_name_gets_the_nearest_one(tmp_path: Path) -> None:
    assert refusal(RecipeError, "smollm2-135m-instuct", tmp_path) == (
        'model: "smollm2-135m-instuct" is no catalog name, folder, .gguf file or hub id. '
        f'Did you mean "smollm2-135m-instruct"? Catalog: {", ".join(CATALOG)}.'
    )


@pytest.mark.parametrize("model", ["x" * 5000, "a\0b", "~nobody-of-this-name/x/y", "../x/y", "/no/where"])
def test_what_cannot_be_a_path_is_no_traceback(model: str, tmp_path: Path) -> None:
    assert "is no catalog name, folder, .gguf file or hub id." in refusal(RecipeError, model, tmp_path)


def test_a_gguf_file_that_is_not_there(tmp_path: Path) -> None:
    assert refusal(RecipeError, "m.gguf", tmp_path) == (
        f"model: the file {tmp_path}/m.gguf does not exist. Give the path of a .gguf file that does."
    )


class TestFolders:
    @pytest.fixture
    def folder(self, tiny_causal: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(tiny_causal, tmp_path / "m"))

    def test_a_whole_one_is_let_through(self, folder: Path) -> None:
        check_folder(folder)

    def test_without_a_config(self, folder: Path) -> None:
        (folder / "config.json").unlink()
        assert refusal(RecipeError, "m", folder.parent) == (
            f"model: {folder} has no config.json. Give a folder written by save_pretrained."
        )

    def test_without_weights(self, folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        assert refusal(RecipeError, "m", folder.parent) == (
            f"model: {folder} has no weights (*.safetensors). Copy them there or name another model."
        )

    def test_with_pickled_weights_only(self, folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        (folder / "extra.pt").write_bytes(b"")
        with pytest.raises(RefusedError) as caught:
            check_name("m", base=folder.parent)
        assert caught.value.exit_code == 6
        assert str(caught.value) == (
            f"model: {folder} has only pickled weights (extra.pt, pytorch_model.bin), which can run foreign code. "
            "Load them once where you trust them and save them with save_pretrained, which writes safetensors."
        )

    @pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
    @pytest.mark.parametrize("key", ["auto_map", "\\u0061uto_map"])
    def test_with_code_of_its_own_even_under_an_escaped_key(self, folder: Path, name: str, key: str) -> None:
        path = folder / name
        path.write_text(path.read_text().replace("{", f'{{"{key}": {{"AutoConfig": "evil.Config"}},', 1))
        (folder / "evil.py").write_text("open('canary', 'w')")
        assert refusal(RefusedError, "m", folder.parent) == (
            f"model: {path} names Python code of its own (auto_map), which is never run. "
            "Use a model whose architecture transformers knows."
        )

    @pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
    def test_with_a_config_that_is_no_json_object(self, folder: Path, content: bytes) -> None:
        (folder / "config.json").write_bytes(content)
        assert refusal(RecipeError, "m", folder.parent) == (
            f"model: {folder}/config.json is not a JSON object. Is the download complete?"
        )

    def test_with_an_adapter(self, folder: Path) -> None:
        (folder / "adapter_config.json").write_text("{}")
        assert refusal(RecipeError, "m", folder.parent) == (
            f"model: {folder} is an adapter, not a model. Name the model that it was trained on."
        )

    def test_the_fingerprint_changes_with_every_byte_of_weights_config_and_tokenizer(self, folder: Path) -> None:
        seen = {fingerprint(folder)}
        (folder / "README.md").write_text("what it says does not count")
        assert fingerprint(folder) in seen
        for name in ("model.safetensors", "config.json", "tokenizer.json"):
            content = bytearray((folder / name).read_bytes())
            content[-2] ^= 1
            (folder / name).write_bytes(content)
            seen.add(fingerprint(folder))
        (folder / "config.json").rename(folder / "config2.json")
        seen.add(fingerprint(folder))
        assert len(seen) == 5


def test_models_are_kept_in_the_users_cache_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_HOME", "~/elsewhere")
    assert home() == Path.home() / "elsewhere"
    monkeypatch.delenv("TUNESMITH_HOME")
    assert home() == Path.home() / ".cache" / "tunesmith"


@pytest.mark.parametrize("name", CATALOG)
def test_every_entry_of_the_catalog_is_complete(name: str) -> None:
    entry = CATALOG[name]
    assert entry.parameters > 1e7
    assert entry.licence
    assert entry.about
    if isinstance(entry.source, Wheel):
        assert len(entry.source.sha256) == 64
        assert entry.source.requirement.split("==")[1] in entry.source.file
