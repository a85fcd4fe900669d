"""spec.data.duplicates: what is done with rows that are almost the same."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .base import Model, Rule, in_words

_SIMILARITY = "^0[.][5-9][0-9]?$"

Similarity = Annotated[
    str,
    Field(
        max_length=4,
        pattern=_SIMILARITY,
        json_schema_extra=in_words(
            Rule(
                f"self.matches('{_SIMILARITY}')",
                'write a similarity from 0.5 to 0.99 as text, for example "0.8"',
            ),
            instead_of=("pattern",),
        ),
    ),
]
"""A Jaccard similarity in [0.5, 0.99] as text."""


class Duplicates(Model):
    """Near-duplicates. Exact ones are always dropped, and so are rows that stand in the test set."""

    near: Annotated[
        Literal["Ignore", "Warn", "Remove"],
        Field(
            description="What happens to rows that are almost the same: Warn keeps them on one side "
            "of the split and tells them (checks near-duplicate and near-leak), Remove keeps one of "
            "them and drops training rows that resemble a row of data.testSources, Ignore does not "
            "look. Default: Warn. Example: Remove."
        ),
    ] = "Warn"
    similarity: Annotated[
        Similarity,
        Field(
            description="Share of pairs of neighbouring words that two rows must have in common "
            '(Jaccard), as text, 0.5 to 0.99. Default: "0.8". Example: "0.9".'
        ),
    ] = "0.8"
