"""What every reader yields, and the limits that all of them share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..findings import BadRow, excerpt
from ..plain import refuse
from ..sources import DataFile

LONGEST_ROW = 1 << 20
"""Bytes of one row; a longer one is a bad row and is never held in memory."""

UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class Row(NamedTuple):
    """One row as it stands in the file; what its values mean is the shape's business."""

    line: int
    values: Mapping[str, Any]  # any JSON or Arrow value


Item = Row | BadRow


@dataclass(frozen=True)
class Objects:
    """The rows of neighbouring lines, each of which holds one."""

    line: int
    """Of the first."""
    values: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Row]:
        return map(Row, self.lines, self.values)

    @property
    def lines(self) -> range:
        return range(self.line, self.line + len(self.values))

    def cut(self, rows: int) -> Iterator[Objects]:
        """The same in parts of so many rows at most."""
        for start in range(0, len(self.values), rows):
            yield Objects(self.line + start, self.values[start : start + rows])


def too_long(line: int, start: object) -> BadRow:
    return BadRow(
        line, "too-long", f"the row is longer than {LONGEST_ROW >> 20} MiB", excerpt(start)
    )


def check_encoding(file: DataFile, start: bytes) -> None:
    """Refuse a file that is UTF-16 as a whole: every single row of it would be bad."""
    if start.startswith(UTF16_BOMS):
        raise_encoding(file)


def raise_encoding(file: DataFile) -> None:
    raise refuse(
        "InvalidData",
        f"{file.name} is UTF-16; UTF-8 is read",
        "Convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW",
    )
