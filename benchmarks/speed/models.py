"""The models and streams that the trainings are measured on."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speed.judge import tokens_of
from speed.stream import RANK, encode, texts, write_adapter, write_stream
from speed.turn import UNCOUNTED, device

VALIDATION = 8  # rows
RATES = {True: 5e-4, False: 5e-5}  # of LoRA, of full tuning
T5_SMALL = {
    "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_decoder_layers": 8,
    "num_heads": 6,
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A model, a way to tune it, and the stream of tokens."""

    name: str
    kind: str
    about: str
    model: Path
    adapter: Path | None  # the low-rank matrices that everybody begins with; None: all weights learn
    stream: Path
    short: Path  # of few steps, to choose a batch with
    given: dict[str, Any]  # the stream
    bare: Any  # the model, without a method
    lora: int  # parameters that learn beside a frozen base

    @property
    def tokens_of_steps(self) -> list[int]:
        """Real tokens of every step."""
        rows = self.given["rows"]
        return [sum(tokens_of(rows[n], self.given["seq2seq"]) for n in step) for step in self.given["steps"]]


def prepare_tasks(options: argparse.Namespace, out: Path) -> Iterator[Task]:
    """Write models, starts and streams; yield the tasks that the options name, one at a time.

    Args:
        options: tasks, data, rows, steps, longest, small.
        out: Folder for all of it.
    """
    from tunesmith.methods import lora
    from tunesmith.models.load import load

    pairs = texts(options.data, want=options.rows * options.steps + VALIDATION)
    for name in options.tasks:
        kind, adapts = "causal" if name.startswith("causal") else "seq2seq", name.endswith("LoRA")
        model = model_folder(kind, out / "models", [text for pair in pairs for text in pair], small=options.small)
        where = out / name.replace(" ", "-")
        where.mkdir(parents=True, exist_ok=True)
        loaded = load(model)
        examples, written = encode(loaded, pairs, longest=options.longest), {"rate": RATES[adapts]}
        given = write_stream(
            where / "stream.json", loaded, examples, steps=options.steps, rows_per_step=options.rows, **written
        )
        few = min(options.steps, 2 * UNCOUNTED[device().type])
        write_stream(where / "short.json", loaded, examples, steps=few, rows_per_step=options.rows, **written)
        size = lora.count(lora.Settings(rank=RANK), loaded.model) if adapts else 0
        about = (
            "tiny"
            if options.small
            else {"causal": "SmolLM2-135M-Instruct"}.get(
                kind, "random weights of the shape of T5-small 1.1, without dropout"
            )
        )
        bare = load(model).model
        adapter = write_adapter(where / "start", loaded) if adapts else None
        yield Task(name, kind, about, model, adapter, where / "stream.json", where / "short.json", given, bare, size)


def model_folder(kind: str, folder: Path, words: list[str], *, small: bool) -> Path:
    """Return the folder of a model: the built-in one, or random weights."""
    from tunesmith.models.load import materialize
    from tunesmith.models.tiny import write_tiny

    if kind == "causal" and not small:
        return materialize("smollm2-135m-instruct", base=Path.cwd())
    where = folder / f"{kind}-{'tiny' if small else 'small'}"
    if not (where / "config.json").is_file():
        write_tiny(where, kind="causal" if kind == "causal" else "seq2seq", texts=words, vocabulary=2048)
        if kind == "seq2seq":
            write_t5(where, {} if small else T5_SMALL)
    return where


def write_t5(folder: Path, sizes: dict[str, int]) -> None:
    """Put random weights without dropout, whose losses can be compared, beside a tokenizer that is there."""
    import torch
    from transformers import AutoConfig, T5ForConditionalGeneration

    config = AutoConfig.from_pretrained(folder)
    config.update({**sizes, "dropout_rate": 0.0})
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(config.vocab_size, config.d_model) * config.d_model**-0.5)
    model.save_pretrained(folder)
