"""The hashes of a row: what makes two rows the same, and which side of the split a row falls on.

Normal form: Unicode NFC, runs of whitespace as one space. Parts are joined by NUL, which no text of
an accepted row holds, so that no two different rows can look alike.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import NamedTuple


class Keys(NamedTuple):
    """The hashes of one row."""

    input: bytes
    """16 bytes over seed and input: equal for rows that leak into each other; places the row."""
    row: bytes
    """16 bytes over input and answer: equal for duplicates; names the row, whatever the seed."""
    exact: bytes
    """32 bytes over the text as it stands, before normalisation: the content of the version."""
    question: bytes = b""
    """16 bytes: equal for rows that should have the same answer; empty: the input says it."""


def normalise(text: str) -> str:
    """The form under which two texts count as the same."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def keys(
    seed: int, parts: tuple[str, ...], answer: str, question: tuple[str, ...] | None = None
) -> Keys:
    """Hash one row; `parts` are the parts of its input, `question` what has one answer if not they."""
    normal = "\0".join([normalise(part) for part in parts])
    row = f"{normal}\0{normalise(answer)}".encode()
    exact = "\0".join([*parts, answer]).encode()
    asked = "\0".join([normalise(part) for part in question]) if question else ""
    return Keys(
        input=hashlib.sha256(f"{seed}\0{normal}".encode()).digest()[:16],
        row=hashlib.sha256(row).digest()[:16],
        exact=hashlib.sha256(exact).digest(),
        question=hashlib.sha256(asked.encode()).digest()[:16] if question else b"",
    )
