"""Texts as weighted terms: which terms count, how much each weighs, and where texts differ most.

Weights are those of scikit-learn's TfidfVectorizer (sublinear counts, smoothed rarity, rows of length 1); it takes
a second to load, numpy makes them in less, and so every job can have a glance. Tables may be dense or scipy's.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
Weights = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

WORD = re.compile(r"\w+")
LETTERS = (3, 4, 5)
"""Lengths of the runs of letters."""
NOTHING = 1e-6
"""A direction with a smaller part of the greatest spread is rounding."""


@dataclass(frozen=True)
class Counted:
    """How often each text holds each term; an entry for each pair that occurs."""

    texts: int
    terms: tuple[str, ...]
    rows: Ints
    """Of each entry: the place of the text."""
    places: Ints
    """Of each entry: the place of the term."""
    times: Ints


def words(text: str) -> list[str]:
    """The words of a text in small letters, and each two that stand side by side."""
    found = WORD.findall(text.lower())
    return found + [f"{one} {other}" for one, other in pairwise(found)]


def letters(word: str) -> list[str]:
    """The runs of letters of a word with a blank before and after it."""
    padded = f" {word} "
    longest = min(LETTERS[-1], len(padded))
    return [
        padded[start : start + length]
        for length in range(LETTERS[0], longest + 1)
        for start in range(len(padded) - length + 1)
    ]


def count(texts: Iterable[Sequence[str]]) -> Counted:
    """Count the terms of each text."""
    numbers = defaultdict[str, int](int)
    numbers.default_factory = numbers.__len__
    found, sizes = array("q"), array("q")
    for terms in texts:
        found.extend([numbers[term] for term in terms])
        sizes.append(len(terms))
    width = max(1, len(numbers))
    pairs = np.repeat(np.arange(len(sizes)), sizes) * width + np.frombuffer(found, np.int64)
    entries, times = np.unique(pairs, return_counts=True)
    rows, places = np.divmod(entries, width)
    return Counted(len(sizes), tuple(numbers), rows, places, times)


def common(counted: Counted, least: int, most: int) -> Counted:
    """The terms that at least `least` texts hold; of more than `most` those that stand most often."""
    terms, size = counted.terms, len(counted.terms)
    holding = np.bincount(counted.places, minlength=size)
    often = np.bincount(counted.places, counted.times, minlength=size)
    kept = np.flatnonzero(holding >= least).tolist()
    kept.sort(key=lambda place: (-often[place], terms[place]))
    return only(counted, sorted(terms[place] for place in kept[:most]))


def only(counted: Counted, terms: Sequence[str]) -> Counted:
    """The entries of `terms`, in whose order they are numbered."""
    places = {term: place for place, term in enumerate(terms)}
    renumbered = np.array([places.get(term, -1) for term in counted.terms], dtype=np.int64)
    found = renumbered[counted.places]
    kept = found >= 0
    rows, times = counted.rows[kept], counted.times[kept]
    return Counted(counted.texts, tuple(terms), rows, found[kept], times)


def rarity(counted: Counted) -> Floats:
    """Of each term: how much it says, the more the fewer texts hold it."""
    holding = np.bincount(counted.places, minlength=len(counted.terms))
    return 1 + np.log((1 + counted.texts) / (1 + holding))


def weights(counted: Counted, rare: Floats) -> Weights:
    """Of each entry; the weights of a text have length 1."""
    found = (1 + np.log(counted.times)) * rare[counted.places]
    lengths = np.sqrt(np.bincount(counted.rows, found**2, minlength=counted.texts))
    weighed: Weights = (found / lengths[counted.rows]).astype(np.float32)
    return weighed


def directions(table: Any, axes: int, rounds: int, seed: int) -> Floats:
    """The rows of a table (rows, terms) along the `axes` directions in which they differ most.

    (rows, at most axes), turned in any way: distances and lengths are what they stand for. Randomised
    (Halko et al. 2011, algorithm 4.4): each round brings the directions nearer to the best ones.
    """
    random = np.random.default_rng(seed).standard_normal((table.shape[1], axes), dtype=np.float32)
    basis = _even(table @ random)
    for _ in range(rounds):
        basis = _even(table @ (table.T @ basis))
    spread, turn = _spread(table.T @ basis)
    return basis @ (turn * np.sqrt(spread))


def _even(columns: Weights) -> Weights:
    """An orthonormal basis of the columns; from their inner products, quicker by far than from a QR."""
    spread, turn = _spread(columns)
    even: Weights = columns @ (turn / np.sqrt(spread)).astype(np.float32)
    return even


def _spread(columns: Weights) -> tuple[Floats, Floats]:
    """The spread of the columns along their axes, and those axes: (axes,) and (columns, axes)."""
    spread, turn = np.linalg.eigh((columns.T @ columns).astype(np.float64))
    some = spread > NOTHING * spread[-1]
    return spread[some], turn[:, some]
