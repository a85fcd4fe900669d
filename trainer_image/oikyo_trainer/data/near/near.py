"""Which rows are near-duplicates, which of them stays, and which rows belong together.

Among near-duplicates a row of the given test set stays, else the one with the least hash of its
content: the order of the sources does not decide. See docs/explanation/splits.md.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from oikyo.api.duplicates import Duplicates

from ..dedup import Kept, in_conflict, in_order_of, several
from ..findings import FIRST, Finding, excerpt
from ..intake import Intake
from ..spool import Index, Mask, Rows, Spool, slices
from . import bands, verify

Share = npt.NDArray[np.float64]
FILE = "near.bands"
LARGEST = 0.05
"""A family with more than this share of the inputs shares a template; it is not kept together."""
FEW = 20
"""So many inputs are a family whatever their share."""


@dataclass(frozen=True)
class Near:
    """What was found, by row."""

    rows: Index
    """The rows that resemble another one that stays."""
    partners: Index
    """Of each, the row that stays."""
    similarity: npt.NDArray[np.float64]
    leaked: Mask
    """Of each, whether its partner is in the given test set."""
    families: Index
    """Of every row of the data, the number of its family: rows of one family share a side."""


def find(
    spool: Spool,
    rows: Rows,
    kept: Kept,
    given_test: Mask,
    how: Duplicates,
    at: Path,
    look: bands.Look | None = None,
) -> Near:
    """Compare every input with every other; the bands wait in the file `at`, 256 bytes a row.

    `look` is shown one row of each input that stays, with its words.
    """
    nodes = _nodes(rows, kept, given_test)
    threshold = float(how.similarity)
    mapped = bands.write(at, spool, rows, nodes, bands.banding(threshold), look)
    pairs = bands.candidates(mapped)
    del mapped
    at.unlink()
    similarity = verify.similarities(spool, rows, nodes, pairs)
    alike = similarity >= threshold
    pairs, similarity = pairs[alike], similarity[alike]
    families = _families(rows, kept.groups, nodes, pairs)
    found = _resembling(rows, kept, given_test, nodes, pairs)
    stay, gone = nodes[pairs[found, 0]], nodes[pairs[found, 1]]
    return _by_row(kept, given_test, gone, stay, similarity[found], families)


def apply(kept: Kept, near: Near, how: Duplicates) -> Kept:
    """What stays: under Remove without the rows that were found; families in any case."""
    kept = replace(kept, families=near.families)
    if how.near != "Remove":
        return kept
    duplicate, leaked, mask = kept.duplicate.copy(), kept.leaked.copy(), kept.mask.copy()
    duplicate[near.rows[~near.leaked]] = True
    leaked[near.rows[near.leaked]] = True
    mask[near.rows] = False
    conflicts = in_conflict(mask, kept.questions)
    return replace(kept, mask=mask, duplicate=duplicate, leaked=leaked, conflicts=conflicts)


def tell(intake: Intake, spool: Spool, rows: Rows, near: Near, how: Duplicates) -> None:
    """A finding for each row that was found, with the place of the row that it resembles."""
    done = "; it is dropped" if how.near == "Remove" else ""
    for leaked, code in ((False, "near-duplicate"), (True, "near-leak")):
        own = np.flatnonzero(near.leaked == leaked)
        shown = _shown(spool, rows, near.rows[own[:FIRST]])
        for number, place in enumerate(own.tolist()):
            row, partner = int(near.rows[place]), int(near.partners[place])
            other = f"{intake.files[rows.files[partner]].name}:{rows.lines[partner]}"
            message = f"is {near.similarity[place]:.0%} like {other}{done}"
            quoted = shown[number] if number < len(shown) else ""
            file, line = intake.files[rows.files[row]].name, int(rows.lines[row])
            intake.findings.add(Finding(line, code, message, quoted, file, other=other))


def report(near: Near, how: Duplicates) -> dict[str, object]:
    """For report.json."""
    return {
        "action": how.near,
        "similarity": how.similarity,
        "count": int((~near.leaked).sum()),
        "leaked": int(near.leaked.sum()),
    }


def _shown(spool: Spool, rows: Rows, wanted: Index) -> list[str]:
    texts = []
    for _, table in spool.gather(wanted, rows.lengths):
        name = next((n for n in ("text", "prompt", "messages") if n in table.column_names), "")
        for value in table.column(name).to_pylist():
            texts.append(excerpt(value if isinstance(value, str) else value[-1]["content"]))
    return texts


def _nodes(rows: Rows, kept: Kept, given_test: Mask) -> Index:
    """One row of each input that stays, those of the test set first, then by content."""
    order = in_order_of(rows.rows)
    seen = np.zeros(len(rows) + 1, dtype=bool)
    nodes, count = rows.room(len(rows)), 0
    for tests in (True, False) if given_test.any() else (False,):
        for part in slices(len(rows)):
            own = order[part]
            own = own[kept.mask[own] & (given_test[own] == tests)]
            groups, first = np.unique(kept.groups[own], return_index=True)
            own = own[np.sort(first[~seen[groups]])]
            seen[groups] = True
            nodes[count : count + len(own)] = own
            count += len(own)
    return nodes[:count]


def _families(rows: Rows, groups: Index, nodes: Index, pairs: npt.NDArray[np.int64]) -> Index:
    """Numbers of families by row: connected inputs, unless they are too many."""
    alike = np.unique(pairs)
    part = connected(len(alike), np.searchsorted(alike, pairs))
    sizes = np.bincount(part, minlength=1)
    together = sizes[part] <= max(FEW, LARGEST * len(nodes))
    own, leader = groups[nodes[alike[together]]], groups[nodes[alike[part[together]]]]
    order = np.argsort(own)
    own, leader = own[order], leader[order]
    if not len(own):
        return groups
    families = rows.room(len(groups))
    for piece in slices(len(groups)):
        number = groups[piece]
        place = np.minimum(np.searchsorted(own, number), len(own) - 1)
        families[piece] = np.where(own[place] == number, leader[place], number)
    return families


def connected(count: int, pairs: npt.NDArray[np.int64]) -> Index:
    """Of each of `count` nodes the least node that pairs lead to.

    Each round halves the ways at least (Shiloach and Vishkin 1982); scipy does the same, but takes an
    eighth of a second to import.
    """
    part = np.arange(count)
    while True:
        low, high = part[pairs[:, 0]], part[pairs[:, 1]]
        apart = low != high
        if not apart.any():
            return part
        pairs = pairs[apart]
        low, high = low[apart], high[apart]
        np.minimum.at(part, np.maximum(low, high), np.minimum(low, high))
        while (deeper := part[part] != part).any():
            part[deeper] = part[part[deeper]]


def _resembling(
    rows: Rows, kept: Kept, given_test: Mask, nodes: Index, pairs: npt.NDArray[np.int64]
) -> Index:
    """Numbers of pairs of which the second node could go for the first, in the order of the nodes.

    A training input goes when a test input is like it, or one that stays and has the same answer;
    an input with several answers goes for the test set alone.
    """
    many = several(kept.mask, kept.groups)
    order = np.lexsort((pairs[:, 0], pairs[:, 1]))
    ones, others = (nodes[pairs[order, side]] for side in (0, 1))
    labels = rows.answers
    goes = given_test[ones] | (~many[kept.groups[others]] & (labels[ones] == labels[others]))
    order = order[goes & ~given_test[others]]
    gone, found = bytearray(len(nodes)), array("q")
    for number, (i, j) in zip(order, pairs[order], strict=True):
        if not gone[i] and not gone[j]:
            gone[j] = 1
            found.append(number)
    return np.array(found, dtype=np.int64)


def _by_row(
    kept: Kept, given_test: Mask, gone: Index, stay: Index, similarity: Share, families: Index
) -> Near:
    """By row what was found of the nodes: `gone` and `stay` are rows, one of each input."""
    groups = kept.groups[gone]
    order = np.argsort(groups)
    out = np.zeros(len(kept.groups) + 1, dtype=bool)
    out[groups] = True
    index = np.flatnonzero(kept.mask & out[kept.groups])
    place = order[np.searchsorted(groups, kept.groups[index], sorter=order)]
    others = stay[place]
    return Near(index, others, similarity[place], given_test[others], families)
