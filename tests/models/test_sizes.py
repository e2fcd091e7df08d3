from pathlib import Path

import pytest
from transformers import AutoConfig

from tunesmith.models.load import load
from tunesmith.models.sizes import Shape, forward_flops, parameters_on_disk, shape_of


def test_a_causal_model_reads_all_with_all_of_it(tiny_causal: Path) -> None:
    model = load(tiny_causal).model
    shape = shape_of(tiny_causal, AutoConfig.from_pretrained(tiny_causal))
    assert shape == Shape(encoder=0, decoder=sum(one.numel() for one in model.parameters()), width=64, layers=2)


def test_an_encoder_decoder_is_parted(tiny_seq2seq: Path) -> None:
    model = load(tiny_seq2seq).model
    shape = shape_of(tiny_seq2seq, AutoConfig.from_pretrained(tiny_seq2seq))
    shared = model.get_input_embeddings().weight.numel()
    assert shape.encoder == sum(one.numel() for one in model.get_encoder().parameters()) - shared
    assert shape.encoder + shape.decoder == parameters_on_disk(tiny_seq2seq)
    assert (shape.width, shape.layers) == (64, 2)


def test_a_config_without_the_size_of_a_head_gives_the_width_of_the_model(tiny_causal: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_causal)
    config.head_dim = None
    config.hidden_size = 96
    assert shape_of(tiny_causal, config).width == 96


def test_two_for_each_parameter_and_token_and_attention_over_what_stands_before() -> None:
    shape = Shape(encoder=0, decoder=1000, width=8, layers=3)
    by_token = sum(2 * 1000 + 4 * place * 8 * 3 for place in range(1, 8))
    assert forward_flops(shape, [(5, 2)]) == by_token
    assert forward_flops(shape, [(5, 2)] * 3) == 3 * by_token
    assert forward_flops(shape, []) == 0


def test_the_encoder_reads_the_prompt_and_the_decoder_looks_at_all_of_it() -> None:
    shape = Shape(encoder=600, decoder=1000, width=8, layers=3)
    reading = 2 * 600 * 5 + sum(4 * place * 24 for place in range(1, 6))
    writing = 2 * 1000 * 2 + sum(4 * place * 24 for place in range(1, 3)) + 2 * 4 * 5 * 24
    assert forward_flops(shape, [(5, 2)]) == pytest.approx(reading + writing)
