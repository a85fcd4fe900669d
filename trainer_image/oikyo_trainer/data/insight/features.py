"""Texts as points: TF-IDF of words and of letters, then the directions in which they differ most.

Word uni- and bigrams carry the subject, n-grams of letters its spellings; truncated SVD (Halko et al.
2011, randomised) makes dense rows of it, on which a linear model costs milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # a second to load, which glance.py has no use for
    from sklearn.feature_extraction.text import TfidfVectorizer

Floats = npt.NDArray[np.float64]

CHARACTERS = 4_000_000
"""Characters that are looked at in all; of each of many texts only the beginning is read."""
LEAST_CUT = 200
TERMS = 30_000
"""Features of each kind at most."""
AXES = 300
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
    words, names = _fitted(word_features(), short)
    letters, _ = _fitted(_letters(), short)
    from scipy import sparse

    table = sparse.hstack([words, letters], format="csr") / np.sqrt(2)
    axes = min(AXES, table.shape[1] - 1, len(texts) - 1)
    if axes < 2:
        return None
    from sklearn.decomposition import TruncatedSVD

    svd = TruncatedSVD(axes, n_iter=2, random_state=seed)
    # Of texts that are all alike it shares out a variance of nothing.
    with np.errstate(divide="ignore", invalid="ignore"):
        points = np.asarray(svd.fit_transform(table), dtype=np.float64)
    return Features(points, words, names, cut)


def word_features() -> TfidfVectorizer:
    """TF-IDF of words and pairs of words, rows of length 1."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        min_df=2,
        max_features=TERMS,
        token_pattern=r"(?u)\b\w+\b",
        dtype=np.float32,
    )


def _letters() -> TfidfVectorizer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 5),
        sublinear_tf=True,
        min_df=3,
        max_features=TERMS,
        dtype=np.float32,
    )


def _fitted(vectorizer: TfidfVectorizer, texts: list[str]) -> tuple[Any, tuple[str, ...]]:
    from scipy import sparse

    try:
        table = vectorizer.fit_transform(texts)
    except ValueError:  # no term stands in enough texts
        return sparse.csr_matrix((len(texts), 0), dtype=np.float32), ()
    return table, tuple(vectorizer.get_feature_names_out().tolist())
