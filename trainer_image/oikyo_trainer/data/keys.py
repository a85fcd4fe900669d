"""The hashes of rows: what makes two rows the same, and which side of the split a row falls on.

Normal form: Unicode NFC, runs of whitespace as one space. Parts are joined by NUL, which no text of
an accepted row holds, so that no two different rows can look alike.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Keys(NamedTuple):
    """The hashes of one row, or of several rows one behind the other."""

    input: bytes
    """16 bytes over seed and input: equal for rows that leak into each other; places the row."""
    row: bytes
    """16 bytes over input and answer: equal for duplicates; names the row, whatever the seed."""
    exact: bytes
    """32 bytes over the text as it stands, before normalisation: the content of the version."""
    question: bytes = b""
    """16 bytes: equal for rows that should have the same answer; empty: the input says it."""


class Hashed(NamedTuple):
    """The texts of a row that count for its hashes."""

    parts: tuple[str, ...]
    """Of its input."""
    answer: str
    question: tuple[str, ...] | None = None
    """What has one answer only; None: the input."""


def normalise(text: str) -> str:
    """The form under which two texts count as the same."""
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())


def keys(
    seed: int, parts: tuple[str, ...], answer: str, question: tuple[str, ...] | None = None
) -> Keys:
    """Hash one row; `parts` are the parts of its input, `question` what has one answer if not they."""
    return keys_of(seed, [Hashed(parts, answer, question)])


def keys_of(seed: int, rows: Sequence[Hashed]) -> Keys:
    """The hashes of many rows: what is in normal form already, as most rows are, is hashed as it is."""
    whole = ["\0".join([*row.parts, row.answer]).encode() for row in rows]
    odd = _not_normal(whole)
    prefix, sha256 = f"{seed}\0".encode(), hashlib.sha256
    inputs, named, exact, asked = [], [], [], []
    for row, text, is_odd in zip(rows, whole, odd, strict=True):
        digest = sha256(text).digest()
        exact.append(digest)
        if is_odd:
            normal = "\0".join([normalise(part) for part in row.parts])
            inputs.append(sha256(prefix + normal.encode()).digest()[:16])
            named.append(sha256(f"{normal}\0{normalise(row.answer)}".encode()).digest()[:16])
        else:  # ASCII: as many bytes as characters
            inputs.append(sha256(prefix + text[: -1 - len(row.answer)]).digest()[:16])
            named.append(digest[:16])
        if row.question:
            said = "\0".join([normalise(part) for part in row.question])
            asked.append(sha256(said.encode()).digest()[:16])
    return Keys(b"".join(inputs), b"".join(named), b"".join(exact), b"".join(asked))


def _not_normal(texts: Sequence[bytes]) -> list[bool]:
    """Of each text whether normalising it may change it; looked for in all of them at once.

    ASCII is in normal form when it has no control character, no two blanks in a row, and none at
    either end of a part.
    """
    data = np.frombuffer(b"\0".join([b"", *texts, b""]), dtype=np.uint8)
    blank = data == ord(" ")
    edge = blank | (data == 0)
    odd = data - np.uint8(1) < 31
    odd |= data > 127
    odd[1:] |= (blank[1:] & edge[:-1]) | (edge[1:] & blank[:-1])
    ends = np.cumsum(np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)) + 1)
    found = np.zeros(len(texts) + 1, dtype=bool)
    # A blank before the NUL behind a text is told at that NUL.
    found[np.searchsorted(ends, np.flatnonzero(odd), side="left")] = True
    return _bools(found[: len(texts)])


def _bools(values: npt.NDArray[np.bool_]) -> list[bool]:
    return values.tolist()
