"""The hashes of rows: what makes two rows the same, and which side of the split a row falls on.

Normal form: Unicode NFC, runs of whitespace as one space. Parts are joined by NUL, which no text of
an accepted row holds, so that no two different rows can look alike.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

Index = npt.NDArray[np.int64]
AT_ONCE = 256 << 10
"""Bytes that are looked at together: they and what is made of them stay in the processor's cache."""
BLANK = np.uint8(ord(" "))
NOTHING = bytes(32)
"""In place of a digest."""


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
    """The hashes of many rows."""
    whole = ["\0".join([*row.parts, row.answer]).encode() for row in rows]
    ends = np.cumsum(np.fromiter(map(len, whole), dtype=np.int64, count=len(whole)) + 1) - 1
    # Where this is wrong, the row is not ASCII and is normalised: there it is not used.
    middles = ends - 1 - np.array([len(row.answer) for row in rows], dtype=np.int64)

    def normal(number: int) -> tuple[str, str]:
        row = rows[number]
        return "\0".join([normalise(part) for part in row.parts]), normalise(row.answer)

    keys = _hashed(seed, b"\0".join([*whole, b""]), ends, middles, normal)
    asked = [
        hashlib.sha256("\0".join([normalise(part) for part in row.question]).encode()).digest()[:16]
        for row in rows
        if row.question
    ]
    return keys._replace(question=b"".join(asked))


def keys_of_columns(seed: int, inputs: Any, answers: Any) -> Keys:  # pyarrow is untyped
    """The hashes of rows with an input of one part, given as Arrow arrays of texts."""
    whole = pc.binary_join_element_wise(inputs, answers, "", "\0")
    _, offsets, data = whole.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[: len(whole) + 1].astype(np.int64)
    middles = bounds[:-1] + np.asarray(pc.binary_length(inputs))

    def normal(number: int) -> tuple[str, str]:
        return normalise(inputs[number].as_py()), normalise(answers[number].as_py())

    return _hashed(seed, data or b"", bounds[1:] - 1, middles, normal)


def _hashed(
    seed: int, data: Any, ends: Index, middles: Index, normal: Callable[[int], tuple[str, str]]
) -> Keys:
    """The hashes of the texts in `data`, each behind the NUL of the one before it.

    `middles` are the NULs before the answers, `normal` gives input and answer in normal form: what is in
    it already, as most rows are, is hashed as it stands.
    """
    prefix, sha256, view = f"{seed}\0".encode(), hashlib.sha256, memoryview(data)
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends + 1])[:-1].tolist()
    odd = _not_normal(np.frombuffer(data, dtype=np.uint8), ends)
    exact = [
        sha256(view[start:end]).digest() for start, end in zip(starts, ends.tolist(), strict=True)
    ]
    asked = [
        NOTHING if strange else sha256(prefix + view[start:middle]).digest()
        for start, middle, strange in zip(starts, middles.tolist(), odd.tolist(), strict=True)
    ]
    named, inputs = _halves(exact), _halves(asked)
    mended = np.flatnonzero(odd)
    forms = [normal(number) for number in mended.tolist()]
    inputs[mended] = _halves([sha256(prefix + one.encode()).digest() for one, _ in forms])
    named[mended] = _halves([sha256(f"{one}\0{said}".encode()).digest() for one, said in forms])
    return Keys(inputs.tobytes(), named.tobytes(), b"".join(exact))


def _halves(digests: list[bytes]) -> npt.NDArray[np.uint8]:
    """(digests, 16): the first half of each."""
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)[:, :16].copy()


def _not_normal(data: npt.NDArray[np.uint8], ends: Index) -> npt.NDArray[np.bool_]:
    """Of each text, which ends with the NUL at its place in `ends`, whether normalising may change it.

    ASCII is in normal form when it has no control character, no two blanks in a row, and none at
    either end of a part.
    """
    found = np.zeros(len(ends) + 1, dtype=bool)
    found[0] = bool((data[:1] == BLANK).any())
    for start in range(0, len(data), AT_ONCE):
        place = max(start - 1, 0)  # a blank is seen with the byte before it
        # A blank before the NUL behind a text is told at that NUL.
        odd = _odd(data[place : start + AT_ONCE]) + place
        found[np.searchsorted(ends, odd, side="left")] = True
    return found[: len(ends)]


def _odd(data: npt.NDArray[np.uint8]) -> Index:
    """Places of bytes that are in no text in normal form, and of the second of two that do not meet in one."""
    strange = np.flatnonzero(data - BLANK > 127 - BLANK)  # control characters, and all beyond ASCII
    strange = strange[data[strange] != 0]
    edge = (data & ~BLANK) == 0  # a blank or a NUL
    two = np.flatnonzero(edge[1:] & edge[:-1]) + 1
    return np.concatenate([strange, two[(data[two] | data[two - 1]) == BLANK]])
