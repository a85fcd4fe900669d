"""Scores of a classifier whose rows may have several labels; the base model by its own head or by probes.

The probes are one logistic regression for each label, on the base's frozen features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, AutoModelForSequenceClassification

from ..labelset import membership
from .class_scores import set_scores
from .classification import (
    PROBE_ROWS,
    PROBE_STRENGTH,
    Floats,
    Question,
    Tell,
    columns_of,
    forward,
    has_same_labels,
    logits_of,
    pooled,
)
from .models import load_config, load_model, load_tokenizer
from .rows import Row, choose

SURE = 20.0
"""Log-odds of a label that every training row has, or none."""


def ask_sets(folder: Path, question: Question, tell: Tell) -> Floats:
    """Log-odds of each label by the classifier in `folder`: (rows, labels)."""
    model = load_model(AutoModelForSequenceClassification, folder)
    columns = columns_of(model.config.id2label, question.labels, folder)
    return forward(model, load_tokenizer(folder), question, logits_of, tell)[:, columns]


def ask_base_for_sets(
    folder: Path, train: Sequence[Row], question: Question, tell: Tell
) -> tuple[Floats, str]:
    """Log-odds by the base model, and in a sentence how they came about."""
    several = load_config(folder).problem_type == "multi_label_classification"
    if several and has_same_labels(folder, question.labels):
        said = ask_sets(folder, question, tell)
        return said, "the base model's own classification head, which has the same labels"
    fit = choose(train, PROBE_ROWS)
    model, tokenizer = load_model(AutoModel, folder), load_tokenizer(folder)
    lesson = Question(fit, question.labels, question.reading)
    known = forward(model, tokenizer, lesson, pooled, lambda share: tell(share * 0.7))
    asked = forward(model, tokenizer, question, pooled, lambda share: tell(0.7 + share * 0.3))
    return _probe(known, truth_of(lesson), asked, question.seed), (
        "the base model's frozen features, mean pooled, under one logistic regression for each label "
        f"fitted on {len(fit)} rows of the training split"
    )


def truth_of(question: Question) -> npt.NDArray[np.bool_]:
    """(rows, labels): which labels each row has."""
    return membership([row["label"] for row in question.rows], question.labels) > 0


def score_sets(odds: Floats, question: Question) -> dict[str, float]:
    """accuracy of whole sets, f1_macro, f1_micro, and loss: the mean binary cross entropy."""
    truth = truth_of(question)
    # log(1 + exp(x)) - x where the label holds, without overflow
    losses = np.logaddexp(0, odds) - odds * truth
    return {**set_scores(odds > 0, truth), "loss": float(losses.mean())}


def right_sets(odds: Floats, question: Question) -> npt.NDArray[np.bool_]:
    """Of each row, whether its set of labels is right in whole."""
    right: npt.NDArray[np.bool_] = ((odds > 0) == truth_of(question)).all(axis=1)
    return right


def _probe(known: Floats, truth: npt.NDArray[np.bool_], asked: Floats, seed: int) -> Floats:
    scaler = StandardScaler().fit(known)
    seen, given = scaler.transform(known), scaler.transform(asked)
    odds = np.zeros((len(asked), truth.shape[1]))
    for label in range(truth.shape[1]):
        held = truth[:, label]
        if held.all() or not held.any():
            odds[:, label] = SURE if held.all() else -SURE
            continue
        probe = LogisticRegression(C=PROBE_STRENGTH, max_iter=500, random_state=seed)
        odds[:, label] = probe.fit(seen, held).decision_function(given)
    return odds
