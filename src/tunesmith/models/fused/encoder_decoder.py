"""A whole T5 as fused sub-layers, and the loss of a batch; ``t5_reading.py`` knows which models that is.

Inside, encoder and decoder read their examples end to end without padding. Dropout is drawn anew for every batch from
torch's own random state, so that a training that goes on draws what it would have drawn. An encoder of which nothing
learns has none: it says of a text what it will say of it later, in every pass the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.fused.adding import Gradients, added
from tunesmith.models.fused.biased import Dropout, Looking, make_bias
from tunesmith.models.fused.embedding import embedded
from tunesmith.models.fused.head import head_loss
from tunesmith.models.fused.layer import Norm
from tunesmith.models.fused.projection import Projection
from tunesmith.models.fused.sublayers import CrossAttention, FeedForward, Kept, SelfAttention

START, END = -1, -2  # places of dropout before the first layer and after the last norm


@dataclass(frozen=True, slots=True)
class Block:
    """One layer of the encoder, or of the decoder, which also looks at the encoder's output."""

    attention: SelfAttention
    cross: CrossAttention | None
    mlp: FeedForward

    @property
    def parts(self) -> tuple[Any, ...]:
        """Its sub-layers, from below."""
        return tuple(part for part in (self.attention, self.cross, self.mlp) if part is not None)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns, from below."""
        return [parameter for part in self.parts for parameter in part.parameters]


@dataclass(frozen=True, slots=True)
class Tower:
    """Encoder or decoder."""

    causal: bool
    blocks: tuple[Block, ...]
    norm: Norm
    first: Any  # transformers' attention that has the table of biases

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns: of the blocks, of the last norm, and the table of biases."""
        own = [parameter for block in self.blocks for parameter in block.parameters]
        return [*own, *self.norm.parameters, *self.table]

    @property
    def table(self) -> list[nn.Parameter]:
        """The table of biases, if it learns."""
        weight: nn.Parameter = self.first.relative_attention_bias.weight
        return [weight] if weight.requires_grad else []

    def lowest(self, below: bool) -> int:
        """Return the lowest block that a gradient has to reach; ``below``: whether something under it learns."""
        if below or self.table:
            return 0
        return next((n for n, block in enumerate(self.blocks) if block.parameters), len(self.blocks))


