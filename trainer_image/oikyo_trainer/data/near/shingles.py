"""Texts as sets of hashed pairs of neighbouring words; on whole Arrow columns, no object per row.

A word is a run of letters and digits, in lower case; a letter of a script that writes without blanks
is a word by itself. A text of one word has that word. Instructions of the system, declared tools and
labels are left out: rows that have nothing else in common are not alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..spool import Index, Mask, Rows, Spool, pieces
from ..workers import in_order

SLICE_BYTES = 1 << 19
"""Bytes of text that are hashed at once: the arrays on the way, a few bytes for each, stay in the
processor's cache."""

UNSAID = ("label", "tools")
"""Columns that hold nothing that a row says."""

Hashes = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
R = TypeVar("R")

_BASE = 0x9E3779B97F4A7C15
_KEPT = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
"""What is kept of eight bytes that are read at once, by how many of them are wanted."""


class Shingles(NamedTuple):
    """Of some rows: their hashes one after another, and how many each row has; some stand twice."""

    flat: Hashes
    counts: Index


def of_rows(
    spool: Spool, rows: Rows, wanted: Index, work: Callable[[slice, Words], R]
) -> Iterator[R]:
    """`work` of the words of the rows `wanted`, by slices of them, on every CPU.

    It is given the places in `wanted` of the rows of a slice, in a process of its own: what it gives
    back counts, not what it changes.
    """

    def of_piece(part: tuple[int, Index]) -> list[R]:
        start, piece = part
        every, owner = _texts(spool.fetch(piece))
        slices = _slices(every, owner, len(piece), start)
        return [work(places, texts.words()) for places, texts in slices]

    parts = _numbered(pieces(wanted, rows.lengths))
    letters = int(rows.lengths[wanted].sum(dtype=np.int64))
    for every in in_order(of_piece, parts, letters):
        yield from every


def _numbered(parts: Iterable[Index]) -> Iterator[tuple[int, Index]]:
    """Each part with the place of its first row."""
    start = 0
    for part in parts:
        yield start, part
        start += len(part)


class TextSlice(NamedTuple):
    """Some neighbouring texts of a table: their bytes, and of each its first byte and its row."""

    data: Bytes
    starts: Index
    row: Index

    def words(self) -> Words:
        edges = _edges(self.data, self.starts)
        begin, end = edges[::2], edges[1::2]
        # Where a text begins a word may have ended, but none goes on.
        firsts = (np.searchsorted(edges, self.starts) + 1) // 2
        counts = np.diff(firsts, append=len(begin))
        return Words(_hash(self.data, begin, end), counts, self.row, self.data, begin, end)


@dataclass(frozen=True, eq=False)
class Words:
    """The words of some texts, one after another."""

    hashes: Hashes
    counts: Index
    """Of each text, how many words it has."""
    row: Index
    """Of each text, the number of its row."""
    data: Bytes
    begin: Index
    end: Index
    """Where each word stands in `data`."""

    @cached_property
    def text(self) -> Index:
        """Of each word, the number of its text."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def ends(self) -> Index:
        """Of each text, the number of the word behind its last."""
        return np.cumsum(self.counts)

    def text_of(self, words: Index) -> Index:
        """The numbers of the texts of some words."""
        return np.searchsorted(self.ends, words, side="right")

    def within_text(self, words: Index, size: int) -> Mask:
        """Of some words, whether their text has `size` words from them on."""
        return words + size <= self.ends[self.text_of(words)]

    def said(self, first: int, count: int) -> str:
        """`count` words from the word `first` on, as they stand between each other."""
        part = self.data[self.begin[first] : self.end[first + count - 1]]
        return part.tobytes().decode("utf-8", "replace")


def text_slices(table: Any) -> Iterator[TextSlice]:  # Any: pyarrow is untyped
    """The texts of `table`, in slices that part no text."""
    texts, owner = _texts(table)
    bounds, data = _buffers(texts)
    low = 0
    while low < len(texts):
        high = int(np.searchsorted(bounds, bounds[low] + SLICE_BYTES, side="right")) - 1
        high = min(max(high, low + 1), len(texts))
        part, starts = data[bounds[low] : bounds[high]], bounds[low:high] - bounds[low]
        yield TextSlice(part, starts, owner[low:high])
        low = high


def words_of(table: Any) -> Iterator[Words]:  # Any: pyarrow is untyped
    """The words of the texts of `table`, slice by slice."""
    return (part.words() for part in text_slices(table))


def mix(values: Hashes) -> Hashes:
    """Spread every bit over all (the finaliser of splitmix64)."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _texts(table: Any) -> tuple[Any, Index]:  # Any: pyarrow is untyped
    """All texts of a gathered piece in the order of its rows, and the row of each."""
    count = np.arange(len(table))
    parts, owners = [], []
    for name in table.column_names:
        if name in UNSAID:
            continue
        column = pa.concat_arrays(table.column(name).chunks)
        if pa.types.is_string(column.type):
            parts.append(column)
            owners.append(count)
        elif pa.types.is_list(column.type):
            turns, sizes = column.flatten(), np.diff(np.asarray(column.offsets))
            said = pc.not_equal(pc.struct_field(turns, "role"), "system")
            parts.append(pc.struct_field(turns, "content").filter(said))
            owners.append(np.repeat(count, sizes)[np.asarray(said)])
    owner = np.concatenate(owners)
    every = pc.fill_null(pa.concat_arrays(parts), "")
    if len(parts) > 1:
        order = np.argsort(owner, kind="stable")
        every, owner = every.take(pa.array(order)), owner[order]
    if pc.all(pc.string_is_ascii(every)).as_py():
        return pc.ascii_lower(every), owner
    return pc.utf8_normalize(pc.utf8_lower(every), form="NFC"), owner


