"""Rows to the stream of tokens that all programs are given: the same rows in the same steps, from the same weights."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.encode import Coder, Encoded, encode_training
from tunesmith.data.sources import read_rows
from tunesmith.inference.few_shot import with_shots
from tunesmith.models.load import Loaded
from tunesmith.records import Example
from tunesmith.settings import DataSettings, TaskSettings

RANK = 16
PROMPT = "Summarize the following conversation.\n\n{dialogue}\n\nSummary:\n"
FILES = ("train_small.jsonl", "dev.jsonl")


def texts(data: Path | None, *, want: int) -> list[tuple[str, str]]:
    """Return dialogues with their summaries, in an order drawn by a fixed seed.

    Args:
        data: Folder with DialogSum's ``train_small.jsonl`` and ``dev.jsonl``; None: the shipped support chats.
        want: How many; an error if there are fewer.
    """
    sources = ["support"] if data is None else [str(data / name) for name in FILES]
    found: list[tuple[str, str]] = []
    for source in sources:
        task = TaskSettings(source=source, template="dialogue-summary")
        rows = read_rows(task, DataSettings(), base=Path.cwd()).rows
        found += [(str(row.values["dialogue"]), str(row.values["summary"])) for row in rows]
    random.Random(0).shuffle(found)
    if len(found) < want:
        raise SystemExit(f"{want} rows are wanted, {' and '.join(sources)} has {len(found)}")
    return found[:want]


def encode(loaded: Loaded, pairs: Sequence[tuple[str, str]], *, longest: int, shots: int = 0) -> list[Encoded]:
    """Encode pairs as tunesmith does, with the chat template of the model.

    Args:
        loaded: Model and tokenizer.
        pairs: Of dialogues and summaries.
        longest: Tokens of a prompt with its target.
        shots: So many pairs at the start become worked examples before each of the others.
    """
    examples = [
        Example(id=f"row/{number}", task="summarize", split="train", prompt=PROMPT.format(dialogue=dialogue),
                target=summary, references=(summary,))
        for number, (dialogue, summary) in enumerate(pairs)
    ]  # fmt: skip
    coder = Coder(loaded.tokenizer, loaded.kind, longest)
    found, _ = encode_training([with_shots(one, examples[:shots], coder)[0] for one in examples[shots:]], coder)
    return list(found)


def as_row(example: Encoded, kind: str) -> dict[str, list[int]]:
    """Return an example as every program reads it: ids and labels, -100 = not counted, not shifted."""
    if kind == "seq2seq":
        return {"ids": list(example.input_ids), "labels": list(example.target_ids)}
    labels = [token if counts else -100 for token, counts in zip(example.input_ids, example.trains, strict=True)]
    return {"ids": list(example.input_ids), "labels": labels}


def write_stream(
    path: Path, loaded: Loaded, examples: Sequence[Encoded], *, steps: int, rows_per_step: int, rate: float
) -> dict[str, Any]:
    """Write the stream: the first rows in steps, the rest to validate with; return it.

    Args:
        path: Where to.
        loaded: Model and tokenizer.
        examples: At least one more than the steps take.
        steps: Optimizer steps.
        rows_per_step: Rows in each.
        rate: Learning rate, constant.
    """
    rows = [as_row(example, loaded.kind) for example in examples]
    taken = steps * rows_per_step
    found = {
        "seq2seq": loaded.kind == "seq2seq",
        "pad": loaded.tokenizer.pad_token_id,
        "rank": RANK,
        "rate": rate,
        "rows_per_step": rows_per_step,
        "rows": rows[:taken],
        "steps": [list(range(start, start + rows_per_step)) for start in range(0, taken, rows_per_step)],
        "validation": rows[taken:],
    }
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


def write_adapter(folder: Path, loaded: Loaded) -> Path:
    """Write the low-rank matrices that everybody begins with, in peft's format."""
    import torch

    from tunesmith.methods import lora

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    lora.save(lora.attach(lora.Settings(rank=RANK), loaded.model, loaded.kind), folder)
    return folder
