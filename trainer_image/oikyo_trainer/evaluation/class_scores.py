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


def set_scores(guess: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> dict[str, float]:
    """accuracy: rows whose set is right in whole; F1 over the labels that the rows hold; (rows, labels)."""
    held = np.flatnonzero(truth.any(axis=0))
    options: dict[str, Any] = {"labels": held, "zero_division": 0}
    return {
        "accuracy": float((guess == truth).all(axis=1).mean()),
        "f1_macro": float(f1_score(truth, guess, average="macro", **options)) if len(held) else 0.0,
        "f1_micro": float(f1_score(truth, guess, average="micro", zero_division=0)),
    }
