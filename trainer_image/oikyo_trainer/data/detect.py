"""The format of a file, told from its content and its ending, and said with the evidence.

What stands in a file counts more than its name where the two cannot both be right: a Parquet file is
one whatever it is called. `format` of the source has the last word.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from oikyo.api.sources import Format

from .findings import excerpt
from .plain import refuse

ENDINGS: dict[str, Format] = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".txt": "Text",
}
PACKED_ENDINGS = (".gz", ".zst")
BINARY: tuple[Format, ...] = ("Parquet", "Arrow")
KNOWN = (
    "JSON Lines (.jsonl, .ndjson), JSON (.json), CSV (.csv), TSV (.tsv), Parquet (.parquet), "
    "Arrow (.arrow, .feather) and text (.txt)"
)
ARCHIVES = {
    b"PK\x03\x04": "ZIP archive",
    b"BZh": "bzip2 file",
    b"\xfd7zXZ\x00": "xz file",
    b"7z\xbc\xaf\x27\x1c": "7-Zip archive",
}
TWICE = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""How gzip and zstd begin: what is unpacked already was packed twice."""
HEAD = 1 << 16
"""Bytes at the beginning of a file, unpacked, from which the format is told."""
TABLE_LINES = 20
BROKEN = "begins with an object that goes over several lines"
"""Weak evidence: of JSON Lines it may be the first line alone that is broken."""
STREAM = re.compile(rb"\xff\xff\xff\xff..[\x00-\x0f]\x00", re.DOTALL)
"""An Arrow stream: the mark of a message and a length below 1 MiB."""


class Detected(NamedTuple):
    """A format and why it is that one."""

    format: Format
    evidence: str


def ending_of(name: str) -> str:
    """The ending that tells the format, in lower case: of rows.jsonl.gz it is .jsonl."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in PACKED_ENDINGS else path.suffix


def detect(name: str, ending: str, head: bytes) -> Detected:
    """The format of the file `name` that begins with `head`; Refused when nothing tells it."""
    _refuse_archive(name, ending, head)
    by_name, by_content = ENDINGS.get(ending), _content(head)
    if by_content is not None and _believed(by_content, by_name):
        return by_content
    if by_name == "JSON":  # what begins neither with an array nor across lines
        return Detected("JSONL", f"ends in {ending}, its first line is no array")
    if by_name is not None:
        return Detected(by_name, f"ends in {ending}")
    if table := _table(head):
        return table
    raise refuse(
        "UnknownFormat",
        f"the format of {name} is told neither by its ending nor by its content",
        f"Rename it or set the source's format; {KNOWN} are read, also packed as .gz or .zst",
    )


def _believed(found: Detected, by_name: Format | None) -> bool:
    """Whether the content may overrule the ending: a damaged binary file stays what it is called."""
    if by_name in BINARY:
        return found.format in BINARY
    return by_name != "JSONL" or found.evidence != BROKEN


def _refuse_archive(name: str, ending: str, head: bytes) -> None:
    kinds = [kind for magic, kind in ARCHIVES.items() if head.startswith(magic)]
    if head[257:262] == b"ustar":
        kinds.append("tar archive")
    if head.startswith(TWICE):
        kinds.append("file that was packed twice")
    if kinds:
        step = f"Unpack it; {KNOWN} are read, also packed as .gz or .zst"
        raise refuse("UnknownFormat", f"{name} is a {kinds[0]}, which holds no rows itself", step)


def _content(head: bytes) -> Detected | None:
    if head.startswith(b"PAR1"):
        return Detected("Parquet", "begins with PAR1")
    if head.startswith(b"ARROW1"):
        return Detected("Arrow", "begins with ARROW1")
    if STREAM.match(head):
        return Detected("Arrow", "begins with the mark of an Arrow stream")
    return _json(head.decode("utf-8", "replace").removeprefix("\ufeff"))


def _json(head: str) -> Detected | None:
    start = head.lstrip()
    if re.match(r"\[\s*[{\]]", start):
        return Detected("JSON", "begins with an array of objects")
    if not re.match(r"\{\s*[\"}]", start):
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(start)
    except (ValueError, RecursionError):
        if re.match(r"\{[ \t\r]*\n", start):
            return Detected("JSON", BROKEN)
        return Detected("JSONL", "begins with {")
    if "\n" in start[:end]:
        return Detected("JSON", "its first object goes over several lines")
    return Detected("JSONL", "its first line is a JSON object")


def _table(head: bytes) -> Detected | None:
    """CSV, where the first lines have the same number of cells, two at least."""
    text = head.decode("utf-8", "replace")
    lines = text.splitlines()[:TABLE_LINES]
    if len(head) >= HEAD and len(lines) < TABLE_LINES:
        lines = lines[:-1]
    for mark in ",;\t":
        widths = set(_widths(lines, mark))
        if len(lines) > 1 and len(widths) == 1 and (width := widths.pop()) > 1:
            shown = excerpt(mark) if mark != "\t" else "tab"
            why = f"its first {len(lines)} lines have {width} cells each, parted by {shown}"
            return Detected("CSV", why)
    return None


def _widths(lines: list[str], mark: str) -> Iterator[int]:
    try:
        for row in csv.reader(lines, delimiter=mark, strict=True):
            yield len(row)
    except csv.Error:
        yield 0