def _slices(
    texts: Any, owner: Index, rows: int, start: int
) -> Iterator[tuple[slice, TextSlice]]:  # Any: pyarrow is untyped
    """Cut at rows, each slice with their places; a single row may be longer than a slice."""
    bounds, data = _buffers(texts)
    firsts = np.searchsorted(owner, np.arange(rows + 1))
    ends = bounds[firsts]
    low = 0
    while low < rows:
        high = int(np.searchsorted(ends, ends[low] + SLICE_BYTES, side="right")) - 1
        high = min(max(high, low + 1), rows)
        inside = slice(firsts[low], firsts[high])
        part, starts = data[ends[low] : ends[high]], bounds[inside] - ends[low]
        yield slice(start + low, start + high), TextSlice(part, starts, owner[inside] - low)
        low = high


def _buffers(texts: Any) -> tuple[Index, Bytes]:  # Any: pyarrow is untyped
    """Where each text begins and the last ends, and the bytes of them all."""
    _, offsets, values = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[texts.offset :][: len(texts) + 1]
    data = np.frombuffer(values, dtype=np.uint8) if values else np.zeros(0, dtype=np.uint8)
    return bounds.astype(np.int64), data


def shingles(found: Words, rows: int) -> Shingles:
    """Of the words of so many rows, those of one row one after another."""
    words = found.hashes
    counts = np.bincount(found.row, weights=found.counts, minlength=rows).astype(np.int64)
    flat = np.empty_like(words)
    flat[:-1] = mix(words[:-1] * np.uint64(_BASE) + words[1:])
    # The last word of a row has no neighbour: what stands there is known already, or all there is.
    last, sizes = np.cumsum(counts)[counts > 0] - 1, counts[counts > 0]
    flat[last] = np.where(sizes > 1, flat[last - 1], words[last])
    return Shingles(flat, counts)


def _edges(data: Bytes, starts: Index) -> Index:
    """Of each word, one after another: its first byte, and the byte behind it."""
    if not len(data):
        return starts[:0]
    around = np.zeros(len(data) + 2, dtype=bool)
    letter = around[1:-1]
    np.less(data - np.uint8(ord("a")), 26, out=letter)
    letter |= (data - np.uint8(ord("0"))) < 10
    fresh = starts[(starts > 0) & (starts < len(data))]
    if data.max() >= 0x80:
        letter |= data >= 0x80
        fresh = np.concatenate([fresh, _beyond_ascii(data, letter)])
    edge = np.flatnonzero(around[1:] != around[:-1])
    # One word ends and the next begins where no sign stands between them.
    apart = np.unique(fresh[letter[fresh] & letter[fresh - 1]])
    if len(apart):
        edge = np.insert(edge, np.repeat(np.searchsorted(edge, apart), 2), np.repeat(apart, 2))
    return edge


def _beyond_ascii(data: Bytes, letter: Mask) -> Index:
    """Strike out signs of several bytes; where letters begin and end that are words by themselves."""
    after = np.append(data[1:], np.uint8(0))
    # No-break spaces and signs (C2), dashes and quotes (E2 80, E2 81), ideographic points (E3 80).
    sign = ((data == 0xE2) & (after >= 0x80) & (after <= 0x81)) | ((data == 0xE3) & (after == 0x80))
    for place in range(3):
        letter[np.flatnonzero(sign[: len(sign) - place]) + place] = False
    for place in range(2):
        letter[np.flatnonzero((data == 0xC2)[: len(data) - place]) + place] = False
    lead = data >= 0xC0
    alone = _ALONE[data] | ((data == 0xE0) & (after >= 0xB8) & (after <= 0xBB))
    before_alone = np.zeros(len(data), dtype=bool)
    leads = np.flatnonzero(lead | (data < 0x80))
    before_alone[leads[1:]] = alone[leads[:-1]]
    before_alone |= alone
    before_alone[0] = False
    return np.flatnonzero(before_alone)


def _hash(data: Bytes, begin: Index, end: Index) -> Hashes:
    """Of each word: eight of its bytes after the other, read as one number and stirred in."""
    padded = np.append(data, np.zeros(8, dtype=np.uint8))
    eight = np.ndarray(len(data) + 1, dtype="<u8", buffer=padded, strides=(1,))
    left = end - begin
    hashes = mix((eight[begin] & _KEPT.take(left, mode="clip")) + left.astype(np.uint64))
    at, long = 8, np.flatnonzero(left > 8)
    while len(long):
        part = eight[begin[long] + at] & _KEPT.take(left[long] - at, mode="clip")
        hashes[long] = mix(hashes[long] * np.uint64(_BASE) + part)
        at += 8
        long = long[left[long] > at]
    return hashes


_bytes = np.arange(256)
_ALONE = ((_bytes >= 0xE3) & (_bytes <= 0xED)) | (_bytes == 0xF0)
"""First bytes of kana, ideographs, Hangul and signs beyond the basic plane; Thai and Lao: E0 B8 on."""
