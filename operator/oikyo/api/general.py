"""spec.training.general: what the base knew and must not forget, how it is measured and kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Decimal, HalfFraction, Model, Rule, in_words, list_map
from .data import Fields
from .sources import DataSource

GENERAL_LOSS = "general_loss"
"""Metric on the held-out general rows: mean loss of a token, beside the task's own metrics."""
STEERING, JUDGING = "0.2", "0.2"
"""Shares of the general rows that are measured while training, and for the verdict; the rest is replayed."""
FEWEST = 5
"""Rows of each of these parts, at least."""


class General(Model):
    """Rows of what the model is to go on knowing: measured, and mixed into the training."""

    sources: Annotated[
        tuple[DataSource, ...],
        Field(
            min_length=1,
            max_length=16,
            description="Files of general rows, 1 to 16, in any form of TextGeneration: texts, prompts with "
            "completions, or chats. A fifth of the rows (by content) is measured at each validation, a fifth for "
            "the verdict, and only the rest may be replayed.",
            json_schema_extra={
                **list_map("uri"),
                **in_words(
                    Rule(
                        "size(self) > 0",
                        "name at least one file of general rows, for example "
                        "[{uri: pvc://datasets/general.jsonl}]",
                    ),
                    instead_of=("minItems",),
                ),
            },
        ),
    ]
    fields: Annotated[
        Fields,
        Field(description="Column names of the general rows. Default: the usual names are tried."),
    ] = Fields()
    replay: Annotated[
        HalfFraction,
        Field(
            description="Share of the rows of each epoch that are general rows, 0 to 0.5; chosen by content, "
            'repeated where there are too few. "0" measures alone. Default: "0.05". Example: "0.1".'
        ),
    ] = "0.05"
    max_increase: Annotated[
        Decimal,
        Field(
            description="How much the mean loss of a general token may rise above the base's; 0.1 is a "
            "perplexity 10.5 % higher. The best checkpoint is chosen among those that keep to it, and a result "
            'that does not is rejected. Default: "0.1".'
        ),
    ] = "0.1"
    max_rows: Annotated[
        int,
        Field(
            ge=FEWEST,
            le=1_000_000,
            description="General rows measured at most, at each validation and for the verdict, chosen by "
            "content. Default: 500.",
        ),
    ] = 500
    interpolation: Annotated[
        Literal["Never", "Auto"],
        Field(
            description="Whether the weights may be taken part of the way back to the base's once the training is "
            "done (WiSE-FT). Auto: the checkpoint is chosen by selectBy alone, then of 1, 0.8, 0.6, 0.4 and 0.2 of "
            "the way from the base the one with the least validation loss that keeps to maxIncrease. Needs whole "
            "weights: method Full, or merge. Default: Never."
        ),
    ] = "Never"
