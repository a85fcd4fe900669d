"""JSON: one array of objects, or objects one behind the other over any number of lines.

A window slides over the file, so memory does not grow with it. Each element is decoded as strictly as
a line of JSON Lines is; one that is wrong is told with the line on which it begins, and the reading
goes on behind it where its brackets close. A file that breaks off is refused.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from ..findings import BadRow, excerpt
from ..plain import refuse
from ..sources import DataFile
from .jsonl import row
from .row import LONGEST_ROW, Item, check_encoding, too_long

STEP = 1 << 20
"""Bytes that are read at once."""
SPACE = " \t\r\n"
BLANK = re.compile(r"[ \t\r\n]*")
MARKS = re.compile(r'["\\\[\]{}]')
"""What matters for where an element ends; the rest of it does not."""


class _Window:
    """The part of the text that is looked at, and the line at which it begins."""

    def __init__(self, file: DataFile, opened: BinaryIO) -> None:
        self.file = file
        self._opened = opened
        # Undecodable bytes become lone surrogates: the row keeps its place and is told bad.
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.at = 0
        self.line = 1
        self._ended = False

    def fill(self, wanted: int) -> int:
        """See to `wanted` characters in front, and tell how many there are."""
        while not self._ended and len(self.text) - self.at < wanted:
            data = self._opened.read(STEP)
            self._ended = not data
            self.text = self.text[self.at :] + self._decode.decode(data, self._ended)
            self.at = 0
        return len(self.text) - self.at

    def move(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while self.fill(1):
            found = BLANK.match(self.text, self.at)
            self.move(found.end() if found else self.at)
            if self.at < len(self.text):
                return self.text[self.at]
        return ""


def read(file: DataFile) -> Iterator[Item]:
    """Every element as a Row or a BadRow; `line` is where it begins."""
    with file.open() as opened:
        window = _Window(file, opened)
        window.fill(2)
        check_encoding(file, window.text[:2].encode("utf-8", "surrogateescape"))
        window.at = 1 if window.text.startswith("\ufeff") else 0
        if window.peek() == "[":
            window.move(window.at + 1)
            yield from _array(window)
        else:
            while window.peek():
                yield _element(window)


def _array(window: _Window) -> Iterator[Item]:
    if window.peek() != "]":
        while True:
            yield _element(window)
            mark = window.peek()
            if mark == "]":
                break
            if mark != ",":
                raise _broken(window, "a comma or ]")
            window.move(window.at + 1)
    window.move(window.at + 1)
    if window.peek():
        raise _broken(window, "nothing behind the array")


def _element(window: _Window) -> Item:
    """The next element; the window moves behind it."""
    line, start = window.line, window.peek()
    line = window.line
    window.fill(LONGEST_ROW + 1)
    if start not in ("{", "["):
        return _scalar(window, line)
    end = _end(window.text, window.at, window.at + LONGEST_ROW)
    if end is None:
        shown = window.text[window.at : window.at + 400]
        _skip(window, line)
        return too_long(line, shown)
    raw = window.text[window.at : end].encode("utf-8", "surrogateescape")
    window.move(end)
    return row(line, raw)


def _scalar(window: _Window, line: int) -> Item:
    """Something that is no object: up to the next comma, bracket or end of its line."""
    found = re.compile(r'"(?:[^"\\]|\\.)*"|[^,\]\[{}"\s]+', re.DOTALL).match(window.text, window.at)
    if found is None:
        raise _broken(window, "an object")
    shown = excerpt(found[0])
    window.move(found.end())
    return BadRow(line, "not-an-object", "the element is no object {...}", shown)


def _end(text: str, at: int, most: int) -> int | None:
    """Where the element that begins at `at` ends, before `most`; None when it does not."""
    depth, quoted = 0, False
    while found := MARKS.search(text, at, most):
        mark, at = found[0], found.end()
        if mark == '"':
            quoted = not quoted
        elif quoted:
            at += mark == "\\"
        elif mark in "{[":
            depth += 1
        elif mark in "}]":
            depth -= 1
            if not depth:
                return at
    return None


def _skip(window: _Window, line: int) -> None:
    """Move behind an element that is too long to be held."""
    depth, quoted = 0, False
    while window.fill(2):
        found = MARKS.search(window.text, window.at, len(window.text))
        if found is None:
            window.move(len(window.text))
            continue
        mark = found[0]
        window.move(found.end())
        if mark == '"':
            quoted = not quoted
        elif quoted:
            window.fill(1)
            window.move(min(len(window.text), window.at + (mark == "\\")))
        else:
            depth += 1 if mark in "{[" else -1 if mark in "}]" else 0
            if not depth:
                return
    raise _broken(window, f"the end of the element that begins on line {line}")


def _broken(window: _Window, expected: str) -> Exception:
    found = excerpt(window.text[window.at : window.at + 40]) if window.fill(1) else "its end"
    return refuse(
        "UnreadableFile",
        f"{window.file.name}:{window.line} is no JSON: expected {expected}, found {found}",
        "Mend that line, or write the file again; it may have been cut off",
    )
