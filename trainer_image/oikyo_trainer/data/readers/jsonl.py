"""JSON Lines: one object a line. Stricter than json.loads: no NaN, no key twice, no lone surrogate.

A fast parser reads what is surely right; whatever it refuses, or may have read in another way, is read
again by the standard library, which also says what is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np

from ..findings import BadRow, excerpt
from ..plain import open_plain
from ..sources import DataFile
from .lines import NEWLINE, Block, LongLine, blocks, of_block
from .row import LONGEST_ROW, UTF8_BOM, Item, Objects, Row, check_encoding, too_long

OPEN, CLOSE, QUOTE = b'{}"'
DEEP = 50
"""Levels of nesting down to which the fast parser is believed."""


class _Fault(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Part(NamedTuple):
    """A block that is read from its file by whoever wants it."""

    start: int
    size: int


def read(file: DataFile) -> Iterator[Item]:
    """Every line but blank ones, as a Row or a BadRow."""
    for number, block, _ in _blocks(file):
        yield from rows(number, block)


def read_parts(file: DataFile) -> Iterator[tuple[int, bytes | Part]]:
    """The file in blocks for `rows_of_part`, each with the number of its first line."""
    for number, block, start in _blocks(file):
        there = start is not None and not file.packing
        yield number, Part(start or 0, len(block)) if there else block


def _blocks(file: DataFile) -> Iterator[Block]:
    with file.open() as opened:
        for block in blocks(opened):
            if block.number == 1:
                check_encoding(file, block.data)
                if block.data.startswith(UTF8_BOM):
                    block = block._replace(data=block.data.removeprefix(UTF8_BOM), start=None)
            yield block


def rows_of_part(number: int, part: bytes | Part, *, name: str, path: Path) -> Iterable[Item]:
    """The rows of a block of the file `name` whose first line has this number."""
    if isinstance(part, bytes):
        return rows(number, part)
    with open_plain(name, path) as file:
        file.seek(part.start)
        return rows(number, file.read(part.size))


def rows(number: int, block: bytes) -> Iterable[Item]:
    """The rows of a block whose first line has this number."""
    values = _at_once(block)
    return _one_by_one(number, block) if values is None else Objects(number, values)


def _one_by_one(number: int, block: bytes) -> Iterator[Item]:
    for place, line in enumerate(of_block(block), number):
        if line and not line.isspace():
            yield row(place, line)


def _at_once(block: bytes) -> list[dict[str, Any]] | None:  # any JSON values
    """The objects of a block that has one on each line; None where some line may not be sure.

    Outside of strings, which hold no line's end, nothing but two objects has `}` before the end of a
    line and `{` behind it.
    """
    signs = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(signs == NEWLINE)
    if not len(ends) or ends[-1] != len(block) - 1 or np.diff(ends, prepend=-1).max() > LONGEST_ROW:
        return None
    begins = np.concatenate([[0], ends[:-1] + 1])
    if (signs[begins] != OPEN).any() or (signs[ends - 1] != CLOSE).any():
        return None
    try:
        values, texts = _decoded(block)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    quotes = _quotes(block) if b"\\" in block else np.count_nonzero(signs == QUOTE)
    return values if len(values) == len(ends) and quotes == 2 * texts else None


def _decoded(block: bytes) -> tuple[list[dict[str, Any]], float]:
    """The objects of a block, and how many keys and texts they have."""
    try:
        flat = _FLAT.decode_lines(block)
    except msgspec.ValidationError:
        values = _OBJECTS.decode_lines(block)
        return values, sum(_texts(value, DEEP) for value in values)
    return flat, 2 * sum(map(len, flat))


def row(number: int, line: bytes) -> Item:
    """The object that stands in `line`, which is line `number` of its file."""
    if isinstance(line, LongLine):
        return too_long(number, line.decode("utf-8", "replace"))
    try:
        value = _FAST.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _strict(number, line)
    if type(value) is dict and _each_key_once(line, value):
        return Row(number, value)
    return _strict(number, line)


def _each_key_once(line: bytes, value: dict[str, Any]) -> bool:  # any JSON value
    """Whether there are as many quotes as the keys and texts of `value` have: a key that stands twice
    is lost in it."""
    return _quotes(line) == 2 * _texts(value, DEEP)


def _quotes(data: bytes) -> int:
    """Quotes at the ends of keys and texts."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return data.count(b'"')


def _texts(value: Any, depth: int) -> float:
    """Keys and texts in `value`; not a number where it is too deep to look."""
    count: float = 0
    inside: Iterable[Any] = value
    if isinstance(value, dict):
        inside, count = value.values(), len(value)
    for item in inside:
        kind = type(item)
        if kind is str:
            count += 1
        elif kind is dict or kind is list:
            count += _texts(item, depth - 1) if depth else float("nan")
    return count


def _strict(number: int, line: bytes) -> Item:
    try:
        value = _DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        shown = excerpt(line.decode("utf-8", "replace"))
        place = f"byte {error.start + 1} of the line is not UTF-8"
        return BadRow(number, "invalid-utf8", f"{place}; save the file as UTF-8", shown)
    except _Fault as error:
        return BadRow(number, error.code, str(error), excerpt(line.decode()))
    except RecursionError:
        return BadRow(number, "too-deep", "the JSON is nested too deeply", excerpt(line.decode()))
    except ValueError as error:
        message = f"the line is not JSON: {error}"[:300]
        return BadRow(number, "not-json", message, excerpt(line.decode()))
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", type(None): "null"}.get(type(value), "a number")
        message = f"the line is {kind}; expected an object {{...}}"
        return BadRow(number, "not-an-object", message, excerpt(line.decode()))
    return Row(number, value)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # any JSON value
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Fault("duplicate-key", f"the key {excerpt(twice)!r} stands twice in one object")
    return value


def _constant(name: str) -> NoReturn:
    raise _Fault("not-a-number", f"{name} is no JSON value; write null or leave the key out")


_FLAT = msgspec.json.Decoder(dict[str, str])
_OBJECTS = msgspec.json.Decoder(dict[str, Any])
_FAST: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
