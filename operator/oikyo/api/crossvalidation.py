"""spec.evaluation.crossValidation: several trainings, each measured on rows that it did not see."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Model


class CrossValidation(Model):
    """One training more for each fold: on the other folds' rows, measured on the rows of its own."""

    folds: Annotated[
        int,
        Field(
            ge=2,
            le=20,
            description="Parts that the training and validation rows are divided into, by content, 2 to "
            "20; the time of training grows by about as many times. Example: 5.",
        ),
    ]
