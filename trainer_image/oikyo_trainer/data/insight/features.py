"""Texts as points: TF-IDF of words and of letters, then the directions in which they differ most.

Word uni- and bigrams carry the subject, n-grams of letters its spellings; on the dense rows that the
directions make of both a linear model costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .terms import Counted, common, count, directions, letters, rarity, weights, words

Floats = npt.NDArray[np.float64]

CHARACTERS = 4_000_000
"""Characters that are looked at in all; of each of many texts only the beginning is read."""
LEAST_CUT = 200
TERMS = 30_000
"""Features of each kind at most."""
OF_WORDS, OF_LETTERS = 2, 3
"""Texts that must hold a term of each kind, for it to be one."""
AXES, ROUNDS = 300, 2
FEW = 12
"""Below so many rows there is nothing to compare."""


@dataclass(frozen=True)
class Features:
    """What the texts hold, twice: as points to compute with and as words to speak of."""

    points: Floats
    """(rows, axes); norms at most 1, near 0 for a text that shares nothing with the rest."""
    words: Any
    """(rows, terms), sparse or not: TF-IDF of words and pairs; without columns when no term repeats."""
    terms: tuple[str, ...]
    """The words and pairs of `words`."""
    cut: int
    """Characters of each text that were read."""


def features(texts: list[str], seed: int = 0, characters: int = CHARACTERS) -> Features | None:
    """Points of the texts; None when they are too few or have no term in common."""
    if len(texts) < FEW:
        return None
    cut = max(LEAST_CUT, characters // len(texts))
    short = [text[:cut] for text in texts]
    from scipy import sparse

    said = common_words(short)
    own = table(said, rarity(said))
    spelt = common_letters(short)
    both = sparse.hstack([own, table(spelt, rarity(spelt))], format="csr") * np.float32(0.5**0.5)
    axes = min(AXES, both.shape[1] - 1, len(texts) - 1)
    if axes < 2:
        return None
    return Features(directions(both, axes, ROUNDS, seed), own, said.terms, cut)


def common_words(texts: Sequence[str], most: int = TERMS) -> Counted:
    """The words and pairs of words that more than one of the texts holds, at `most` so many."""
    return common(count(map(words, texts)), OF_WORDS, most)


def table(counted: Counted, rare: Floats) -> Any:
    """TF-IDF as scipy's sparse table: (texts, terms)."""
    return _sparse(counted, weights(counted, rare))


def common_letters(texts: Sequence[str]) -> Counted:
    """The runs of letters that some of the texts hold; words repeat, so that each is taken apart once."""
    of_texts = count(text.lower().split() for text in texts)
    of_words = count(map(letters, of_texts.terms))
    found = (_sparse(of_texts, of_texts.times) @ _sparse(of_words, of_words.times)).tocoo()
    spelt = Counted(len(texts), of_words.terms, found.row, found.col, found.data)
    return common(spelt, OF_LETTERS, TERMS)


def _sparse(counted: Counted, values: npt.NDArray[Any]) -> Any:
    from scipy import sparse

    shape = (counted.texts, len(counted.terms))
    return sparse.csr_matrix((values, (counted.rows, counted.places)), shape=shape)
