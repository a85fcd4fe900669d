"""Physical lines of a file, with a cap: a file that is one endless line costs one buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from .row import LONGEST_ROW

NEWLINE = ord("\n")
KEPT = 400
"""Bytes that are kept of a line over the cap, for the excerpt."""
BLOCK = 2 << 20
"""Bytes of a block of lines, about."""


class LongLine(bytes):
    """The beginning of a line that is over the cap."""


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Each line with its end; a line over LONGEST_ROW comes as a LongLine."""
    while line := file.readline(LONGEST_ROW + 2):
        if _fits(line):
            yield line
            continue
        start = LongLine(line[:KEPT])
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_ROW)
        yield start


def _fits(line: bytes) -> bool:
    return len(line) <= LONGEST_ROW or (len(line) <= LONGEST_ROW + 2 and line.endswith(b"\n"))


class Block(NamedTuple):
    """Whole lines."""

    number: int
    """Of the first."""
    data: bytes
    start: int | None
    """Where it begins in the file; None: of a line over the cap there is left enough to tell that it is
    one, and no more."""


def blocks(file: BinaryIO) -> Iterator[Block]:
    """The file in blocks."""
    number, parts, size, start, read, cut = 1, [b""], 0, 0, 0, False
    while data := file.read(BLOCK):
        end = data.rfind(b"\n") + 1
        if end:
            block = b"".join([*parts, data[:end]])
            yield Block(number, block, None if cut else start)
            number += int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == NEWLINE))
            parts, size, start, cut = [], 0, read + end, False
        rest = data[end : end + max(0, LONGEST_ROW + 3 - size)]
        parts.append(rest)
        size += len(rest)
        read += len(data)
        cut |= end + len(rest) < len(data)
    if size:
        yield Block(number, b"".join(parts), None if cut else start)


def of_block(block: bytes) -> Iterator[bytes]:
    """The lines of a block, as `lines` gives them."""
    for line in block.splitlines(keepends=True) if b"\r" not in block else _split(block):
        yield line if _fits(line) else LongLine(line[:KEPT])


def _split(block: bytes) -> list[bytes]:
    """splitlines would take a carriage return for an end."""
    found = [line + b"\n" for line in block.split(b"\n")]
    last = found.pop()[:-1]
    return [*found, last] if last else found
