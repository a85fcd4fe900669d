"""Scores of predicted numbers, the same for a validation in training and for the verdict. Pure.

r2 is the share of the variance that is explained (1 less the residual over the total sum of squares);
Pearson (1895) and Spearman (1904) are the correlations of the numbers and of their ranks, ties averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

Floats = npt.NDArray[np.float64]


def number_scores(said: Any, truth: Any) -> dict[str, float]:
    """r2, rmse, mae, pearson and spearman; both (rows,), in the units of the data."""
    said, truth = np.asarray(said, np.float64), np.asarray(truth, np.float64)
    return {name: score(said, truth) for name, score in SCORES.items()}


def r2(said: Floats, truth: Floats) -> float:
    """0 where all of `truth` is the same: there is nothing to explain."""
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((said - truth) ** 2).sum()) / total if total else 0.0


def rmse(said: Floats, truth: Floats) -> float:
    return float(np.sqrt(((said - truth) ** 2).mean()))


def mae(said: Floats, truth: Floats) -> float:
    return float(np.abs(said - truth).mean())


def pearson(said: Floats, truth: Floats) -> float:
    """0 where either is always the same: it says nothing of the other."""
    said, truth = said - said.mean(), truth - truth.mean()
    length = float(np.sqrt((said**2).sum() * (truth**2).sum()))
    return float((said * truth).sum()) / length if length else 0.0


def spearman(said: Floats, truth: Floats) -> float:
    return pearson(rankdata(said), rankdata(truth))


SCORES: dict[str, Callable[[Floats, Floats], float]] = {
    "r2": r2,
    "rmse": rmse,
    "mae": mae,
    "pearson": pearson,
    "spearman": spearman,
}
