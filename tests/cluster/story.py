"""Tests of one file that go through one story: where one fails, those behind it may fail for no reason of theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

LONGEST = 2000
"""Characters of a reason that are told again."""


class Failure(NamedTuple):
    test: str
    reason: str


@dataclass
class Stories:
    """What failed first in each file."""

    first: dict[str, Failure] = field(default_factory=dict)

    def failed(self, file: str, test: str, reason: str) -> Failure | None:
        """Note a failure; the first one of the file where that was another test's."""
        first = self.first.setdefault(file, Failure(test, reason[:LONGEST]))
        return first if first.test != test else None

    def passed(self, file: str, test: str) -> None:
        """A test that was run again and passed is no reason any more."""
        if file in self.first and self.first[file].test == test:
            del self.first[file]
