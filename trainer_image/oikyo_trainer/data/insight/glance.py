"""What a job's rows are about, at a glance: topics and edge cases of a small sample.

For jobs that no check asks for more: scikit-learn alone would take a second to load, and this takes a
seventh of one. Weights and names are those of features.py (TF-IDF of words and pairs of words), the
directions a randomised projection (Halko et al. 2011).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..intake import Intake
from ..split import Sides
from ..spool import Rows, Spool
from .features import FEW, Features
from .overview import statistics
from .suspects import Noise
from .table import of_rows

ROWS = 600
"""Rows that are looked at; of more, those with the least ids."""
CUT = 300
"""Characters of each that are read for the topics."""
TERMS, AXES, ROUNDS = 2_500, 50, 1
WORD = re.compile(r"\w+")


def told(intake: Intake, rows: Rows, sides: Sides, spool: Spool) -> dict[str, Any]:
    """The part `insight` of the report, of topics and edge cases alone."""
    table = of_rows(intake, rows, sides, spool, ROWS)
    seen = glance(table.texts)
    return {**statistics(table, Noise(seen, None, None, ()), []), "suspects": {}}


def glance(texts: list[str], seed: int = 0) -> Features | None:
    """Points of the texts; None when they are too few or have no term in common."""
    counted = [Counter(_terms(text[:CUT].lower())) for text in texts]
    common = Counter(term for one in counted for term in one)
    kept = sorted((term for term in common if common[term] > 1), key=lambda t: (-common[t], t))
    terms = tuple(sorted(kept[:TERMS]))
    if len(texts) < FEW or len(terms) <= AXES:
        return None
    words = _weights(counted, terms, np.array([common[term] for term in terms]))
    basis = words.T @ np.random.default_rng(seed).standard_normal((len(texts), AXES))
    for _ in range(ROUNDS):
        basis = words.T @ (words @ np.linalg.qr(basis)[0])
    return Features(words @ np.linalg.qr(basis)[0], words, terms, CUT)


def _terms(text: str) -> list[str]:
    words = WORD.findall(text)
    return words + [f"{one} {other}" for one, other in pairwise(words)]


def _weights(
    counted: list[Counter[str]], terms: tuple[str, ...], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """(texts, terms): TF-IDF with the logarithm of the counts, rows of length 1."""
    places = {term: place for place, term in enumerate(terms)}
    counts = np.zeros((len(counted), len(terms)), dtype=np.float32)
    for own, one in zip(counts, counted, strict=True):
        for term in one.keys() & places.keys():
            own[places[term]] = 1 + math.log(one[term])
    counts *= 1 + np.log((1 + len(counted)) / (1 + rows))
    counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
    return counts
