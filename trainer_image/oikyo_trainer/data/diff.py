"""What differs between two files or versions: rows, and the distributions they are drawn from.

A row is known by its id, the hash of input and answer. A row is changed when its input stands on both
sides and its answers differ. Drift of lengths and classes is the population stability index (PSI: below
0.1 hardly any, from 0.25 on clear, by convention), that of words the Jensen-Shannon divergence in
bits, 0 to 1 (Lin 1991).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .findings import excerpt
from .insight.table import CUT, Table
from .keys import normalise
from .split import SIDES

Floats = npt.NDArray[np.float64]

WORD = re.compile(r"\w+")
BINS = 10
WORDS = 10
"""Words that the drift of the vocabulary names in each direction."""
EXAMPLES = 10
SHOWN = 120
SOME, CLEAR = 0.1, 0.25
"""PSI from which a drift is some, and clear."""


def diff(old: Table, new: Table) -> dict[str, Any]:
    """Everything that `oikyo data diff` tells, as JSON."""
    before, after = set(old.ids), set(new.ids)
    changed = _changed(old, new, before, after)
    gone = {was for was, _ in changed}
    come = {now for _, now in changed}
    added = [row for row, name in enumerate(new.ids) if name not in before and row not in come]
    removed = [row for row, name in enumerate(old.ids) if name not in after and row not in gone]
    return {
        "rows": {"old": len(old), "new": len(new), "same": len(before & after)},
        "added": _listed(new, added),
        "removed": _listed(old, removed),
        "changed": {
            "count": len(changed),
            "examples": [
                {**_told(new, now), "was": excerpt(old.answers[was], SHOWN)}
                for was, now in changed[:EXAMPLES]
            ],
        },
        "moved": _moved(old, new),
        "drift": _drift(old, new),
    }


def _changed(old: Table, new: Table, before: set[str], after: set[str]) -> list[tuple[int, int]]:
    """Pairs of places (old, new): one input, an answer that is gone and one that is new."""
    by_input: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(old.texts):
        if old.ids[row] not in after and len(text) < CUT:
            by_input[normalise(text)].append(row)
    pairs = []
    for row, text in enumerate(new.texts):
        if new.ids[row] not in before and (rows := by_input.get(normalise(text))):
            pairs.append((rows.pop(0), row))
    return pairs


def _moved(old: Table, new: Table) -> int:
    """Rows of both that stand on another side of the split now."""
    sides = dict(zip(old.ids, old.sides.tolist(), strict=True))
    pairs = zip(new.ids, new.sides.tolist(), strict=True)
    return sum(sides.get(name, side) != side for name, side in pairs)


def _listed(table: Table, rows: Sequence[int]) -> dict[str, Any]:
    sides = Counter(SIDES[table.sides[row]] for row in rows)
    examples = [_told(table, row) for row in rows[:EXAMPLES]]
    return {"count": len(rows), "sides": dict(sorted(sides.items())), "examples": examples}


def _told(table: Table, row: int) -> dict[str, str]:
    return {
        "source": table.sources[row],
        "text": excerpt(table.texts[row], SHOWN),
        "answer": excerpt(table.answers[row], SHOWN),
    }


def _drift(old: Table, new: Table) -> dict[str, Any]:
    if not len(old) or not len(new):
        return {}
    return {
        "lengths": {
            **_psi(*_binned(old.lengths, new.lengths)),
            "median": [int(np.median(old.lengths)), int(np.median(new.lengths))],
        },
        "classes": _classes(old, new) if old.labels and new.labels else None,
        "numbers": _numbers(old, new),
        "words": _words(old.texts, new.texts),
    }


def _numbers(old: Table, new: Table) -> dict[str, Any] | None:
    before, after = old.numbers, new.numbers
    if before is None or after is None:
        return None
    return {
        **_psi(*_binned(before, after)),
        "median": [float(np.median(before)), float(np.median(after))],
    }


def _binned(
    old: npt.NDArray[Any], new: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Counts between the deciles of the old values."""
    edges = np.unique(np.quantile(old, np.linspace(0, 1, BINS + 1)[1:-1]))
    return tuple(  # type: ignore[return-value]
        np.bincount(np.searchsorted(edges, part, side="left"), minlength=len(edges) + 1)
        for part in (old, new)
    )


def _psi(old: npt.NDArray[np.int64], new: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Population stability index; half a row is added everywhere, so that none is empty."""
    p, q = ((part + 0.5) / (part + 0.5).sum() for part in (old, new))
    value = float(((q - p) * np.log(q / p)).sum())
    words = "clear" if value >= CLEAR else "some" if value >= SOME else "hardly any"
    return {"psi": round(value, 4), "drift": words}


def _classes(old: Table, new: Table) -> dict[str, Any]:
    names = sorted({*old.labels, *new.labels})
    counts = [Counter(table.answers) for table in (old, new)]
    p, q = (np.array([part[name] for name in names]) for part in counts)
    return {
        **_psi(p, q),
        "new": [name for name in names if not counts[0][name]],
        "gone": [name for name in names if not counts[1][name]],
    }


def _words(old: Iterable[str], new: Iterable[str]) -> dict[str, Any]:
    counts = [_counted(texts) for texts in (old, new)]
    names = sorted(counts[0].keys() | counts[1].keys())
    p, q = (
        np.array([part[name] for name in names], dtype=np.float64) / max(1, part.total())
        for part in counts
    )
    middle = (p + q) / 2
    share = _entropy_part(p, middle) / 2 + _entropy_part(q, middle) / 2
    # A word's own part of the divergence says how much it has to do with it.
    order = np.argsort(-share, kind="stable").tolist()
    return {
        "js": round(float(share.sum()), 4),
        "more": [names[i] for i in order if q[i] > p[i]][:WORDS],
        "less": [names[i] for i in order if q[i] < p[i]][:WORDS],
    }


def _entropy_part(part: Floats, middle: Floats) -> Floats:
    safe = np.where(part > 0, part, middle)
    return np.where(part > 0, part * np.log2(safe / np.where(middle > 0, middle, 1)), 0.0)


def _counted(texts: Iterable[str]) -> Counter[str]:
    return Counter(word for text in texts for word in WORD.findall(text.lower()))
