"""Virtual tokens: ids beyond the vocabulary, whose embeddings are learned instead of looked up.

A prompt begins with the ids V, V + 1, ..., V + v - 1, where V is the size of the vocabulary. Everything that handles
ids (batches, loss, decoding, ranking) then handles virtual tokens too, and need not know of them. Methods import this
inside functions, because it needs torch.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Embedding, Module, Parameter


@dataclass(slots=True)
class Spot:
    """Where the virtual tokens of the pass that runs now are."""

    places: Tensor | None = None  # (B, T) number of the virtual token at a position, -1 = a real one; None = all real
    first: int = 0  # what is added to these numbers, where a model has more virtual tokens than are there now


class Table(Module):
    """Rows that are learned as they are."""

    def __init__(self, rows: int, width: int, *, std: float) -> None:
        super().__init__()
        self.weight = Parameter(torch.randn(rows, width) * std)

    def forward(self) -> Tensor:
        """Return the rows, (N, D)."""
        return self.weight


class Made(Module):
    """Rows that a network makes of their numbers."""

    def __init__(self, network: Module, rows: int) -> None:
        super().__init__()
        self.network, self.count = network, rows

    def forward(self) -> Tensor:
        """Return the rows, (N, D)."""
        device = next(self.network.parameters()).device
        made: Tensor = self.network(torch.arange(self.count, device=device)[None])[0]
        return made


class Blank(Module):
    """Rows of zeros, where what follows from them is replaced at every layer."""

    zeros: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(rows, width), persistent=False)

    def forward(self) -> Tensor:
        """Return the rows, (N, D)."""
        return self.zeros


class VirtualTokens(Module):
    """The input embedding of a model, and beyond its vocabulary the virtual tokens.

    Args:
        base: The embedding of the model, frozen.
        rows: Called without arguments it returns the virtual tokens' embeddings, (tasks * v, D).
        tokens: v, how many virtual tokens a prompt begins with.
        tasks: Names of the tasks that have virtual tokens of their own; "" alone means that all tasks share them.
    """

    def __init__(self, base: Embedding, rows: Module, *, tokens: int, tasks: tuple[str, ...] = ("",)) -> None:
        super().__init__()
        self.base, self.rows, self.spot = base, rows.to(base.weight.device), Spot()
        self.first = base.weight.shape[0]
        ids = range(self.first, self.first + len(tasks) * tokens)
        self.virtual = {task: tuple(ids[n * tokens : (n + 1) * tokens]) for n, task in enumerate(tasks)}

    @property
    def weight(self) -> Tensor:
        """The embeddings of the vocabulary, (V, D)."""
        return self.base.weight

    def known(self, ids: Tensor) -> Tensor:
        """Return ids (B, T) of the vocabulary; in the place of a virtual token one that the row has anyway."""
        return torch.where(ids < self.first, ids, ids[:, -1:])

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings of ids of any shape."""
        numbers = self.numbers(ids)
        virtual = numbers >= 0
        self.spot.places = None
        if not bool(virtual.any()):
            found: Tensor = self.base(ids)
            return found
        self.spot.places = numbers
        found = self.base(ids.masked_fill(virtual, 0))
        found[virtual] = self.rows()[numbers[virtual]].to(found.dtype)
        return found

    def numbers(self, ids: Tensor) -> Tensor:
        """Return the number of the virtual token at each place of ids of any shape, -1 = a real one."""
        return torch.where(ids >= self.first, ids - self.first, -1)


