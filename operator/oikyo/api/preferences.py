"""spec.training.objective and preference: learning which of two answers is better."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from .base import Decimal, Model, Rule

Objective = Literal["Supervised", "DPO", "ORPO", "KTO"]
"""What is learned: answers, or preferences between answers (pairs for DPO and ORPO, votes for KTO)."""


class Preference(Model):
    """How strongly preferences pull the model away from its base; names as in TRL."""

    beta: Annotated[
        Decimal,
        Field(
            description="Weight of staying near the base (DPO, KTO), or of the odds against the "
            'likelihood (ORPO). Default: "0.1".'
        ),
    ] = "0.1"
    desirable_weight: Annotated[
        Decimal, Field(description='Weight of a wanted answer (KTO). Default: "1".')
    ] = "1"
    undesirable_weight: Annotated[
        Decimal,
        Field(
            description="Weight of an unwanted answer (KTO); raise it where few are unwanted. "
            'Default: "1".'
        ),
    ] = "1"

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("double(self.beta) > 0.0", 'write a beta above 0, for example "0.1"', ".beta"),
    )
