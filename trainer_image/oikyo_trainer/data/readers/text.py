"""Plain text: one text on each line, as a row with the column `text`. Blank lines are skipped."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import BadRow, excerpt
from ..sources import DataFile
from .lines import LongLine, lines
from .row import UTF8_BOM, Item, Row, check_encoding, too_long

COLUMN = "text"


def read(file: DataFile) -> Iterator[Item]:
    """Every line but blank ones, without its end, as a Row or a BadRow."""
    with file.open() as opened:
        for number, line in enumerate(lines(opened), 1):
            if number == 1:
                check_encoding(file, line)
                line = line.removeprefix(UTF8_BOM) if line.startswith(UTF8_BOM) else line
            if line and not line.isspace():
                yield _row(number, line)


def _row(number: int, line: bytes) -> Item:
    if isinstance(line, LongLine):
        return too_long(number, line.decode("utf-8", "replace"))
    try:
        return Row(number, {COLUMN: line.decode("utf-8").rstrip("\r\n")})
    except UnicodeDecodeError as error:
        place = f"byte {error.start + 1} of the line is not UTF-8"
        shown = excerpt(line.decode("utf-8", "replace"))
        return BadRow(number, "invalid-utf8", f"{place}; save the file as UTF-8", shown)
