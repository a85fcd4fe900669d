"""Rows that cannot be used: what is said of each, and the count of all.

The readers and the shapes make BadRow values; Findings counts them and keeps the first thousand.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

KEPT = 1000
"""Bad rows that the report lists; all are counted."""
EXCERPT = 80
"""Characters of a row that are shown."""

_MASKS = (
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+"), "<e-mail>"),
    (re.compile(r"\b(?:sk|hf|ghp|gho|xox[abp]|AKIA)[-_A-Za-z0-9]{12,}"), "<key>"),
    (re.compile(r"\b[A-Za-z]{2}\d{2}(?:[ ]?[A-Za-z0-9]{4}){3,7}[ ]?[A-Za-z0-9]{0,3}\b"), "<iban>"),
    (re.compile(r"\+?\d(?:[ ./()-]{0,2}\d){6,}"), "<number>"),
)


class RowFault(ValueError):
    """Why a row is no example of the task: a code and a sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class BadRow:
    """One row that is not used."""

    line: int
    """Line of the file on which the row begins, from 1; in Parquet the number of the row."""
    code: str
    """Stable word for programs, for example not-json."""
    message: str
    """What is wrong and what was expected."""
    excerpt: str = ""
    """The beginning of the row: shortened, personal data masked, control characters escaped."""
    file: str = ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def sentence(self) -> str:
        shown = f" ({self.excerpt})" if self.excerpt else ""
        return f"{self.where}: {self.message}{shown}"


def excerpt(value: object) -> str:
    """The first characters of `value`, fit for a status that other people read."""
    text = value if isinstance(value, str) else repr(value)
    text = text[: 4 * EXCERPT]
    for pattern, mask in _MASKS:
        text = pattern.sub(mask, text)
    # Escaped, so that a row can neither forge a log line nor move a terminal's cursor.
    safe = "".join(letter if letter.isprintable() else _escape(letter) for letter in text)
    return safe if len(safe) <= EXCERPT else safe[: EXCERPT - 1] + "…"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


@dataclass
class Findings:
    """All bad rows of a run, in the order in which they were met."""

    count: int = 0
    kept: list[BadRow] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)

    def add(self, bad: BadRow) -> None:
        self.count += 1
        self.codes[bad.code] += 1
        if len(self.kept) < KEPT:
            self.kept.append(bad)

    def report(self) -> dict[str, Any]:
        return {
            "count": self.count,
            "codes": dict(sorted(self.codes.items())),
            "listed": [asdict(bad) for bad in self.kept],
        }
