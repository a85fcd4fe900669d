"""Small changes of words, from a row's own dice: Wei and Zou 2019, EDA, and letters that slip.

The same text, dice and settings give the same words on every machine: only `Random.random` is used,
whose sequence Python keeps. Words with a digit stay: amounts and numbers carry meaning.
"""

from __future__ import annotations

import hashlib
import re
from random import Random

from oikyo.api.augment import Edits

WORD = re.compile(r"\S+")
LETTERS = re.compile(r"[^\W\d_]+")


def dice(seed: int, row: bytes, copy: int) -> Random:
    """The dice of the `copy`-th synthetic row of the row with the hash `row`."""
    return Random(int.from_bytes(hashlib.sha256(f"{seed}\0{copy}\0".encode() + row).digest()))


def edited(text: str, how: Edits, dice: Random) -> str:
    """`text` with words replaced, swapped, left out and misspelt; runs of whitespace become one space."""
    words = WORD.findall(text)
    words = _replaced(words, how, dice)
    words = _swapped(words, _count(how.swap, words, dice), dice)
    words = _deleted(words, _count(how.delete, words, dice), dice)
    for place in _places(words, _count(how.typos, words, dice), dice):
        words[place] = _misspelt(words[place], dice)
    return " ".join(words)


def _count(share: str, words: list[str], dice: Random) -> int:
    """About share * words: the rest beyond a whole number decides by chance."""
    exact = float(share) * len(words)
    return int(exact) + (dice.random() < exact - int(exact))


def _places(words: list[str], count: int, dice: Random) -> list[int]:
    """`count` places of words that may be changed, each once."""
    free = [n for n, word in enumerate(words) if not any(letter.isdigit() for letter in word)]
    chosen = []
    for _ in range(min(count, len(free))):
        chosen.append(free.pop(int(dice.random() * len(free))))
    return chosen


def _replaced(words: list[str], how: Edits, dice: Random) -> list[str]:
    lists = {one.word.casefold(): one.instead for one in how.synonyms}
    if not lists:
        return words
    return [_synonym(word, lists, float(how.replace), dice) for word in words]


def _synonym(word: str, lists: dict[str, tuple[str, ...]], share: float, dice: Random) -> str:
    match = LETTERS.search(word)
    instead = lists.get(match[0].casefold()) if match else None
    if match is None or instead is None or dice.random() >= share:
        return word
    other = instead[int(dice.random() * len(instead))]
    if match[0][0].isupper():
        other = other[:1].upper() + other[1:]
    return word[: match.start()] + other + word[match.end() :]


def _swapped(words: list[str], count: int, dice: Random) -> list[str]:
    words = list(words)
    for place in _places(words[:-1], count, dice):
        words[place], words[place + 1] = words[place + 1], words[place]
    return words


def _deleted(words: list[str], count: int, dice: Random) -> list[str]:
    gone = set(_places(words, min(count, len(words) - 1), dice))
    return [word for place, word in enumerate(words) if place not in gone]


def _misspelt(word: str, dice: Random) -> str:
    if len(word) < 4:
        return word
    place = 1 + int(dice.random() * (len(word) - 2))
    kind = int(dice.random() * 3)
    if kind == 0:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + (word[place] if kind == 1 else "") * 2 + word[place + 1 :]
