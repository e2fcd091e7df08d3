"""Virtual tokens in words: which tokens of the vocabulary their embeddings are nearest to."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import normalize

from tunesmith.records import NearestTokens, NearToken, VirtualToken

NEAREST = 5


def nearest_tokens(vectors: Mapping[tuple[str, str], Tensor], model: Any, tokenizer: Any) -> NearestTokens:
    """Return for each virtual token the nearest tokens of the vocabulary, by the cosine of their embeddings.

    Args:
        vectors: (task, place) -> virtual tokens (v, D).
        model: Its input embedding has the vocabulary.
        tokenizer: Puts ids into words; rows of the embedding beyond its vocabulary are padding, and left out.
    """
    known = normalize(model.get_input_embeddings().weight.detach()[: len(tokenizer)].float(), dim=-1)
    found = []
    for (task, place), rows in vectors.items():
        cosines, ids = (normalize(rows.float(), dim=-1) @ known.T).topk(min(NEAREST, len(known)))
        for number, (values, tokens) in enumerate(zip(cosines.tolist(), ids.tolist(), strict=True), 1):
            near = tuple(
                NearToken(token=tokenizer.decode([token]), cosine=round(value, 4))
                for value, token in zip(values, tokens, strict=True)
            )
            found.append(VirtualToken(task=task, place=place, number=number, nearest=near))
    return NearestTokens(tokens=tuple(found))
