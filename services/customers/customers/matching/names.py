"""Names across scripts and transliteration schemes: spellings of one name have one `sound`, and near `spelling`s.

The schemes of ICAO Doc 9303, GOST 7.79, 16876, 52290 and 52535, BGN/PCGN, BS 2979, ISO 9, ALA-LC, the passports of
several decades and what people write by themselves agree on hardly a letter. So nobody asks which one was used:
Cyrillic is written in Latin by one table, and then all Latin spellings of a phoneme are made one.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

# Letters of Russian, Ukrainian, Belarusian, Kyrgyz, Kazakh, Tatar, Uzbek, Tajik and Serbian Cyrillic, without case.
_CYRILLIC = {
    **dict(zip("абвгдезиклмнопрстуфы", "abvgdeziklmnoprstufy", strict=True)),
    "ё": "yo",
    "ж": "zh",
    "й": "y",
    "х": "kh",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "щ": "shch",
    "ъ": "",
    "ь": "",
    "э": "e",
    "ю": "yu",
    "я": "ya",
    "і": "i",
    "ї": "yi",
    "є": "ye",
    "ґ": "g",
    "ў": "u",
    "ө": "o",
    "ү": "u",
    "ң": "n",
    "ұ": "u",
    "қ": "k",
    "ғ": "g",
    "һ": "h",
    "ә": "a",
    "ҳ": "h",
    "ҷ": "j",
    "ӣ": "i",
    "ӯ": "u",
    "җ": "j",
    "ђ": "dj",
    "ј": "y",
    "љ": "ly",
    "њ": "ny",
    "ћ": "ch",
    "џ": "j",
    "ѕ": "dz",
    "ќ": "k",
    "ѓ": "g",
}
# Latin letters whose mark says which phoneme they are; any other mark is dropped.
_MARKED = {
    "š": "sh",
    "ž": "zh",
    "č": "ch",
    "ŝ": "shch",
    "ć": "ch",
    "ş": "sh",
    "ç": "ch",
    "ł": "l",
    "ø": "o",
    "ı": "i",
    "ß": "ss",
    "đ": "d",
    "æ": "ae",
    "œ": "oe",
    "þ": "th",
    "ð": "d",
    "ə": "a",
    "û": "yu",
    "â": "ya",
    "ë": "yo",
}
_LETTERS = str.maketrans(_CYRILLIC | _MARKED)
_TIE = "\u0361"
# What stands for a soft or hard sign, for a dropped letter or a stress, belongs to the word.
_WORD = re.compile(r"[\w'’‘ʹʺʼʻ`´\"”·\u0300-\u0361]+")
_SIGN = re.compile(r"[^a-z]+")
# After a sign j is a glide: Под"ячев has no дж.
_HARD = re.compile(r"(?<=[a-z])[^a-z]+j")

# How one phoneme is spelled, the longest first, and the letter that we write it with. Those letters of the alphabet
# that schemes use for different things are free for it: c (ч), j (ж), q (щ), w (ш), x (х), y (ц).
_PHONEMES = (
    ("chtch|shch|schtsch|szcz|shhch|shh|stch|sch|sc(?=[ei])", "q"),
    ("tsch|tch|ch", "c"),
    ("dzh|zh|dj", "j"),
    ("sh|sz", "w"),
    ("kh|gh", "x"),
    ("tts|ts|tcz|cz|tz|tc", "y"),
    ("c(?=[eiy])", "y"),
    ("ph", "f"),
    ("th", "t"),
    ("ck|qu|q|c", "k"),
    ("ou", "u"),
    ("w", "v"),
    ("x", "ks"),
    ("[yj]", "i"),
)
_PHONEME = re.compile("|".join(f"({pattern})" for pattern, _ in _PHONEMES))
_WRITTEN = tuple(written for _, written in _PHONEMES)
# Letters that different people mean differently: what they may be beside what _PHONEMES says.
_AMBIGUOUS = (
    # Джамал or Жанна, not Юлия.
    (re.compile(r"^j(?=[aeiou])"), "zh"),
    # GOST 7.79, not Alexander.
    (re.compile(r"x"), "kh"),
    # Karina, not Franc.
    (re.compile(r"c(?=[aouv])"), "ts"),
    # Polish or Czech, not GOST 7.79 B.
    (re.compile(r"(?<!s)cz"), "ch"),
    # GOST 16876-71's э, not Mehmet.
    (re.compile(r"eh(?=[^aeiouy])"), "e"),
)
_GLIDES = ((re.compile(r"i+"), "i"), (re.compile(r"i(?=e)"), ""), (re.compile(r"io"), "e"))
_REPEATED = re.compile(r"(.)\1+")

# What is heard alike, or told apart by few who write it down.
_ALIKE = str.maketrans({"w": "s'", "q": "s'", "c": "s'", "j": "z'", "g": "h", "x": "h"})
_SOUNDS = (
    # Сергей is Сергій.
    (re.compile(r"ei$"), ""),
    (re.compile(r"f$"), "v"),
    (re.compile(r"ng"), "n"),
    (re.compile(r"(?<=[qwcj])o"), "e"),
    (re.compile(r"i"), ""),
)
MAX_WORDS = 12


def words(name: str) -> Iterator[str]:
    """The words of a name, of twelve at most; hyphens part them."""
    for number, found in enumerate(_WORD.finditer(name)):
        if number == MAX_WORDS:
            return
        yield found.group()


@lru_cache(maxsize=131_072)
def spelling(word: str) -> str:
    """The word in one script and scheme, in which near names are near; empty for what has no letter."""
    return _spelled(_latin(word))


@lru_cache(maxsize=131_072)
def spellings(word: str) -> Sequence[str]:
    """`spelling`, and what else the word may stand for where a letter is used for different things."""
    latin = _latin(word)
    found = {_spelled(latin): None}
    every = latin
    for pattern, meant in _AMBIGUOUS:
        every = pattern.sub(meant, every)
        found[_spelled(pattern.sub(meant, latin))] = None
    found[_spelled(every)] = None
    return tuple(found)


@lru_cache(maxsize=131_072)
def sound(spelled: str) -> str:
    """A key under which the spellings of a name meet, and few other names; of what `spelling` gives."""
    heard = spelled
    for pattern, instead in _SOUNDS:
        heard = pattern.sub(instead, heard)
    return _REPEATED.sub(r"\1", heard.translate(_ALIKE)) or spelled


@lru_cache(maxsize=131_072)
def sounds(word: str) -> Sequence[str]:
    """The sounds of a word's `spellings`."""
    return tuple(dict.fromkeys(sound(spelled) for spelled in spellings(word)))


def _latin(word: str) -> str:
    text = unicodedata.normalize("NFC", word.replace(_TIE, "")).casefold().translate(_LETTERS)
    text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    # A mark on a letter that itself stands for several is only visible now: й, ӣ as i with a breve.
    return _SIGN.sub("", _HARD.sub("y", text.translate(_LETTERS)))


def _spelled(latin: str) -> str:
    text = _PHONEME.sub(lambda found: _WRITTEN[(found.lastindex or 1) - 1], latin)
    for pattern, instead in _GLIDES:
        text = pattern.sub(instead, text)
    return _REPEATED.sub(r"\1", text)
