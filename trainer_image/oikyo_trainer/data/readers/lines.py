"""Physical lines of a file, with a cap: a file that is one endless line costs one buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from .row import LONGEST_ROW

KEPT = 400
"""Bytes that are kept of a line over the cap, for the excerpt."""


class LongLine(bytes):
    """The beginning of a line that is over the cap."""


def lines(file: BinaryIO) -> Iterator[bytes]:
    """Each line with its end; a line over LONGEST_ROW comes as a LongLine."""
    while line := file.readline(LONGEST_ROW + 2):
        if len(line) <= LONGEST_ROW or (len(line) <= LONGEST_ROW + 2 and line.endswith(b"\n")):
            yield line
            continue
        start = LongLine(line[:KEPT])
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_ROW)
        yield start
