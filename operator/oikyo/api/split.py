"""spec.data.split: how rows are divided into training, validation and test."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from .base import HalfFraction, Model, Rule, Word


class Split(Model):
    """How rows are divided. Without timeBy and stratify a row's side depends on its content and the
    seed alone."""

    validation: Annotated[
        HalfFraction,
        Field(description='Share of rows that steers training, 0 to 0.5. Default: "0.1".'),
    ] = "0.1"
    test: Annotated[
        HalfFraction,
        Field(
            description="Share of rows held out for the verdict, 0 to 0.5; ignored when "
            'data.testSources is given. Default: "0.1".'
        ),
    ] = "0.1"
    seed: Annotated[
        int,
        Field(ge=0, le=2**31 - 1, description="Seed of the split. Default: 42."),
    ] = 42
    group_by: Annotated[
        Word | None,
        Field(
            min_length=1,
            description="Column whose equal values stay on one side, such as a customer with several "
            "messages; every row must have it. The hash of the value then decides the side, not that "
            "of the row. Default: none. Example: customer.",
        ),
    ] = None
    time_by: Annotated[
        Word | None,
        Field(
            min_length=1,
            description="Column with the time of a row (2026-11-23T21:00:00Z, a date, or seconds since "
            "1970; without a zone UTC): the newest rows are the test side, the ones before them "
            "validation, the oldest train. Every row must have it. Default: none, the content decides. "
            "Example: created_at.",
        ),
    ] = None
    stratify: Annotated[
        bool,
        Field(
            description="Give each side its share of every class to the nearest row, also of small "
            "classes (TextClassification). When data is added, each new row can move one row of its "
            "class across each cut. Default: false, shares are met on average and no row moves."
        ),
    ] = False

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!(has(self.groupBy) && has(self.timeBy))",
            "a group has rows of many times, and cannot be on one side of a cut in time: write groupBy "
            "or timeBy, not both",
            ".timeBy",
        ),
        Rule(
            "!self.stratify || !(has(self.groupBy) || has(self.timeBy))",
            "stratify divides by class, groupBy and timeBy by a column: write one of the three",
            ".stratify",
        ),
    )
