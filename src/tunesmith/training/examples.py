"""What a candidate is trained on and validated by, as tokens."""

from collections.abc import Sequence

from tunesmith.data.encode import Coder, Encoded, encode_training, named
from tunesmith.data.mixture import Draw
from tunesmith.errors import DataError
from tunesmith.mixtures import epoch_draw, general_of, of_tuned_tasks, replay_of
from tunesmith.progress import say
from tunesmith.recipe import train_settings
from tunesmith.records import EncodingHealth, Example
from tunesmith.settings import Recipe


def training_examples(
    recipe: Recipe, name: str, examples: Sequence[Example], coder: Coder
) -> tuple[list[Encoded], EncodingHealth, Draw | None]:
    """Encode what a candidate is trained on: the examples of its tasks, and general instructions where it wants some.

    Returns:
        All of them; what had no room among those of the tasks; which stand in which epoch.
    """
    settings = train_settings(recipe, name)
    own = of_tuned_tasks(recipe, name, examples)
    encoded, health = encode_training(own, coder)
    wanted = replay_of(recipe, name, own, share=settings.replay)
    if general := general_of(wanted, epochs=settings.epochs, seed=recipe.seed):
        encoded += encode_training(general, coder)[0]
    used = [example.example_id for example in encoded]
    return encoded, health, epoch_draw(recipe, name, own, used, general=wanted)


def validation_examples(recipe: Recipe, name: str, examples: Sequence[Example], coder: Coder) -> Sequence[Encoded]:
    """Encode the examples that the best weights are chosen by; say what had no room."""
    settings = train_settings(recipe, name)
    wanted = of_tuned_tasks(recipe, name, examples) if settings.validations else []
    if settings.keep_best != "loss" and not wanted:
        raise DataError(
            f"{name}: train.keep_best: {settings.keep_best} needs validation rows and train.validations above 0; there "
            f"are {len(examples)} rows, and train.validations is {settings.validations}."
        )
    if not wanted:
        return ()
    encoded, health = encode_training(wanted, coder)
    if health.cut or health.too_long:
        say(
            f"{name}: validation: {len(health.cut)} prompts were cut to {coder.limit} tokens, {len(health.too_long)} "
            f"examples left out because their target does not fit{named(health.too_long)}."
        )
    return encoded
