"""All statistics of a table as one section of the report."""

from __future__ import annotations

from typing import Any

from ..findings import excerpt
from .asked import CONFLICT, LABEL_ERROR, OUTLIER
from .balance import classes, lengths
from .edges import edges
from .suspects import Noise, Suspect, noise, ranked
from .table import CUT, Table
from .topics import topics

SHOWN = 160
"""Characters of a text in the report."""
EXAMPLES = 30
"""Suspects of each kind that the report lists."""


def section(table: Table) -> dict[str, Any]:
    """The statistics as JSON, those of slices too: what `insight` holds in a report."""
    from . import slices  # scipy, which the rest does without

    found = noise(table)
    told = statistics(table, found, ranked(table, found))
    return {**told, "slices": slices.section(table)}


def statistics(table: Table, found: Noise, suspects: list[Suspect]) -> dict[str, Any]:
    """All but the slices, as JSON."""
    read = min(found.features.cut, CUT) if found.features else 0
    return {
        "rows": len(table),
        "of": table.total,
        "characters_read": read if (table.lengths > read).any() else 0,
        "suspects": {
            code: _suspects(table, [one for one in suspects if code in one.why])
            for code in (LABEL_ERROR, CONFLICT, OUTLIER)
        },
        "classes": classes(table),
        "lengths": lengths(table),
        "topics": topics(table, found.features) if found.features else [],
        "edges": edges(table),
    }


def _suspects(table: Table, suspects: list[Suspect]) -> dict[str, Any]:
    return {
        "count": len(suspects),
        "examples": [
            {
                "source": table.sources[one.row],
                "text": excerpt(table.texts[one.row], SHOWN),
                "label": excerpt(table.answers[one.row], SHOWN),
                "suggested": one.suggested,
                "confidence": one.confidence,
            }
            for one in suspects[:EXAMPLES]
        ],
    }
