from pathlib import Path

import pytest

from tunesmith.methods import embeddings
from tunesmith.methods.embeddings import Settings
from tunesmith.models.load import load


def test_the_embedding_is_words_times_width_whether_tied_or_shared(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    for folder, name in ((tiny_causal, "model.embed_tokens.weight"), (tiny_seq2seq, "shared.weight")):
        model = load(folder).model
        assert list(embeddings.chosen(Settings(), model)) == [name]
        assert embeddings.count(Settings(), model) == 64 * model.config.vocab_size


def test_t5_s_own_head_stays_and_its_encoder_and_decoder_read_the_same_new_embedding(tiny_seq2seq: Path) -> None:
    import torch

    model = load(tiny_seq2seq).model
    head = model.lm_head.weight.detach().clone()
    embeddings.attach(Settings(), model, "seq2seq")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(1.0)
    assert torch.equal(model.lm_head.weight, head)
    assert torch.equal(model.encoder.embed_tokens.weight, model.shared.weight)
    assert torch.equal(model.decoder.embed_tokens.weight, model.shared.weight)


def test_a_tied_one_is_said(tiny_causal: Path, tiny_seq2seq: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings.attach(Settings(), load(tiny_seq2seq).model, "seq2seq")
    assert capsys.readouterr().err == ""
    embeddings.attach(Settings(), load(tiny_causal).model, "causal")
    assert capsys.readouterr().err == (
        "embeddings: input embedding and output head of this model are one matrix (tied). Both change with it, and it "
        "is counted and saved once.\n"
    )
