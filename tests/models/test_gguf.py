import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tunesmith.errors import RecipeError
from tunesmith.models.catalog import home
from tunesmith.models.gguf import convert, first_line
from tunesmith.models.load import load, materialize

TEXTS = ("My order 4711 has not arrived.", "Ein Café in Köln", "<|im_start|>user\nHello<|im_end|>\n")


@pytest.fixture(scope="module")
def converted(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "tiny"
    convert(tiny_gguf, folder)
    return folder


def logits(model: object, tokenizer: object, text: str) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([tokenizer(text)["input_ids"]])).logits  # type: ignore[operator]


def test_the_converted_model_answers_like_the_one_that_was_written_as_gguf(converted: Path, tiny_causal: Path) -> None:
    ours, original = load(converted), load(tiny_causal)
    for text in TEXTS:
        torch.testing.assert_close(
            logits(ours.model, original.tokenizer, text),
            logits(original.model, original.tokenizer, text),
            rtol=0,
            atol=1e-5,
        )


def test_the_converted_model_answers_exactly_like_the_slow_way_of_transformers(
    converted: Path, tiny_gguf: Path
) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(tiny_gguf.parent, gguf_file=tiny_gguf.name, dtype=torch.float32)
    ours = load(converted)
    for text in TEXTS:
        assert torch.equal(logits(ours.model, ours.tokenizer, text), logits(theirs.eval(), ours.tokenizer, text))


def test_the_converted_model_is_a_plain_one_that_can_be_saved_and_trained(converted: Path, tmp_path: Path) -> None:
    config = json.loads((converted / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    loaded = load(converted)
    loaded.model.requires_grad_(True)
    loaded.model(torch.tensor([[5, 6]]), labels=torch.tensor([[5, 6]])).loss.backward()
    loaded.model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size > 100_000


def test_the_converted_tokenizer_gives_back_what_it_was_given(converted: Path) -> None:
    tokenizer = load(converted).tokenizer
    for text in (*TEXTS, "  two  spaces\n\tand 12 tabs", "東京の椅子 🪑", "1234567890 3.14"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_each_digit_is_a_token_of_its_own(converted: Path, tiny_causal: Path) -> None:
    ours, original = load(converted).tokenizer, load(tiny_causal).tokenizer
    assert len(original("4711")["input_ids"]) < 4, "the tiny vocabulary has the number of an order as a whole"
    assert ours.convert_ids_to_tokens(ours("4711")["input_ids"]) == ["4", "7", "1", "1"]


def test_every_control_token_is_one_id_and_is_left_out_of_answers(converted: Path) -> None:
    tokenizer = load(converted).tokenizer
    for token, number in (("<pad>", 0), ("<|im_start|>", 1), ("<|im_end|>", 2)):
        assert tokenizer(f"a{token}b")["input_ids"][1:-1] == [number]
        assert tokenizer.decode([number], skip_special_tokens=True) == ""
    assert tokenizer.eos_token == "<|im_end|>"


def test_the_chat_template_comes_along(converted: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    text = load(converted).tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused_and_nothing_is_left_behind(tiny_gguf: Path, tmp_path: Path, share: float) -> None:
    content = tiny_gguf.read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RecipeError) as caught:
        convert(broken, tmp_path / "out")
    (problem,) = caught.value.problems
    assert problem.startswith(f"model: {broken} cannot be read as GGUF: ")
    assert problem.endswith(" Is the download complete, and does transformers know this architecture?")
    assert "\n" not in problem
    assert [path.name for path in tmp_path.iterdir()] == ["broken.gguf"]


def test_an_architecture_that_nobody_knows_is_refused(tiny_gguf: Path, tmp_path: Path) -> None:
    content = tiny_gguf.read_bytes()
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(content.replace(b"llama", b"lemma"))
    with pytest.raises(RecipeError, match=r"strange\.gguf cannot be read as GGUF: .*lemma"):
        convert(strange, tmp_path / "out")


def test_what_a_killed_conversion_left_is_cleared_away(tiny_gguf: Path, tmp_path: Path) -> None:
    left = tmp_path / ".tiny.tmp"
    left.mkdir()
    (left / "half.safetensors").write_bytes(b"half")
    convert(tiny_gguf, tmp_path / "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]
    assert not (tmp_path / "tiny" / "half.safetensors").exists()


def test_two_processes_at_once_convert_once_and_both_get_the_folder(tiny_gguf: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from tunesmith.models.load import materialize, quiet\n"
        "quiet()\n"
        f"print(materialize({str(tiny_gguf)!r}, base=Path()))"
    )
    environment = {**os.environ, "TUNESMITH_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    folders = {out.strip() for out, _ in outputs}
    assert len(folders) == 1
    assert (Path(folders.pop()) / "config.json").is_file()
    assert sum("converting tiny.gguf" in said for _, said in outputs) == 1


def test_a_file_is_converted_once_and_again_when_it_changed(tiny_gguf: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    first = materialize("mine.gguf", base=tmp_path)
    stamp = (first / "config.json").stat().st_mtime_ns
    assert first.parent == home() / "models"
    assert materialize(str(path), base=Path("/")) == first
    assert (first / "config.json").stat().st_mtime_ns == stamp
    path.write_bytes(tiny_gguf.read_bytes() + b"\0" * 32)
    assert materialize("mine.gguf", base=tmp_path) != first


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one."),
        (OSError("\n  gone. \n"), "gone."),
        (KeyError(), "KeyError."),
        (RuntimeError("why?"), "why?"),
    ],
)
def test_of_another_librarys_message_the_first_line_is_told(error: Exception, line: str) -> None:
    assert first_line(error) == line
