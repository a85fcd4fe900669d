"""Rows with several labels: a set of names is one text in the data, and a row of zeros and ones in a model.

As text a set has one form, so that everything that counts, splits and compares labels does so with sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


def text_of(names: Iterable[str]) -> str:
    """The set as a JSON list, sorted, each name once."""
    return json.dumps(sorted(set(names)), ensure_ascii=False)


def names_of(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def all_names(sets: Iterable[str]) -> tuple[str, ...]:
    """Every name of any set, sorted: the classes that a model learns."""
    return tuple(sorted({name for text in sets for name in names_of(text)}))


def membership(sets: Sequence[str], names: Sequence[str]) -> npt.NDArray[np.float32]:
    """(sets, names): 1 where the set holds the name."""
    place = {name: index for index, name in enumerate(names)}
    table = np.zeros((len(sets), len(names)), dtype=np.float32)
    for row, text in enumerate(sets):
        for name in names_of(text):
            table[row, place[name]] = 1
    return table
