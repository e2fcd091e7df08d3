"""Many adapters on one base: an id says which adapter a token is for.

With V tokens of the vocabulary and v virtual ones the stride is S = V + v, and the token t of adapter n, counted from
1, is the id n * S + t. Whatever handles ids (equal prompts, shared beginnings, prompts end to end in one row) then
keeps adapters apart and need not know of them. An id below S is marked for none: padding, or a token that the model
wrote. It belongs to the adapter of its row.

Each layer that some adapter changes has one hook, which hands every adapter the positions that are its own. Methods
import this inside functions, because it needs torch.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, Module

from tunesmith.methods.virtual import Spot, lead

Change = Callable[[Tensor, Tensor], Tensor]
"""What an adapter does at a layer: its input (N, k) and output (N, n) at the adapter's positions -> the new output."""


class Turn:
    """Which adapter each position is for, in the pass that runs now."""

    def __init__(self) -> None:
        self.owners = torch.zeros(1, dtype=torch.long)  # of each row; or of each token, where one row holds many texts
        self._found: dict[int, list[tuple[int, Tensor | None]]] = {}

    def take(self, marks: Tensor) -> None:
        """Note whom ids are for.

        Args:
            marks: (B, T) number of the adapter, 0 = none. All 0: the rows go on as they were.
        """
        if not bool(marks.any()):
            return
        mixed = len(marks) == 1 and len(marks[marks > 0].unique()) > 1
        self.owners = marks[0] if mixed else marks.amax(1)
        self._found = {}

    def positions(self, count: int) -> list[tuple[int, Tensor | None]]:
        """Return each adapter with its positions among so many, rows end to end; None = all of them.

        Beams and choices repeat a row: then there are more rows than were marked, those of one prompt together.
        """
        if count not in self._found:
            each = self.owners.repeat_interleave(count // len(self.owners))
            if len(each) != count:
                raise RuntimeError(f"{count} positions cannot be shared out among {len(self.owners)} owners")
            numbers = each.unique().tolist()
            self._found[count] = [
                (number, None if len(numbers) == 1 else (each == number).nonzero().squeeze(1))
                for number in numbers
                if number
            ]
        return self._found[count]

    @property
    def only(self) -> int | None:
        """The adapter that all positions are for; None = there are several."""
        numbers = self.owners.unique().tolist()
        return int(numbers[0]) if len(numbers) == 1 else None


class SharedTokens(Module):
    """The input embedding of a model that many adapters share, with all their virtual tokens.

    Args:
        base: The embedding of the model, frozen.
        turn: Is told whom the ids are for.
    """

    rows: Tensor

    def __init__(self, base: Embedding, turn: Turn) -> None:
        super().__init__()
        self.base, self.turn, self.spot = base, turn, Spot()
        self.first = base.weight.shape[0]
        self.register_buffer("rows", base.weight.detach()[:0].float(), persistent=False)

    @property
    def weight(self) -> Tensor:
        """The embeddings of the vocabulary, (V, D)."""
        return self.base.weight

    @property
    def stride(self) -> int:
        """S, by which ids of one adapter are apart from those of the next."""
        return self.first + len(self.rows)

    def add(self, rows: Tensor) -> tuple[int, ...]:
        """Take virtual tokens in, (v, D), and return their ids."""
        start = self.stride
        self.rows = torch.cat([self.rows, rows.detach().float().to(self.rows.device)])
        return tuple(range(start, self.stride))

    def known(self, ids: Tensor) -> Tensor:
        """Return ids (B, T) of the vocabulary; in the place of a virtual token one that the row has anyway."""
        plain = ids % self.stride
        return torch.where(plain < self.first, plain, plain[:, -1:])

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings of ids (B, T)."""
        self.turn.take(ids // self.stride)
        ids = ids % self.stride
        virtual = ids >= self.first
        self.spot.places = None
        if not bool(virtual.any()):
            found: Tensor = self.base(ids)
            return found
        self.spot.places = torch.where(virtual, ids - self.first, -1)
        found = self.base(ids.masked_fill(virtual, 0))
        found[virtual] = self.rows[ids[virtual] - self.first].to(found.dtype)
        return found


class Leading(Module):
    """The virtual tokens before a decoder's own; all rows of a batch have the same, or none has any."""

    nothing: Tensor

    def __init__(self, turn: Turn, width: int) -> None:
        super().__init__()
        self.turn, self.spot = turn, Spot()
        self.register_buffer("nothing", torch.zeros(0, width), persistent=False)
        self.tables: dict[int, Tensor] = {}

    def add(self, number: int, rows: Tensor) -> int:
        """Take in what an adapter puts before the decoder's tokens, (v, D); return the number of the first."""
        self.tables[number] = rows.detach().float().to(self.nothing.device)
        return self._first(number)

    def forward(self) -> Tensor:
        """Return the rows of the adapter whose turn it is, (v, D), v = 0 where it has none."""
        only = self.turn.only
        if only is None and not self.tables.keys().isdisjoint(self.turn.owners.tolist()):
            raise RuntimeError("an adapter that leads the decoder cannot share a batch")
        if only not in self.tables:
            return self.nothing
        self.spot.first = self._first(only)
        return self.tables[only]

    def _first(self, number: int) -> int:
        return sum(len(rows) for other, rows in self.tables.items() if other < number)


class Sharing:
    """One base and what adapters do to it.

    Args:
        model: transformers model, frozen here.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.turn = model.requires_grad_(False), Turn()
        self.tokens = SharedTokens(model.get_input_embeddings(), self.turn)
        model.set_input_embeddings(self.tokens)
        self.leading: Leading | None = None
        self._virtual: dict[int, dict[str, tuple[int, ...]]] = {}
        self._before: dict[Module, dict[int, Callable[[Tensor], Tensor]]] = {}
        self._after: dict[Module, dict[int, Change]] = {}

    def virtual(self, number: int) -> Mapping[str, tuple[int, ...]]:
        """Return task -> ids of the virtual tokens that an adapter's prompts begin with; "" = of all tasks."""
        return self._virtual.get(number, {})

    def leads(self, number: int) -> bool:
        """Tell whether an adapter puts tokens before those of the decoder, so that it needs a batch of its own."""
        return self.leading is not None and number in self.leading.tables

    def add_tokens(self, number: int, rows: Tensor, *, task: str = "") -> int:
        """Let the prompts of an adapter begin with virtual tokens, (v, D); return the number of the first."""
        ids = self.tokens.add(rows)
        self._virtual.setdefault(number, {})[task] = ids
        return ids[0] - self.tokens.first

    def lead(self, number: int, rows: Tensor) -> int:
        """Put virtual tokens, (v, D), before those of the decoder; return the number of the first."""
        if self.leading is None:
            self.leading = Leading(self.turn, rows.shape[1])
            lead(self.model.get_decoder(), self.leading, spot=self.leading.spot)
        return self.leading.add(number, rows)

    def layer(self, name: str) -> Any:
        """Return a layer of the base.

        Raises:
            ValueError: It has none of that name.
        """
        try:
            return self.model.get_submodule(name)
        except AttributeError:
            raise ValueError(f"the base has no layer {name}.") from None

    def before(self, name: str, number: int, change: Callable[[Tensor], Tensor]) -> None:
        """Let an adapter change what a layer reads at its own positions."""
        layer = self.layer(name)
        if layer not in self._before:
            self._before[layer] = {}
            layer.register_forward_pre_hook(_changes_input(self.turn, self._before[layer]))
        self._before[layer][number] = change

    def after(self, name: str, number: int, change: Change) -> None:
        """Let an adapter change what a layer, or a block of layers, writes at its own positions."""
        layer = self.layer(name)
        if layer not in self._after:
            self._after[layer] = {}
            layer.register_forward_hook(_changes_output(self.turn, self._after[layer]), with_kwargs=True)
        self._after[layer][number] = change


def _changes_input(turn: Turn, changes: Mapping[int, Callable[[Tensor], Tensor]]) -> Callable[..., tuple[Any, ...]]:
    """Return a hook that hands each adapter what a layer reads at the adapter's positions."""

    def hook(layer: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        read: Tensor = args[0].flatten(0, -2).clone()
        for number, where in turn.positions(len(read)):
            if change := changes.get(number):
                at = slice(None) if where is None else where
                read[at] = change(read[at]).to(read.dtype)
        return (read.view(args[0].shape), *args[1:])

    return hook


def _changes_output(turn: Turn, changes: Mapping[int, Change]) -> Callable[..., Any]:
    """Return a hook that hands each adapter what a layer writes at the adapter's positions."""

    def hook(layer: Any, args: tuple[Any, ...], given: Mapping[str, Any], output: Any) -> Any:
        whole: Tensor = output[0] if isinstance(output, tuple) else output
        read = (args[0] if args else given["hidden_states"]).flatten(0, -2)
        written = whole.reshape(-1, whole.shape[-1])
        for number, where in turn.positions(len(written)):
            if change := changes.get(number):
                at = slice(None) if where is None else where
                written[at] = change(read[at], written[at]).to(written.dtype)
        whole = written.view(whole.shape)
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    return hook
