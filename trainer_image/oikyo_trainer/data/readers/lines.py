"""Physical lines of a file, with a cap: a file that is one endless line costs one buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

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


def blocks(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The file in blocks of whole lines, each with the number of its first line.

    Of a line over the cap there is left enough to tell that it is one.
    """
    number, parts, size = 1, [b""], 0
    while data := file.read(BLOCK):
        end = data.rfind(b"\n") + 1
        if end:
            block = b"".join([*parts, data[:end]])
            yield number, block
            number += int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == NEWLINE))
            parts, size = [], 0
        rest = data[end : end + max(0, LONGEST_ROW + 3 - size)]
        parts.append(rest)
        size += len(rest)
    if size:
        yield number, b"".join(parts)


def of_block(block: bytes) -> Iterator[bytes]:
    """The lines of a block, as `lines` gives them."""
    for line in block.splitlines(keepends=True) if b"\r" not in block else _split(block):
        yield line if _fits(line) else LongLine(line[:KEPT])


def _split(block: bytes) -> list[bytes]:
    """splitlines would take a carriage return for an end."""
    found = [line + b"\n" for line in block.split(b"\n")]
    last = found.pop()[:-1]
    return [*found, last] if last else found
