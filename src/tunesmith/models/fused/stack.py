"""A whole causal model as fused layers, and the loss of a batch; T5 is in ``encoder_decoder.py``."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.models.fused.adding import added
from tunesmith.models.fused.embedding import embedded
from tunesmith.models.fused.encoder_decoder import EncoderDecoder
from tunesmith.models.fused.flash import ends_of
from tunesmith.models.fused.head import head_loss
from tunesmith.models.fused.layer import Kept, Layer, Norm, Row, all_parameters
from tunesmith.models.fused.prefix import puts_prefix, read_prefix
from tunesmith.models.fused.projection import Projection, is_linear, read_part
from tunesmith.models.fused.ragged import Heads, Segments

FAMILIES = ("llama", "mistral", "qwen2")
ROTATIONS = ("default", "linear", "llama3", "yarn")  # those whose angles depend on the position alone


@dataclass(frozen=True, slots=True)
class Stack:
    """All layers of a causal model, the last norm and the head."""

    model: Any  # the transformers model
    layers: tuple[Layer, ...]
    norm: Norm
    head: nn.Parameter  # (V, width)
    dtype: torch.dtype

    @property
    def projections(self) -> list[Projection]:
        """Of all layers."""
        return [projection for layer in self.layers for projection in layer.projections]

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.head.device

    @property
    def flashes(self) -> bool:
        """Whether FlashAttention attends, as on a graphics card; then examples share nothing in a row."""
        return self.device.type != "cpu"

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What learns but embeddings; a head that learns comes last."""
        head = [self.head] if self.head.requires_grad else []
        return [*all_parameters(self.layers), *self.norm.parameters, *head]

    def refresh(self) -> None:
        """Take over what an optimizer step has changed."""
        for projection in self.projections:
            projection.refresh()

    def embed(self, ids: Tensor) -> Tensor:
        """Return the embeddings of tokens, (T, width)."""
        return embedded(self.model.get_input_embeddings(), ids, self.dtype)

    def virtual(self, ids: Tensor) -> Tensor | None:
        """Return the number of the virtual token at each place, -1 = a real one; None where no layer asks for it."""
        if not self.layers[0].prefix:
            return None
        found: Tensor = self.model.get_input_embeddings().numbers(ids)
        return found

    def angles(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of the rotation at each position, (T, D / 2) float32."""
        cosine, sine = self.model.model.rotary_emb(
            torch.empty(0, dtype=torch.float32, device=self.device), positions[None]
        )
        half = cosine.shape[-1] // 2
        return cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous()

    @property
    def steady(self) -> int:
        """How many of the lowest layers no training changes, nor anything below them; never all of them."""
        learns = any(weight.requires_grad for weight in self.model.get_input_embeddings().parameters())
        return min(_lowest(self, learns), len(self.layers) - 1)

    def below(self, ids: Tensor, positions: Tensor, segments: Segments) -> Tensor:
        """Return what the lowest ``steady`` layers make of a row, (T, width); for the arguments see ``loss_sum``."""
        row = Row(self._placed(segments), *self.angles(positions), counted=ids[:0], virtual=self.virtual(ids))
        x = self.embed(ids).detach()
        for layer in self.layers[: self.steady]:
            x, _ = layer.forward(x, row, last=False, keep=False)
        return x

    def loss_sum(
        self, ids: Tensor, positions: Tensor, labels: Tensor, segments: Segments, below: Tensor | None = None
    ) -> Tensor:
        """Return the summed negative log-likelihood in nats, as a float32 scalar.

        Args:
            ids: (T,) examples end to end, after the tokens that all of them begin with.
            positions: (T,) of each token in its example.
            labels: (T,) the next token where the loss counts it, else -100.
            segments: The examples.
            below: What ``below`` returned for this row, where it is known already.
        """
        counted = (labels >= 0).nonzero().squeeze(1)
        row = Row(self._placed(segments), *self.angles(positions), counted, self.virtual(ids))
        if below is None:
            return self.loss_of(self.embed(ids), row, labels[counted])
        return self.loss_of(below, row, labels[counted], first=self.steady)

    def loss_of(
        self, x: Tensor, row: Row, labels: Tensor, *, first: int = 0, weights: Tensor | None = None,
        learned: Sequence[Tensor] | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the summed negative log-likelihood in nats, as a float32 scalar.

        Args:
            x: (T, width) embeddings, or what enters the layer ``first``.
            row: The batch.
            labels: (C,) of its counted positions.
            first: The layer that ``x`` enters.
            weights: (C,) of the counted positions in the sum; None: all count once.
            learned: What autograd is to take ``parameters`` for, the same values in the same memory.
        """
        learned = self.parameters if learned is None else learned
        inner, head = (learned[:-1], learned[-1]) if self.head.requires_grad else (learned, self.head)
        run: Any = _Layers.apply
        return head_loss(run(x, self, row, first, *inner), head, labels, weights)

    def _placed(self, segments: Segments) -> Segments:
        """Return the examples of a row with what attention on a graphics card wants to know of them."""
        return replace(segments, ends=ends_of(segments.lengths, self.device)) if self.flashes else segments


class _Layers(torch.autograd.Function):
    """Embeddings, or what enters the layer ``first``, to the normed hidden states of the counted positions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, stack: Stack, row: Row, first: int, *parameters: Tensor) -> Tensor:
        keep = any(ctx.needs_input_grad)
        kept: list[Kept | None] = [None] * first
        lowest = _lowest(stack, ctx.needs_input_grad[0])
        for number, layer in enumerate(stack.layers[first:], first):
            last = number == len(stack.layers) - 1
            x, left = layer.forward(x, row, last=last, keep=keep and number >= lowest)
            kept.append(left)
        out = torch.empty_like(x)
        inverse = stack.norm(x, out=out)
        ctx.stack, ctx.row, ctx.kept, ctx.end, ctx.lowest = stack, row, kept, (x, inverse), lowest
        ctx.learned = parameters
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        stack, row = ctx.stack, ctx.row
        x, inverse = ctx.end
        dy = torch.zeros_like(x)
        stack.norm.backward(gradients[0], x, inverse, dx=dy)
        found: list[list[Tensor | None]] = [list(stack.norm.weight_gradients(gradients[0], x, inverse))]
        dx: Tensor | None = dy
        end = len(ctx.learned) - len(found[0])
        for number in reversed(range(len(stack.layers))):
            layer = stack.layers[number]
            learned = ctx.learned[end - len(layer.parameters) : end]
            end -= len(learned)
            if number < ctx.lowest or dx is None:
                found.append([None] * len(learned))
                dx = None
                continue
            below = number > ctx.lowest or ctx.needs_input_grad[0]
            last = number == len(stack.layers) - 1
            dx, own = layer.backward(dx, row, ctx.kept[number], last=last, below=below)
            ctx.kept[number] = None  # its memory serves the layers below
            found.append(added(learned, own))
        ctx.kept = None
        return (
            dx if ctx.needs_input_grad[0] else None,
            None,
            None,
            None,
            *(g for part in reversed(found[1:]) for g in part),
            *found[0],
        )


def _lowest(stack: Stack, embeddings: bool) -> int:
    """Return the lowest layer that a gradient has to reach."""
    if embeddings:
        return 0
    return next((n for n, layer in enumerate(stack.layers) if layer.parameters), len(stack.layers))


Packed = Stack | EncoderDecoder


def read_stack(model: Any, *, dtype: torch.dtype) -> Stack | None:
    """Return a causal model as a stack, or None if it computes anything that fused layers do not.

    Args:
        model: A transformers model, its linear layers possibly replaced by peft's LoRA.
        dtype: Number format of the computation; weights in another one are copied.
    """
    if not _known_family(model) or hooked(model):
        return None
    inner, head = model.model, model.get_output_embeddings()
    layers = [_read_layer(layer, dtype) for layer in inner.layers]
    norm = _read_norm(inner.norm)
    if norm is None or any(layer is None for layer in layers) or not is_linear(head) or head.bias is not None:
        return None
    return Stack(model, tuple(layer for layer in layers if layer is not None), norm, head.weight, dtype)


def _known_family(model: Any) -> bool:
    """Tell whether a model's config asks for nothing but what the layers here compute."""
    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", "") not in FAMILIES:
        return False
    window = getattr(config, "use_sliding_window", config.model_type == "mistral") and config.sliding_window
    rotation = getattr(model.model.rotary_emb, "rope_type", "default")
    plain = config.hidden_act == "silu" and not config.attention_dropout
    return plain and not window and rotation in ROTATIONS


def hooked(model: Any) -> bool:
    """Tell whether anybody looks at a model's layers while they compute, but for a learned prefix."""
    return any(
        m._forward_pre_hooks or m._backward_hooks or not all(puts_prefix(m, hook) for hook in m._forward_hooks.values())
        for m in model.modules()
    )


def _read_norm(module: Any) -> Norm | None:
    if not type(module).__name__.endswith("RMSNorm") or [n for n, _ in module.named_parameters()] != ["weight"]:
        return None
    return Norm(module.weight, float(module.variance_epsilon))


def _read_layer(module: Any, dtype: torch.dtype) -> Layer | None:
    """Return a decoder layer, or None if any of its parts is not what it is in the plain family."""
    if sorted(n for n, _ in module.named_children()) != [
        "input_layernorm",
        "mlp",
        "post_attention_layernorm",
        "self_attn",
    ]:
        return None
    attention, mlp = module.self_attn, module.mlp
    names = {name for name, _ in attention.named_children()}
    linear = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    if names != {"q_proj", "k_proj", "v_proj", "o_proj"} or {n for n, _ in mlp.named_children()} - {"act_fn"} != {
        "gate_proj", "up_proj", "down_proj",
    }:  # fmt: skip
        return None
    parts = [read_part(one) for one in (*linear, mlp.gate_proj, mlp.up_proj, mlp.down_proj)]
    norms = _read_norm(module.input_layernorm), _read_norm(module.post_attention_layernorm)
    if any(part is None for part in parts) or norms[0] is None or norms[1] is None:
        return None
    q, k, v, o, gate, up, down = (part for part in parts if part is not None)
    size = attention.head_dim
    heads = Heads(q.weight.shape[0] // size, k.weight.shape[0] // size, size, float(attention.scaling))
    read, written, narrow = (Projection(group, dtype) for group in ((q, k, v), (o,), (down,)))
    wide = Projection((gate, up), dtype, gates=True)
    prefix = read_prefix(attention.k_proj, attention.v_proj)
    return Layer(heads, (norms[0], norms[1]), read, written, wide, narrow, prefix)
