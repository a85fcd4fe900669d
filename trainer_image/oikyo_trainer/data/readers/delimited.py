"""CSV (RFC 4180) with a header: quoting, embedded newlines, BOM, CRLF; comma, semicolon or tab. TSV: tab.

One broken quote must not swallow the rows behind it: when a row that spans lines turns out wrong,
its first line is reported and the others are read again, each by itself.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from ..findings import BadRow, excerpt
from ..plain import refuse
from ..sources import DataFile
from .lines import LongLine, lines
from .row import LONGEST_ROW, UTF8_BOM, Item, Row, check_encoding, too_long

DELIMITERS = ",;\t"

csv.field_size_limit(2 * LONGEST_ROW)  # ours is tighter and is told as a bad row


class _TooLong(Exception):
    pass


class _LongText(str):
    """The beginning of a line that is over the cap; it stays known as such when it is read again."""

    __slots__ = ()


class _Lines:
    """Feeds csv.reader line by line and remembers the lines of the row that is being read."""

    def __init__(self, opened: BinaryIO) -> None:
        self._file = lines(opened)
        self._again: deque[str] = deque()
        self.number = 0
        """Of the newest line that was handed out."""
        self.row: list[str] = []
        """Lines of the row so far."""
        self._size = 0

    @property
    def single(self) -> bool:
        """Whether the next line is one that is read again, by itself."""
        return bool(self._again)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._again:
            if self.row:  # a row that is read again ends with its line
                raise StopIteration
            line = self._again.popleft()
        else:
            raw = next(self._file)
            # Undecodable bytes become lone surrogates: the row keeps its place and is told bad.
            line = raw.decode("utf-8", "surrogateescape")
            line = _LongText(line) if isinstance(raw, LongLine) else line
        self.number += 1
        self.row.append(line)
        self._size += len(line)
        if self._size > LONGEST_ROW or isinstance(line, _LongText):
            raise _TooLong
        return line

    def begin(self) -> None:
        self.row.clear()
        self._size = 0

    def again(self) -> None:
        """Give back every line of the row but the first."""
        rest = self.row[1:]
        self.number -= len(rest)
        self._again.extendleft(reversed(rest))


def read(file: DataFile) -> Iterator[Item]:
    """Every row below the header, as a Row or a BadRow; `line` is where the row begins."""
    with file.open() as opened:
        feed = _Lines(opened)
        delimiter, header = _header(file, feed)
        while True:
            feed.begin()
            start = feed.number + 1
            cells = _cells(feed, delimiter, start)
            if cells is None:
                return
            if isinstance(cells, BadRow):
                yield cells
            elif cells:
                yield _row(start, header, cells)


def _cells(feed: _Lines, delimiter: str, start: int) -> list[str] | BadRow | None:
    """The cells of the next row, [] for a blank line, None at the end of the file."""
    single = feed.single
    try:
        return next(csv.reader(feed, delimiter=delimiter, strict=True), None)
    except _TooLong:
        return _give_back(feed, too_long(start, feed.row[0]))
    except csv.Error as error:
        spans = len(feed.row) > 1
        message = (
            f"the quote that opens on line {start} is not closed as CSV asks ({error}); "
            'a quote inside a quoted cell is written ""'
            if spans or single
            else f"the line is not CSV: {error}"
        )
        return _give_back(feed, BadRow(start, "quoting", message, excerpt(feed.row[0].rstrip())))


def _give_back(feed: _Lines, bad: BadRow) -> BadRow:
    feed.again()
    return bad


def _header(file: DataFile, feed: _Lines) -> tuple[str, list[str]]:
    """The delimiter and the names of the columns."""
    try:
        first = next(feed)
    except (StopIteration, _TooLong):
        raise _refuse_header(file, "has no header line") from None
    check_encoding(file, first[:2].encode("utf-8", "surrogateescape"))
    first = first.removeprefix(UTF8_BOM.decode())
    delimiter = _delimiter(file, first)
    try:
        names = next(csv.reader([first], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise _refuse_header(file, f"has a header that is not CSV: {error}") from None
    names = [name.strip() for name in names]
    if twice := sorted({name for name in names if names.count(name) > 1 and name}):
        raise _refuse_header(file, f"names the column {excerpt(twice[0])!r} twice")
    if not any(names):
        raise _refuse_header(file, "has an empty first line")
    return delimiter, names


def _delimiter(file: DataFile, first: str) -> str:
    if file.format == "TSV":
        return "\t"
    outside = "".join(first.split('"')[::2])
    return max(DELIMITERS, key=lambda mark: (outside.count(mark), mark == ","))


def _refuse_header(file: DataFile, what: str) -> Exception:
    return refuse(
        "InvalidData", f"{file.name} {what}", "The first line must name the columns, each once"
    )


def _row(start: int, header: list[str], cells: list[str]) -> Item:
    if len(cells) != len(header):
        message = f"the row has {len(cells)} cells, the header has {len(header)}"
        return BadRow(start, "wrong-width", message, excerpt(" | ".join(cells)[:400]))
    return Row(start, dict(zip(header, cells, strict=True)))
