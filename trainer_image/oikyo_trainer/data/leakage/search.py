"""Rows that hold a known run, looked for slice by slice on every CPU; the rows go by once for all that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..findings import FIRST, excerpt
from ..near.shingles import TextSlice, Words, text_slices
from ..spool import Index, Mask, Rows, Spool
from ..threads import in_order
from .runs import Hits, Known, find

LETTERS = 2
"""Characters of the shortest word with the blank behind it: a shorter row holds no run."""


@dataclass
class Found:
    """The rows that hold a run of one side, or of one benchmark."""

    known: Known
    rows: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    """Of each row, the first item that it was seen to hold."""
    sizes: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """The words of the first ones."""

    def take(self, found: Sequence[Hits], words: Words, piece: Index, seen: Mask) -> None:
        """Take in what was found in the words of the rows `piece`; `seen` are found already."""
        for hits in found:
            rows = piece[words.row[words.text[hits.first]]]
            _, one = np.unique(rows, return_index=True)
            for place in one[~seen[rows[one]]].tolist():
                first, size = int(hits.first[place]), int(hits.size[place])
                self.rows.append(int(rows[place]))
                self.items.append(int(hits.items[place]))
                self.sizes.append(size)
                if len(self.said) < FIRST:
                    self.said.append(excerpt(words.said(first, size)))
            seen[rows[one]] = True

    def in_order(self) -> list[tuple[int, int, int]]:
        """Row, item and size of each."""
        return list(zip(self.rows, self.items, self.sizes, strict=True))


def search(found: Sequence[Found], spool: Spool, rows: Rows, wanted: Mask) -> None:
    """Look through the rows `wanted` for what each of `found` knows."""
    looked = [one for one in found if len(one.known)]
    if not looked:
        return
    known = [one.known for one in looked]
    shortest = min(one.shortest for one in known)
    wanted = wanted & (rows.lengths >= LETTERS * shortest - 1)
    seen = [np.zeros(len(rows), dtype=bool) for _ in looked]

    def look(part: tuple[Index, TextSlice]) -> tuple[Index, Words, list[list[Hits]]]:
        piece, texts = part
        words = texts.words()
        return piece, words, find(known, words)

    slices = (
        (piece, part)
        for piece, table in spool.gather(wanted, rows.lengths)
        for part in text_slices(table)
    )
    for piece, words, hits in in_order(look, slices):
        for one, found_here, its_seen in zip(looked, hits, seen, strict=True):
            one.take(found_here, words, piece, its_seen)
