"""A reader for encoder-decoders: prompts go through the encoder once, answers through fused layers of the decoder.

Keys and values stay where they were written: those of an answer, and those of the prompt that it looks at. A prompt has
nothing to share with others, since every token of it sees all of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tunesmith.inference.reading import Prompt, Reading, Writing, tokens_of
from tunesmith.models.fused.answering import likeliest
from tunesmith.models.fused.biased import Dropout, make_bias, spans
from tunesmith.models.fused.encoder_decoder import Block, EncoderDecoder
from tunesmith.models.fused.layer import normed
from tunesmith.models.fused.products import laid_out, product
from tunesmith.models.fused.projection import Projection

NONE = Dropout(0.0)


class EncodedReader:
    """Through fused layers of an encoder-decoder.

    Args:
        stack: The model.
        slots: Answers that are written at once.
        room: Tokens of the longest answer, with the one that it starts from.
        longest: Tokens of the longest prompt.
    """

    guessing = False

    def __init__(self, stack: EncoderDecoder, slots: int, room: int, longest: int) -> None:
        attention = stack.decoder.blocks[0].attention
        self.stack, self.slots, self.prefix, self.size = stack, slots, 0, attention.size
        self.head = laid_out(stack.head.to(stack.dtype))
        heads = attention.qkv.rows[0] // attention.size
        of_answers, of_prompts = (
            (len(stack.decoder.blocks), slots, heads, positions, attention.size) for positions in (room, longest)
        )
        self.keys, self.values = (torch.zeros(of_answers, dtype=stack.dtype) for _ in range(2))
        self.read_keys, self.read_values = (torch.zeros(of_prompts, dtype=stack.dtype) for _ in range(2))
        self.lengths = torch.zeros(slots, dtype=torch.long)  # of the prompts
        self.bias = make_bias(stack.decoder.first, room, causal=True, dtype=stack.dtype).matrix  # (H, room, room)

    @property
    def device(self) -> torch.device:
        """See ``Reader``."""
        return self.stack.device

    def start(self, prompt: Sequence[int]) -> int:
        """See ``Reader``: an answer follows the token that it starts from."""
        return 1

    def begin(self, tokens: Prompt) -> None:
        """See ``Reader``: there is nothing that prompts share."""

    def keep(self, slots: list[int]) -> None:
        """See ``Reader``."""
        self.slots, self.lengths = len(slots), self.lengths[slots]
        self.keys, self.values, self.read_keys, self.read_values = (
            torch.stack([layer[slots] for layer in kept])
            for kept in (self.keys, self.values, self.read_keys, self.read_values)
        )

    def read(self, reading: Reading) -> Tensor:
        """See ``Reader``."""
        lengths, slots = [len(tokens) for _, tokens in reading], [slot for slot, _ in reading]
        ids = torch.tensor([token for _, tokens in reading for token in tokens])
        encoded = self.stack.encode(ids, lengths)
        for number, block in enumerate(self.stack.decoder.blocks):
            assert block.cross is not None
            parts = block.cross.remembered(encoded)
            for part, kept in zip(parts, (self.read_keys[number], self.read_values[number]), strict=True):
                for slot, rows in zip(slots, spans(lengths), strict=True):
                    kept[slot, :, : rows.stop - rows.start] = _by_head(part[rows], self.size).transpose(0, 1)
        chosen = torch.tensor(slots)
        self.lengths[chosen] = torch.tensor(lengths)
        config = self.stack.model.config
        first = config.decoder_start_token_id
        start = torch.full((len(slots),), config.pad_token_id if first is None else first)
        return self._step(start, torch.zeros_like(start), chosen)

    def write(self, writing: Writing) -> Tensor:
        """See ``Reader``."""
        _, tokens, places = tokens_of(writing, self.device)
        return self._step(tokens, places, None)

    def _step(self, tokens: Tensor, places: Tensor, slots: Tensor | None) -> Tensor:
        """Take one token of each slot, or of those that are named; return the likeliest next ones."""
        rows = torch.arange(self.slots) if slots is None else slots
        longest, width = int(places.max()) + 1, int(self.lengths.max())
        bias = self.bias[:, places, :longest].transpose(0, 1)[:, :, None]
        mask = (torch.arange(width) < self.lengths[rows, None])[:, None, None]
        x = self.stack.embed(self.stack.model.decoder.embed_tokens, tokens)
        for number, block in enumerate(self.stack.decoder.blocks):
            h, _ = normed(block.attention.norm, x, block.attention.qkv)
            q, k, v = (_by_head(part, self.size) for part in block.attention.qkv(h).split(block.attention.qkv.rows, 1))
            keys, values = self.keys[number], self.values[number]
            keys[rows, :, places], values[rows, :, places] = k, v
            keys, values = (_of(part, slots, longest) for part in (keys, values))
            found = scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=bias, scale=1.0)
            x = _added(block.attention.output, found, x)
            x = self._look(number, block, x, mask, rows=slots)
            x, _ = block.mlp.forward(x, NONE)
        out = torch.empty_like(x)
        self.stack.decoder.norm(x, out=out)
        return likeliest(product(out.mul_(self.stack.scale), self.head))

    def _look(self, number: int, block: Block, x: Tensor, mask: Tensor, *, rows: Tensor | None) -> Tensor:
        """Return ``x`` after it has looked at the prompts."""
        cross, width = block.cross, mask.shape[-1]
        assert cross is not None
        h, _ = normed(cross.norm, x, cross.query)
        q = _by_head(cross.query(h), self.size)[:, :, None]
        keys, values = (_of(part, rows, width) for part in (self.read_keys[number], self.read_values[number]))
        found = scaled_dot_product_attention(q, keys, values, attn_mask=mask, scale=1.0)
        return _added(cross.output, found, x)


def _of(kept: Tensor, slots: Tensor | None, positions: int) -> Tensor:
    """Return the first positions of all slots, which is a view, or of those that are named."""
    return kept[:, :, :positions] if slots is None else kept[slots, :, :positions]


def _by_head(x: Tensor, size: int) -> Tensor:
    """Return rows (B, H * D) as (B, H, D)."""
    found: Tensor = x.unflatten(1, (-1, size))
    return found


def _added(projection: Projection, found: Tensor, x: Tensor) -> Tensor:
    """Return ``x`` plus a projection of what attention found, (B, H, 1, D)."""
    attended = projection.room(len(x))
    attended[:, : projection.k] = found.flatten(1)
    return projection(attended, x)