@dataclass(frozen=True, slots=True)
class EncoderDecoder:
    """Both towers and the head."""

    model: Any  # the transformers model
    encoder: Tower
    decoder: Tower
    head: nn.Parameter  # (V, width)
    scale: float  # of the hidden states before the head
    dtype: torch.dtype

    @property
    def projections(self) -> list[Projection]:
        """Of all blocks."""
        blocks = (*self.encoder.blocks, *self.decoder.blocks)
        return [projection for block in blocks for part in block.parts for projection in part.projections]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.head.device

    @property
    def flashes(self) -> bool:
        """Whether FlashAttention attends: it takes no biases."""
        return False

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns but embeddings and head."""
        return [*self.encoder.parameters, *self.decoder.parameters]

    def refresh(self) -> None:
        """Take over what an optimizer step has changed."""
        for projection in self.projections:
            projection.refresh()

    @property
    def steady(self) -> bool:
        """Whether no training changes what the encoder says."""
        words = self.model.encoder.embed_tokens.parameters()
        return not self.encoder.parameters and not any(weight.requires_grad for weight in words)

    def loss_sum(
        self, ids: Tensor, mask: Tensor, before: Tensor, labels: Tensor, encoded: Tensor | None = None
    ) -> Tensor:
        """Return the summed negative log-likelihood in nats, as a scalar of at least float32.

        Args:
            ids: (B, T) of the encoder, padded.
            mask: (B, T), 1 = a real token.
            before: (B, U) what the decoder reads.
            labels: (B, U); negative: not counted, and after all that count.
            encoded: What ``encode`` returns for these texts, where it is known already.
        """
        read, written = mask.bool(), labels >= 0
        rate = self.model.config.dropout_rate if self.model.training else 0.0
        dropout = Dropout(rate, int(torch.randint(2**62, ()))) if rate else Dropout(0.0)
        size = self.encoder.blocks[0].attention.size
        lengths = tuple(read.sum(1).tolist())
        if encoded is None and self.steady:
            with torch.no_grad():
                encoded = self.encode(ids[read], lengths)
        if encoded is None:
            x, y = self._embed(ids[read], before[written])
        else:
            x, y = encoded, self.embed(self.model.decoder.embed_tokens, before[written])
        looking = Looking(tuple(written.sum(1).tolist()), lengths, size)
        rows = _Rows(looking, dropout, encoded is not None)
        run: Any = _Towers.apply
        hidden = run(x, y, self, rows, *self.parameters)
        return head_loss(hidden, self.head, labels[written])

    def _embed(self, ids: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of what encoder and decoder read, (T, width) and (U, width)."""
        lower, upper = self.model.encoder.embed_tokens, self.model.decoder.embed_tokens
        if type(lower) is type(upper) is nn.Embedding and lower.weight is upper.weight:
            # one gradient as large as the vocabulary instead of two
            found = self.embed(lower, torch.cat([ids, before]))
            return found[: len(ids)], found[len(ids) :]
        return self.embed(lower, ids), self.embed(upper, before)

    def embed(self, embedding: Any, ids: Tensor) -> Tensor:
        """Return the embeddings of tokens by one of the towers' own, (T, width)."""
        return embedded(embedding, ids, self.dtype)

    def encode(self, ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return what the decoder looks at of some texts, (T, width), without dropout.

        Args:
            ids: (T,) texts end to end.
            lengths: Tokens of each.
        """
        size = self.encoder.blocks[0].attention.size
        rows = _Rows(Looking((1,) * len(lengths), tuple(lengths), size), Dropout(0.0))
        x = self.embed(self.model.encoder.embed_tokens, ids)
        _, encoded = _climb(self.encoder, x, None, rows, lowest=len(self.encoder.blocks), keep=False)
        return encoded


@dataclass(frozen=True, slots=True)
class _Rows:
    """A batch: its examples, the decoder's as queries and the encoder's as keys, and its dropout."""

    looking: Looking
    dropout: Dropout
    encoded: bool = False  # whether the encoder has read them

    def of(self, tower: Tower, dtype: torch.dtype) -> "_Rows":
        """Return the same for a tower that looks at itself."""
        lengths = self.looking.queries if tower.causal else self.looking.keys
        bias = make_bias(tower.first, max(lengths), causal=tower.causal, dtype=dtype)
        return _Rows(Looking(lengths, lengths, self.looking.size, bias), self.dropout.at(int(tower.causal)))


@dataclass(slots=True)
class _Climbed:
    """What one tower leaves for its backward pass."""

    rows: _Rows
    kept: list[list[Kept]]  # of every block, from below; empty below the lowest that is wanted
    x: Tensor  # before the last norm
    inverse: Tensor
    lowest: int


class _Towers(torch.autograd.Function):
    """Embeddings of both towers, or what the encoder says and those of the decoder, to what the head reads."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, model: EncoderDecoder, rows: _Rows, *parameters: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        encodes = bool(ctx.needs_input_grad[0] or model.encoder.parameters)
        lowest = model.encoder.lowest(ctx.needs_input_grad[0]), model.decoder.lowest(ctx.needs_input_grad[1] or encodes)
        with torch.autocast(x.device.type, enabled=False):
            encoder, encoded = None, x
            if not rows.encoded:
                encoder, encoded = _climb(model.encoder, x, None, rows, lowest=lowest[0], keep=keep)
            decoder, out = _climb(model.decoder, y, encoded, rows, lowest=lowest[1], keep=keep)
        ctx.given = (model, rows, encoded, encodes)
        ctx.climbed = (encoder, decoder) if keep else None
        return out.mul_(model.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        model, rows, encoded, encodes = ctx.given
        encoder, decoder = ctx.climbed
        ctx.climbed = None
        d_encoded = torch.zeros_like(encoded) if encodes else None
        dy, upper = _descend(model.decoder, gradients[0] * model.scale, decoder, rows.looking, (encoded, d_encoded))
        dx: Tensor | None = None
        lower: Gradients = [None] * len(model.encoder.parameters)
        if d_encoded is not None:
            dx, lower = _descend(model.encoder, d_encoded, encoder, rows.looking, None)
        wanted = ctx.needs_input_grad
        return (dx if wanted[0] else None, dy if wanted[1] else None, None, None, *lower, *upper)


def _climb(
    tower: Tower, x: Tensor, encoded: Tensor | None, batch: _Rows, *, lowest: int, keep: bool
) -> tuple[_Climbed, Tensor]:
    """Return what a tower leaves, and its output after the last norm, (T, width)."""
    rows = batch.of(tower, x.dtype)
    if rows.dropout.rate:
        x = rows.dropout.apply(x.clone(), START)
    kept: list[list[Kept]] = []
    for number, block in enumerate(tower.blocks):
        dropout = rows.dropout.at(number)
        x, first = block.attention.forward(x, rows.looking, dropout.at(0))
        found = [first]
        if block.cross is not None and encoded is not None:
            x, second = block.cross.forward(x, encoded, batch.looking, dropout.at(1))
            found.append(second)
        x, third = block.mlp.forward(x, dropout.at(2))
        kept.append([*found, third] if keep and number >= lowest else [])
    out = torch.empty_like(x)
    inverse = tower.norm(x, out=out)
    return _Climbed(rows, kept, x, inverse, lowest), rows.dropout.apply(out, END)


def _descend(
    tower: Tower, dout: Tensor, climbed: _Climbed, crossing: Looking, encoded: tuple[Tensor, Tensor | None] | None
) -> tuple[Tensor, Gradients]:
    """Return the gradients of a tower's embeddings and of its parameters.

    Args:
        tower: Encoder or decoder.
        dout: Gradient of its output; is changed.
        climbed: What it left; its memory is given back on the way.
        crossing: How the decoder looks at the encoder.
        encoded: Of the decoder: the encoder's output, and the gradient of that, to which is added where it is wanted.
    """
    rows = climbed.rows
    rows.dropout.apply(dout, END)
    dx = torch.zeros_like(climbed.x)
    last = tower.norm.weight_gradients(dout, climbed.x, climbed.inverse)
    tower.norm.backward(dout, climbed.x, climbed.inverse, dx=dx)
    found: list[Gradients] = []
    for number in reversed(range(len(tower.blocks))):
        block, kept, dropout = tower.blocks[number], climbed.kept[number], rows.dropout.at(number)
        if number < climbed.lowest:
            found.append([None] * len(block.parameters))
            continue
        own = block.mlp.backward(dx, kept[-1], dropout.at(2))
        if block.cross is not None and encoded is not None:
            own = [*block.cross.backward(dx, encoded, kept[1], crossing, dropout.at(1)), *own]
        first = block.attention.backward(dx, kept[0], rows.looking, dropout.at(0))
        found.append(added(block.parameters, [*first, *own]))
        climbed.kept[number] = []
    table = None if rows.looking.bias is None else rows.looking.bias.table_gradient()
    below: Gradients = [one for part in reversed(found) for one in part]
    return rows.dropout.apply(dx, START), [*below, *last, *([] if table is None else [table])]
