"""Porter's suffix stripper with NLTK's extensions.

Source: M. F. Porter, "An algorithm for suffix stripping", Program 14(3), 1980. The departures are those of NLTK's
default ``PorterStemmer``, which rouge_score uses: a short list of irregular words, words of one or two letters
stay as they are, and a few rules are mended so that "dies" and "flies", or "enjoy" and "happy", come out right.
Words are expected in lower case; a digit counts as a consonant.
"""

_IRREGULAR = {
    "sky": "sky",
    "skies": "sky",
    "dying": "die",
    "lying": "lie",
    "tying": "tie",
    "news": "news",
    "inning": "inning",
    "innings": "inning",
    "outing": "outing",
    "outings": "outing",
    "canning": "canning",
    "cannings": "canning",
    "howe": "howe",
    "proceed": "proceed",
    "exceed": "exceed",
    "succeed": "succeed",
}

# In every table the first suffix that fits decides, even if its condition then fails: longer ones stand first.
_STEP_2 = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "fulli": "ful",
}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4 = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment"),
    *("ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
)
_ANY_STEP_2 = (*_STEP_2, "alli", "logi")
_ANY_STEP_3 = tuple(_STEP_3)


def stem(word: str) -> str:
    """Return the stem of a lower-case word, as NLTK's default ``PorterStemmer().stem`` does.

    >>> [stem(word) for word in ("conversations", "flies", "dies", "happily", "relational")]
    ['convers', 'fli', 'die', 'happili', 'relat']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if not word[2:]:
        return word
    word = _y_to_i(_past_and_ing(_plural(word)))
    return _final_letters(_step_4(_step_3(_step_2(word))))


def _shape(stem: str) -> str:
    """Write a word as consonants ``c`` and vowels ``v``; y is a vowel after a consonant."""
    shape = ""
    for letter in stem:
        shape += "v" if letter in "aeiou" or (letter == "y" and shape.endswith("c")) else "c"
    return shape


def _measure(stem: str) -> int:
    """Return Porter's m: how often a vowel is followed by a consonant."""
    return _shape(stem).count("vc")


def _is_short(stem: str) -> bool:
    """Say whether the stem ends consonant, vowel, consonant (not w, x, y), or is just vowel and consonant."""
    shape = _shape(stem)
    return (shape.endswith("cvc") and stem[-1] not in "wxy") or shape == "vc"


def _plural(word: str) -> str:
    if word.endswith("ies"):
        return word[:-1] if len(word) == len("dies") else word[:-2]
    if word.endswith("sses"):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past_and_ing(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == len("died") else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    stem = word.removesuffix("ed") if word.endswith("ed") else word.removesuffix("ing")
    return word if stem == word or "v" not in _shape(stem) else _mended(stem)


def _mended(stem: str) -> str:
    """Give a stem that lost -ed or -ing the form it had: "hoping" and "hopping" are two words."""
    if stem.endswith(("at", "bl", "iz")):
        return stem + "e"
    if stem[-1] == stem[-2:-1] and _shape(stem).endswith("c"):
        return stem if stem[-1] in "lsz" else stem[:-1]
    return stem + "e" if _measure(stem) == 1 and _is_short(stem) else stem


def _y_to_i(word: str) -> str:
    if word.endswith("y") and word[2:] and _shape(word[:-1]).endswith("c"):
        return word[:-1] + "i"
    return word


def _step_2(word: str) -> str:
    if not word.endswith(_ANY_STEP_2):
        return word
    if word.endswith("alli"):
        return _step_2(word[:-2]) if _measure(word[:-4]) > 0 else word
    if word.endswith("logi"):
        # The l counts as part of the stem, so that short ones such as "geo" are long enough.
        return word[:-1] if _measure(word[:-3]) > 0 else word
    return _swap(word, _STEP_2)


def _step_3(word: str) -> str:
    return _swap(word, _STEP_3) if word.endswith(_ANY_STEP_3) else word


def _swap(word: str, endings: dict[str, str]) -> str:
    for ending, instead in endings.items():
        if word.endswith(ending):
            stem = word.removesuffix(ending)
            return stem + instead if _measure(stem) > 0 else word
    return word


def _step_4(word: str) -> str:
    if not word.endswith(_STEP_4):
        return word
    stem = next(word.removesuffix(ending) for ending in _STEP_4 if word.endswith(ending))
    if _measure(stem) <= 1 or (word.endswith("ion") and stem[-1] not in "st"):
        return word
    return stem


def _final_letters(word: str) -> str:
    if word.endswith("e"):
        stem = word[:-1]
        measure = _measure(stem)
        if measure > 1 or (measure == 1 and not _is_short(stem)):
            word = stem
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word