def lead(decoder: Module, rows: Module, *, spot: Spot | None = None) -> None:
    """Let the decoder of an encoder-decoder read virtual tokens before its own; who calls it sees none of them.

    They are put in where a text begins, and taken out of the hidden states that are returned. So the loss, beams and
    what is remembered between tokens stay as they are.

    Args:
        decoder: Of a transformers model.
        rows: Called without arguments it returns the embeddings, (v, D). It becomes ``decoder.prompt``.
        spot: Is told where they are.
    """
    decoder.add_module("prompt", rows.to(next(decoder.parameters()).device))
    where, added = spot or Spot(), [0]

    def put_in(module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        past = given.get("past_key_values")
        where.places, added[0] = None, 0
        if past is not None and past.get_seq_length():
            return args, given
        embeds = given.get("inputs_embeds")
        embeds = module.embed_tokens(given["input_ids"]) if embeds is None else embeds
        own = module.prompt().to(embeds.dtype)
        added[0] = own.shape[0]
        embeds = torch.cat([own.expand(embeds.shape[0], -1, -1), embeds], 1)
        mask = given.get("attention_mask")
        if mask is not None:
            mask = torch.cat([mask.new_ones(mask.shape[0], added[0]), mask], 1)
        places = torch.arange(embeds.shape[1], device=embeds.device)
        where.places = torch.where(places < added[0], places, -1).expand(embeds.shape[0], -1)
        return args, {**given, "input_ids": None, "inputs_embeds": embeds, "attention_mask": mask}

    def take_out(module: Any, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, added[0] :]
        return output

    decoder.register_forward_pre_hook(put_in, with_kwargs=True)
    decoder.register_forward_hook(take_out, with_kwargs=True)


@dataclass(frozen=True, slots=True, eq=False)
class Replacing:
    """A forward hook that puts rows over the output of a layer at virtual tokens."""

    spot: Spot  # where they are
    rows: Tensor  # (v, out)
    first: int = 0  # number of the virtual token that the first row is for

    def __call__(self, layer: Any, args: Any, output: Tensor) -> Tensor:
        """Return the output with the rows in it."""
        places = self.spot.places
        if places is None:
            return output
        # beams repeat what was embedded once
        places = places.repeat_interleave(output.shape[0] // places.shape[0], 0)
        numbers = places + self.spot.first - self.first
        here = (places >= 0) & (numbers >= 0) & (numbers < len(self.rows))
        output = output.clone()
        output[here] = self.rows[numbers[here]].to(output.dtype)
        return output


def room_for(name: str, tokens: int, model: Any, *, answer: int = 0) -> list[str]:
    """Return a problem if so many virtual tokens, and an answer of a causal model, leave no room in its context."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 0
    beside = 0 if model.config.is_encoder_decoder else answer
    if not context or tokens + beside < context:
        return []
    taken = f"{tokens} virtual tokens" + (f" and an answer of {beside} (max_new_tokens)" if beside else "")
    return [f"{name}: {taken} leave no room for a prompt, the model's context is {context} tokens. Lower tokens."]


def words_to_begin_with(tokenizer: Any, text: str, *, tokens: int) -> list[int]:
    """Return the ids of a text, repeated or cut to so many; none if the text has none."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return (ids * (tokens // len(ids) + 1))[:tokens] if ids else []


def write_as_peft(model: Any, rows: Tensor, folder: Path, *, kind: Literal["PROMPT_TUNING", "P_TUNING"]) -> None:
    """Write one prompt at the start of the input as peft's prompt tuning or p-tuning does.

    Args:
        model: Says how wide it is.
        rows: (v, D).
        folder: Where to.
        kind: What peft calls it.
    """
    from peft import PromptEncoderConfig, PromptTuningConfig, TaskType
    from safetensors.torch import save_file

    make = PromptTuningConfig if kind == "PROMPT_TUNING" else PromptEncoderConfig
    more = {} if kind == "PROMPT_TUNING" else {"encoder_hidden_size": rows.shape[1]}
    inner = model.config.get_text_config()
    config = make(
        task_type=TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM,
        num_virtual_tokens=rows.shape[0],
        token_dim=rows.shape[1],
        num_transformer_submodules=1,  # peft puts the first prompt of an encoder-decoder before its encoder
        num_attention_heads=inner.num_attention_heads,
        num_layers=inner.num_hidden_layers,
        inference_mode=True,
        **more,
    )
    config.save_pretrained(folder)
    save_file({"prompt_embeddings": rows.float().contiguous().clone()}, folder / "adapter_model.safetensors")
