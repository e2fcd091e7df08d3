"""P-tuning: virtual tokens that come out of a small network while training; what is kept are the tokens alone.

Liu and others 2021, "GPT Understands, Too", arXiv 2103.10385. The network is peft's, and so is the file.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from tunesmith.errors import RecipeError
from tunesmith.settings import Settings as Base

ABOUT = "virtual tokens made by a small network (arXiv 2103.10385)"
ON_DISK = "adapter"  # in peft's format
NO_MERGE = "its tokens stand before the prompt, and no weight of the base stands for them."
RATES = {
    "causal": ((float("inf"), 1e-3),),
    "seq2seq": ((float("inf"), 1e-3),),
}
"""What `learning_rate: auto` means: (largest number of base parameters, rate), by architecture."""
TRAIN = {"epochs": 6.0, "warmup": 0.1}
"""As for a soft prompt: more epochs and a longer warm-up than the other methods."""

LAYERS = 2  # of the LSTM, in both directions


class Settings(Base):
    """What p-tuning can be told."""

    tokens: int = Field(20, ge=1, description="v, how many virtual tokens.")
    network: Literal["mlp", "lstm"] = Field("mlp", description="What makes the virtual tokens while training.")
    width: int | None = Field(None, ge=1, description="Of the network; None: that of the model.")


def size(settings: Settings, width: int) -> int:
    """Return how many parameters learn: the inputs of the network, and the network.

    Args:
        settings: v tokens and a network of width h.
        width: D, of the model's embedding.

    Two tokens, three wide, and a perceptron that is four wide: 2 x 3 + (3 x 4 + 4) + (4 x 4 + 4) + (4 x 3 + 3).

    >>> size(Settings(tokens=2, width=4), 3)
    57
    """
    inner = settings.width or width
    inputs = settings.tokens * width
    if settings.network == "mlp":
        return inputs + inner * (width + 1) + inner * (inner + 1) + width * (inner + 1)
    both = 2 * inner
    lstm = sum(2 * 4 * inner * (given + inner + 2) for given in (width, *[both] * (LAYERS - 1)))
    return inputs + lstm + both * (both + 1) + width * (both + 1)


def count(settings: Settings, model: Any) -> int:
    """Return how many parameters learn, by the closed formula.

    Raises:
        RecipeError: More virtual tokens than the context.
    """
    from tunesmith.methods.virtual import room_for

    if problems := room_for("p-tuning", settings.tokens, model):
        raise RecipeError(problems)
    return size(settings, model.get_input_embeddings().weight.shape[1])


def saved(settings: Settings, model: Any) -> int:
    """Return how many numbers are written: those of the virtual tokens, without the network."""
    return settings.tokens * int(model.get_input_embeddings().weight.shape[1])


def attach(settings: Settings, model: Any, kind: str) -> Any:
    """Give the model virtual tokens, before the prompt or before the encoder's input, that a network makes.

    Args:
        settings: How many tokens, and the network.
        model: transformers model; its own weights are frozen.
        kind: "causal" or "seq2seq".
    """
    from peft import PromptEncoder, PromptEncoderConfig

    from tunesmith.methods.virtual import Made, VirtualTokens

    count(settings, model)
    model.requires_grad_(False)
    base = model.get_input_embeddings()
    width = base.weight.shape[1]
    config = PromptEncoderConfig(
        num_virtual_tokens=settings.tokens,
        token_dim=width,
        num_transformer_submodules=1,
        encoder_hidden_size=settings.width or width,
        encoder_reparameterization_type=settings.network.upper(),
        encoder_num_layers=LAYERS,
    )
    rows = Made(PromptEncoder(config), settings.tokens)
    model.set_input_embeddings(VirtualTokens(base, rows, tokens=settings.tokens))
    return model


def vectors(model: Any) -> dict[tuple[str, str], Any]:
    """Return the virtual tokens (v, D), for the report to say what they are near to."""
    return {("", ""): model.get_input_embeddings().rows().detach()}


def save(model: Any, folder: Path) -> None:
    """Write the virtual tokens as plain peft loads them; the network that made them is not kept."""
    from tunesmith.methods.virtual import write_as_peft

    write_as_peft(model, vectors(model)["", ""], folder, kind="P_TUNING")


def load(model: Any, folder: Path) -> Any:
    """Put saved virtual tokens onto their base: a soft prompt, from here on."""
    from tunesmith.methods import soft_prompt

    return soft_prompt.load(model, folder)


def join(sharing: Any, number: int, folder: Path) -> None:
    """Put saved virtual tokens onto a base that other adapters share: a soft prompt, from here on."""
    from tunesmith.methods import soft_prompt

    soft_prompt.join(sharing, number, folder)
