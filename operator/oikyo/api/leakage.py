"""spec.data.leakage and spec.data.contamination: what training must not have read before it is judged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import ATOMIC, Model, Name, Word
from .sources import DataSource


class Leakage(Model):
    """Long runs of words that rows to learn share with the rows that judge them."""

    ngram: Annotated[
        int,
        Field(
            ge=5,
            le=64,
            description="Words of a run that two texts cannot share by chance, 5 to 64; also for "
            "data.contamination. Default: 13. Example: 8.",
        ),
    ] = 13
    action: Annotated[
        Literal["Ignore", "Warn", "Remove"],
        Field(
            description="What happens to rows to learn that share such a run with a row of the test side, and to "
            "training rows that share one with the validation split: Warn tells them (checks ngram-leak and "
            "validation-leak, which can refuse the job), Remove drops them, Ignore does not look. Default: Warn. Example: Remove."
        ),
    ] = "Warn"


class Benchmark(DataSource):
    """A file or folder whose items training must not contain; of one with splits the test split."""

    name: Annotated[
        Name, Field(description="Name by which findings and counts tell it. Example: gsm8k.")
    ]
    columns: Annotated[
        tuple[Word, ...],
        Field(
            max_length=16,
            description="Columns with the texts of an item. Default: every text of a row. "
            "Example: [question].",
            json_schema_extra=ATOMIC,
        ),
    ] = ()
    action: Annotated[
        Literal["Warn", "Remove"],
        Field(
            description="What happens to rows to learn that hold an item: Warn tells them (check "
            "contaminated, which can refuse the job), Remove drops them. Default: Warn."
        ),
    ] = "Warn"
