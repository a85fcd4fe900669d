"""JSON Lines: one object a line. Stricter than json.loads: no NaN, no key twice, no lone surrogate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NoReturn

from ..findings import BadRow, excerpt
from ..sources import DataFile
from .lines import LongLine, lines
from .row import UTF8_BOM, Item, Row, check_encoding, too_long


class _Fault(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(file: DataFile) -> Iterator[Item]:
    """Every line but blank ones, as a Row or a BadRow."""
    with file.open() as opened:
        for number, line in enumerate(lines(opened), 1):
            if number == 1:
                check_encoding(file, line)
                line = line.removeprefix(UTF8_BOM) if line.startswith(UTF8_BOM) else line
            if line.isspace() or not line:
                continue
            yield row(number, line)


def row(number: int, line: bytes) -> Item:
    """The object that stands in `line`, which is line `number` of its file."""
    if isinstance(line, LongLine):
        return too_long(number, line.decode("utf-8", "replace"))
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


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
