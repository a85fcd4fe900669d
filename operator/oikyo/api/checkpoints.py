"""spec.training.checkpoints and earlyStopping: when state is saved, and when enough is learned."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .base import Model


class EarlyStopping(Model):
    """Stop when the validation no longer gets better."""

    patience: Annotated[
        int,
        Field(
            ge=1,
            le=100,
            description="Validations without improvement before training stops. Default: 3.",
        ),
    ] = 3


class Checkpoints(Model):
    """When state is saved, and how much of it is kept."""

    every_steps: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="Optimizer steps between checkpoints. Default: a tenth of the run, at most 500.",
        ),
    ] = None
    every_minutes: Annotated[
        int,
        Field(
            ge=1,
            le=1440,
            description="Minutes after which a checkpoint is saved whatever everySteps says. Default: 10.",
        ),
    ] = 10
    keep: Annotated[
        int,
        Field(ge=2, le=100, description="Newest checkpoints kept beside the best one. Default: 2."),
    ] = 2
