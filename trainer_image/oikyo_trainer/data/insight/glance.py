"""What a job's rows are about, at a glance: topics and edge cases of a small sample.

For jobs that no check asks for more. Terms, weights and directions are those of features.py, of words alone and in a
dense table: numpy does it, and scipy would take as long to load as all of this.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..intake import Intake
from ..split import Sides
from ..spool import Rows, Spool
from .features import FEW, Features, common_words
from .overview import statistics
from .suspects import Noise
from .table import of_rows
from .terms import directions, rarity, weights

ROWS = 600
"""Rows that are looked at; of more, those with the least ids."""
CUT = 300
"""Characters of each that are read for the topics."""
TERMS, AXES, ROUNDS = 2_500, 50, 1


def told(intake: Intake, rows: Rows, sides: Sides, spool: Spool) -> dict[str, Any]:
    """The part `insight` of the report, of topics and edge cases alone."""
    table = of_rows(intake, rows, sides, spool, ROWS)
    seen = glance(table.texts)
    return {**statistics(table, Noise(seen, None, None, ()), []), "suspects": {}}


def glance(texts: list[str], seed: int = 0) -> Features | None:
    """Points of the texts; None when they are too few or have no term in common."""
    found = common_words([text[:CUT] for text in texts], TERMS)
    if len(texts) < FEW or len(found.terms) <= AXES:
        return None
    words = np.zeros((len(texts), len(found.terms)), dtype=np.float32)
    words[found.rows, found.places] = weights(found, rarity(found))
    return Features(directions(words, AXES, ROUNDS, seed), words, found.terms, CUT)
