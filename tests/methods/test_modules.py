from pathlib import Path

import pytest

from tunesmith.errors import RecipeError
from tunesmith.methods import modules
from tunesmith.methods.modules import Settings
from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [
        ("*.v_proj", 2 * 32 * 64),
        ("*.v_proj.weight", 2 * 32 * 64),
        ("model.layers.1", 2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64),
        ("model.layers.*.mlp", 2 * 3 * 128 * 64),
        ("model.norm", 64),
        ("*layernorm*", 4 * 64),
    ],
)
def test_a_pattern_is_the_full_name_of_a_weight_or_of_a_module_around_it(
    pattern: str, numbers: int, tiny_causal: Path
) -> None:
    assert modules.count(Settings(patterns=(pattern,)), skeleton(tiny_causal)) == numbers


def test_what_two_patterns_match_counts_once(tiny_causal: Path) -> None:
    model = skeleton(tiny_causal)
    both = Settings(patterns=("*.self_attn", "*.v_proj", "model.norm"))
    assert modules.count(both, model) == 2 * (2 * 64 * 64 + 2 * 32 * 64) + 64


def test_a_tied_matrix_goes_by_either_name_and_counts_once(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    one = modules.count(Settings(patterns=("lm_head",)), model)
    assert one == modules.count(Settings(patterns=("*embed_tokens", "lm_head.weight")), model)
    assert one == 64 * model.config.vocab_size


def test_patterns_that_match_nothing_are_all_named_with_what_there_is(tiny_causal: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        modules.count(Settings(patterns=("model.nrom", "*.v_proj", "zzz")), skeleton(tiny_causal))
    layer = "model.layers.N"
    there = ", ".join(
        [
            "model.embed_tokens.weight",
            *(f"{layer}.self_attn.{one}_proj.weight" for one in "qkvo"),
            *(f"{layer}.mlp.{one}_proj.weight" for one in ("gate", "up", "down")),
            f"{layer}.input_layernorm.weight", f"{layer}.post_attention_layernorm.weight",
            "model.norm.weight", "lm_head.weight",
        ]
    )  # fmt: skip
    assert caught.value.problems == (
        'modules: no weight or module is called "model.nrom". Did you mean "model.norm"? This model has '
        f"{there}, where N counts from 0.",
        f'modules: no weight or module is called "zzz". This model has {there}, where N counts from 0.',
    )
