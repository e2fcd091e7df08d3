"""Virtual tokens in words: which tokens of the vocabulary their embeddings are nearest to."""

import unicodedata
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
                NearToken(token=in_words(tokenizer, token), cosine=round(value, 4))
                for value, token in zip(values, tokens, strict=True)
            )
            found.append(VirtualToken(task=task, place=place, number=number, nearest=near))
    return NearestTokens(tokens=tuple(found))


def in_words(tokenizer: Any, token: int) -> str:
    """Return the text of one token, with <0xE2> for each byte that is no character to be shown.

    Such are control characters, which no page may hold, and in byte-level vocabularies parts of a character, which
    would all read alike.
    """
    text: str = tokenizer.decode([token])
    if "\ufffd" in text:
        text = _byte_level(tokenizer.convert_ids_to_tokens(token)) or text
    return "".join(one if _shown(one) else _as_bytes(one) for one in text)


def _byte_level(piece: str) -> str:
    """Return the text of a piece that spells a character for each byte; bytes that are no text as surrogates."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte = {character: number for number, character in bytes_to_unicode().items()}
    if not all(one in byte for one in piece):
        return ""
    return bytes(byte[one] for one in piece).decode("utf-8", "surrogateescape")


def _shown(one: str) -> bool:
    return one == "\n" or unicodedata.category(one) not in ("Cc", "Cs")


def _as_bytes(one: str) -> str:
    return "".join(f"<0x{number:02X}>" for number in one.encode("utf-8", "surrogateescape"))
