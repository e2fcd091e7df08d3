from pathlib import Path

from tunesmith.models.load import load
from tunesmith.models.skeleton import skeleton


def test_a_skeleton_has_a_head_of_its_own_where_the_weights_have_one(tiny_causal: Path, tiny_seq2seq: Path) -> None:
    for folder in (tiny_causal, tiny_seq2seq):
        assert skeleton(folder).num_parameters() == load(folder).model.num_parameters()
