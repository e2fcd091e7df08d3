"""He and she changed for each other, or for they, with the forms and verbs that go with them.

English leaves room for doubt: *her* may be *him* or *his*. It is taken for *his* if a word follows that is not one of a
list of function words. With *they*, the verb that follows loses its s; a second verb ("she calls and asks") keeps
it. *She's* may be *she is* or *she has*; before a participle that leaves it open ("she's called") it stays as it is.
*They* is not changed into anything, since it may be several people.
"""

import re

from tunesmith.english import FUNCTION_WORDS, ONLY_HAS, PARTICIPLES, STATES, like

_PIECE = re.compile(r"([^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)?)")
_NOUN_MAY_FOLLOW = frozenset(
    ("first", "second", "third", "last", "many", "much", "my", "next", "other", "several", "usual")
)
_NO_NOUN = frozenset(FUNCTION_WORDS) - _NOUN_MAY_FOLLOW
_ASKING = frozenset(("what", "when", "where", "why", "how", "who", "which", "so", "nor"))
_WHATS = frozenset(("what's", "where's", "who's", "how's", "why's"))
_TURNED = {"is": "are", "was": "were", "has": "have", "does": "do"}
_IRREGULAR = {
    **_TURNED, "isn't": "aren't", "wasn't": "weren't", "hasn't": "haven't", "doesn't": "don't",
}  # fmt: skip
_BETWEEN = frozenset(("also", "always", "almost", "already", "just", "never", "now", "often", "soon", "still", "then"))
_OBJECTS = frozenset(("me", "you", "him", "her", "it", "us", "them"))
_CLAUSE = re.compile(r"[\s\w'\N{RIGHT SINGLE QUOTATION MARK}-]*")
_READ_ON = 80  # characters in which what decides of 's is looked for
_LONG_S = ("sses", "shes", "ches", "xes", "zzes", "oes")
_SWAP = {"he": "she", "she": "he", "him": "her", "hers": "his", "himself": "herself", "herself": "himself"}
_NEUTRAL = {
    "he": "they",
    "she": "they",
    "him": "them",
    "hers": "theirs",
    "himself": "themselves",
    "herself": "themselves",
}


def swapped(text: str) -> str:
    """Return a text with she for he and he for she.

    >>> swapped("She said his lamp is hers. He gave her her lamp.")
    'He said her lamp is his. She gave him his lamp.'
    """
    pieces = _PIECE.split(text)
    words = list(pieces)
    for place in range(1, len(pieces), 2):
        word, rest = _stem(pieces[place])
        if word in _SWAP:
            words[place] = like(_SWAP[word], pieces[place]) + rest
        elif word in ("her", "his") and not rest:
            owner = {"her": ("his", "him"), "his": ("her", "hers")}[word]
            words[place] = like(owner[not _noun_follows(pieces, place)], pieces[place])
    return "".join(words)


def neutral(text: str) -> str:
    """Return a text with they for he and she.

    >>> neutral("She wants his lamp. Is he sure? He's been told that it is hers.")
    "They want their lamp. Are they sure? They've been told that it is theirs."
    """
    pieces = _PIECE.split(text)
    words = list(pieces)
    for place in range(1, len(pieces), 2):
        word, rest = _stem(pieces[place])
        if word in ("her", "his") and not rest:
            forms = ("their", "them" if word == "her" else "theirs")
            words[place] = like(forms[not _noun_follows(pieces, place)], pieces[place])
        elif word in _NEUTRAL:
            if rest[1:].lower() == "s":
                verb = meant_by_s("".join(pieces[place + 1 : place + _READ_ON]))
                if not verb:
                    continue
                rest = rest[0] + {"has": "ve", "is": "re"}[verb]
            words[place] = like(_NEUTRAL[word], pieces[place]) + rest
            if word in ("he", "she") and not rest:
                _agree(pieces, words, place)
    return "".join(words)


def meant_by_s(after: str) -> str:
    """Return what 's stands for, ``is`` or ``has``, by the text after it; empty where that leaves it open.

    An object after a participle decides for has, since a passive has none. Without one, "she's called" may be either.

    >>> meant_by_s(" late"), meant_by_s(" just told him"), meant_by_s(" told that"), meant_by_s(" tired of it")
    ('is', 'has', '', 'is')
    """
    clause = _CLAUSE.match(after[:_READ_ON])
    following = clause[0].lower().split() if clause else []
    while following and (following[0] == "not" or _is_adverb(following[0])):
        following.pop(0)
    word, then = [*following, "", ""][:2]
    if word in ONLY_HAS:
        return "has"
    if word not in PARTICIPLES and not (word.endswith("ed") and len(word) > 3):
        return "is"
    if then in _OBJECTS:
        return "has"
    return "is" if word in STATES else ""


def _agree(pieces: list[str], words: list[str], place: int) -> None:
    """Give they its verb: the one before it in a question, else the one after it."""
    clause = []  # the words before, back to the beginning of the clause
    for back in range(place - 2, 0, -2):
        if not pieces[back + 1].isspace():
            break
        clause.append(pieces[back].lower())
    asks = len(clause) == 1 or _ASKING.intersection(clause[1:4])
    if clause and clause[0] in _TURNED and asks:
        words[place - 2] = like(_TURNED[clause[0]], pieces[place - 2])
        return
    if clause and clause[0] in _WHATS:
        words[place - 2] = pieces[place - 2][:-2] + " are"
        return
    verb = place + 2
    while verb < len(pieces) and pieces[verb - 1].isspace() and _is_adverb(pieces[verb].lower()):
        verb += 2
    if verb < len(pieces) and pieces[verb - 1].isspace():
        words[verb] = _plural(pieces[verb])


def _is_adverb(word: str) -> bool:
    return word in _BETWEEN or (word.endswith("ly") and len(word) > 4)


def _plural(verb: str) -> str:
    word = verb.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    if word in _IRREGULAR:
        return like(_IRREGULAR[word], verb)
    if word in FUNCTION_WORDS or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return verb
    if word.endswith("ies") and len(word) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if word.endswith(_LONG_S) else verb[:-1]


def _stem(word: str) -> tuple[str, str]:
    """Part a pronoun from what is joined to it: she's, he'll."""
    found = re.search(r"['\N{RIGHT SINGLE QUOTATION MARK}]", word)
    return (word[: found.start()].lower(), word[found.start() :]) if found else (word.lower(), "")


def _next(pieces: list[str], place: int) -> str:
    return pieces[place + 2].lower() if place + 2 < len(pieces) and pieces[place + 1].isspace() else ""


def _noun_follows(pieces: list[str], place: int) -> bool:
    following = _next(pieces, place)
    return bool(following) and following not in _NO_NOUN
