"""Lines that stand in a large share of the rows: counted in bounded memory, then taken out.

Lossy counting (Manku and Motwani 2002) with rows in place of items: after any number of rows a line's
count is short by at most ERROR of that number, and memory does not grow with the rows.
"""

from __future__ import annotations

from ..keys import normalise

ERROR = 10
"""The count may be short by the share that is looked for, divided by this; the bound is lowered by it."""
FEWEST = 10
"""Rows that must hold a line before it is boilerplate, whatever the share."""
WORDS, LETTERS, LONGEST = 2, 8, 300
"""A shorter line is part of what people write, or of code; a longer one is no signature."""


def key(line: str) -> str:
    """Under what a line is counted; empty when it is none to count."""
    if not LETTERS <= len(line) <= 2 * LONGEST:
        return ""
    one = normalise(line)
    counts = sum(map(str.isalpha, one)) >= LETTERS and len(one) <= LONGEST
    return one if counts and one.count(" ") >= WORDS - 1 else ""


def lines(text: str) -> set[str]:
    """The lines of `text` that count; none when it has but one line, which is then the row itself."""
    found = [line for line in text.split("\n") if not line.isspace() and line]
    return {one for one in map(key, found) if one} if len(found) > 1 else set()


class LineCount:
    """Counts in how many rows each line stands."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.rows = 0
        self._width = max(1, int(ERROR / share))
        self._counts: dict[str, tuple[int, int]] = {}
        """Line -> rows counted, and rows that may have been missed before."""

    def add(self, found: set[str]) -> None:
        """Count the lines of one row; a row without several lines is not one of the rows."""
        if not found:
            return
        self.rows += 1
        bucket = self.rows // self._width
        for line in found:
            count, missed = self._counts.get(line, (0, bucket))
            self._counts[line] = (count + 1, missed)
        if self.rows % self._width == 0:
            self._counts = {line: (n, d) for line, (n, d) in self._counts.items() if n + d > bucket}

    def common(self) -> frozenset[str]:
        """Lines in at least the share of the rows, none of them missed."""
        least = max(FEWEST, (self.share - self.share / ERROR) * self.rows)
        return frozenset(line for line, (count, _) in self._counts.items() if count >= least)


def without_lines(text: str, common: frozenset[str]) -> str:
    """`text` without the lines `common`; a text of one line stays."""
    found = text.split("\n")
    left = [line for line in found if key(line) not in common] if len(found) > 1 else found
    return text if len(left) == len(found) else "\n".join(left)
