"""Errors and correlations of a model that says numbers; the base by its own head or by a linear probe.

The probe is a ridge regression on the base's frozen features, as the one of a classifier is a logistic
one. Its penalty is chosen by leaving each training row out once (Golub, Heath and Wahba 1979), so that
the base is as good as it can be without being changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel, AutoModelForSequenceClassification

from ..errors import Refused
from ..numbers import Scale, scale_in, scale_of
from .classification import PROBE_ROWS, Floats, Question, Tell, forward, logits_of, pooled
from .models import load_config, load_model, load_tokenizer
from .number_scores import number_scores
from .rows import Row, choose

PENALTIES = np.logspace(-1, 5, 13)
"""Penalties that are tried, over standardised features."""


def ask_numbers(folder: Path, question: Question, tell: Tell) -> Floats:
    """The numbers that the model in `folder` says, in the units of the data: (rows,)."""
    model = load_model(AutoModelForSequenceClassification, folder)
    scale = scale_in(model.config)
    if scale is None:
        raise Refused(
            "ScaleMissing",
            f"the config.json of {folder.name} does not say on which scale the model learned",
            evidence=str(folder / "config.json"),
            next_step="Train the model again under a new job name.",
        )
    logits = forward(model, load_tokenizer(folder), question, logits_of, tell)
    return scale.told(logits[:, 0])


def ask_base_for_numbers(
    folder: Path, train: Sequence[Row], question: Question, tell: Tell
) -> tuple[Floats, str]:
    """The numbers that the base model says, and in a sentence how they came about."""
    if scale_in(load_config(folder)) is not None:
        return ask_numbers(folder, question, tell), "the base model's own head, which says numbers"
    fit = choose(train, PROBE_ROWS)
    model, tokenizer = load_model(AutoModel, folder), load_tokenizer(folder)
    lesson = Question(fit, (), question.reading)
    known = forward(model, tokenizer, lesson, pooled, lambda share: tell(share * 0.7))
    asked = forward(model, tokenizer, question, pooled, lambda share: tell(0.7 + share * 0.3))
    return _probe(known, truth_of(fit), asked), (
        "the base model's frozen features, mean pooled, under a ridge regression fitted on "
        f"{len(fit)} rows of the training split"
    )


def truth_of(rows: Sequence[Row]) -> Floats:
    return np.array([row["label"] for row in rows], dtype=np.float64)


def score_numbers(said: Floats, question: Question, scale: Scale) -> dict[str, float]:
    """number_scores, and loss: the mean squared error in standard deviations of the training rows."""
    truth = truth_of(question.rows)
    scores = number_scores(said, truth)
    return {**scores, "loss": (scores["rmse"] / scale.std) ** 2}


def _probe(known: Floats, truth: Floats, asked: Floats) -> Floats:
    """What the probe says, within the numbers that it saw: beyond them a line is no knowledge."""
    features, scale = StandardScaler().fit(known), scale_of(truth)
    probe = RidgeCV(PENALTIES).fit(features.transform(known), scale.learned(truth))
    said = scale.told(probe.predict(features.transform(asked)))
    return np.clip(said, truth.min(), truth.max())
