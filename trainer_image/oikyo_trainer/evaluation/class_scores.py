"""Scores of a classifier's answers, the same for a validation in training and for the verdict. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, f1_score


def class_scores(scores: npt.NDArray[Any], truth: npt.NDArray[Any]) -> dict[str, float]:
    """accuracy, and f1_macro over the classes that the rows hold; scores (rows, classes)."""
    guess = scores.argmax(axis=1)
    macro = f1_score(truth, guess, labels=np.unique(truth), average="macro", zero_division=0)
    return {"accuracy": float(accuracy_score(truth, guess)), "f1_macro": float(macro)}
