"""Texts as sets of hashed pairs of neighbouring words; on whole Arrow columns, no object per row.

A word is a run of letters and digits, in lower case; a letter of a script that writes without blanks
is a word by itself. A text of one word has that word. Instructions of the system and labels are left
out: rows that have nothing else in common are not alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..spool import Index, Rows, Spool
from .threads import in_order

SLICE_BYTES = 1 << 20
"""Bytes of text that are hashed at once: the arrays on the way cost forty bytes for each."""

Hashes = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

_draw = np.random.Generator(np.random.PCG64(20260101))
_LETTER = _draw.integers(0, 2**63, 256, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_BASE = 0x9E3779B97F4A7C15
_BACK = pow(_BASE, -1, 2**64)


class Shingles(NamedTuple):
    """Of some rows: their hashes one after another, and how many each row has."""

    flat: Hashes
    counts: Index


def of_rows(spool: Spool, rows: Rows, wanted: Index) -> Iterator[tuple[int, Shingles]]:
    """The shingles of the rows `wanted`, as (place of the first in `wanted`, shingles) slices."""
    yield from in_order(_of_slice, _all_slices(spool, rows, wanted))


class _Slice(NamedTuple):
    """Some neighbouring rows: their bytes, and of each text its first byte and its row."""

    place: int
    data: Bytes
    starts: Index
    owner: Index
    rows: int


def _all_slices(spool: Spool, rows: Rows, wanted: Index) -> Iterator[_Slice]:
    start = 0
    for piece, table in spool.gather(wanted, rows.lengths):
        texts, owner = _texts(table)
        yield from _slices(texts, owner, len(piece), start)
        start += len(piece)


def _of_slice(part: _Slice) -> tuple[int, Shingles]:
    return part.place, _shingles(part.data, part.starts, part.owner, part.rows)


class Words(NamedTuple):
    """The words of some texts, one after another."""

    hashes: Hashes
    text: Index
    """Of each word, the number of its text, counted over the whole table."""
    row: Index
    """Of each text of the whole table, the number of its row."""
    data: Bytes
    begin: Index
    end: Index
    """Where each word stands in `data`."""

    def said(self, first: int, count: int) -> str:
        """`count` words from the word `first` on, as they stand between each other."""
        part = self.data[self.begin[first] : self.end[first + count - 1]]
        return part.tobytes().decode("utf-8", "replace")


def words_of(table: Any) -> Iterator[Words]:  # Any: pyarrow is untyped
    """The words of the texts of `table`, in slices that part no text."""
    texts, owner = _texts(table)
    bounds, data = _buffers(texts)
    low = 0
    while low < len(texts):
        high = int(np.searchsorted(bounds, bounds[low] + SLICE_BYTES, side="right")) - 1
        high = min(max(high, low + 1), len(texts))
        part, starts = data[bounds[low] : bounds[high]], bounds[low:high] - bounds[low]
        begin, end = _words(part, starts)
        text = np.searchsorted(starts, begin, side="right") - 1 + low
        yield Words(_hash(part, begin, end), text, owner, part, begin, end)
        low = high


def mix(values: Hashes) -> Hashes:
    """Spread every bit over all (the finaliser of splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _texts(table: Any) -> tuple[Any, Index]:  # Any: pyarrow is untyped
    """All texts of a gathered piece in the order of its rows, and the row of each."""
    count = np.arange(len(table))
    parts, owners = [], []
    for name in table.column_names:
        column = pa.concat_arrays(table.column(name).chunks)
        if pa.types.is_string(column.type) and name != "label":
            parts.append(column)
            owners.append(count)
        elif pa.types.is_list(column.type):
            turns, sizes = column.flatten(), np.diff(np.asarray(column.offsets))
            said = pc.not_equal(pc.struct_field(turns, "role"), "system")
            parts.append(pc.struct_field(turns, "content").filter(said))
            owners.append(np.repeat(count, sizes)[np.asarray(said)])
    owner = np.concatenate(owners)
    every = pc.utf8_lower(pc.fill_null(pa.concat_arrays(parts), ""))
    if len(parts) > 1:
        order = np.argsort(owner, kind="stable")
        every, owner = every.take(pa.array(order)), owner[order]
    if not pc.all(pc.string_is_ascii(every)).as_py():
        every = pc.utf8_normalize(every, form="NFC")
    return every, owner


def _slices(
    texts: Any, owner: Index, rows: int, start: int
) -> Iterator[_Slice]:  # Any: pyarrow is untyped
    """Cut at rows; a single row may be longer than a slice."""
    bounds, data = _buffers(texts)
    firsts = np.searchsorted(owner, np.arange(rows + 1))
    ends = bounds[firsts]
    low = 0
    while low < rows:
        high = int(np.searchsorted(ends, ends[low] + SLICE_BYTES, side="right")) - 1
        high = min(max(high, low + 1), rows)
        inside = slice(firsts[low], firsts[high])
        yield _Slice(
            start + low,
            data[ends[low] : ends[high]],
            bounds[inside] - ends[low],
            owner[inside] - low,
            high - low,
        )
        low = high


def _buffers(texts: Any) -> tuple[Index, Bytes]:  # Any: pyarrow is untyped
    """Where each text begins and the last ends, and the bytes of them all."""
    _, offsets, values = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[texts.offset :][: len(texts) + 1]
    data = np.frombuffer(values, dtype=np.uint8) if values else np.zeros(0, dtype=np.uint8)
    return bounds.astype(np.int64), data


def _shingles(data: Bytes, starts: Index, owner: Index, rows: int) -> Shingles:
    """Of one slice: `starts` and `owner` are the first byte and the row of each text."""
    begin, end = _words(data, starts)
    words = _hash(data, begin, end)
    text = np.searchsorted(starts, begin, side="right") - 1
    row = owner[text]
    together = row[1:] == row[:-1]
    pairs = mix(words[:-1] * np.uint64(_BASE) + words[1:])[together]
    of_pair = row[:-1][together]
    counts = np.bincount(row, minlength=rows)
    lone = counts[row] == 1
    if lone.any():
        of_pair = np.concatenate([of_pair, row[lone]])
        order = np.argsort(of_pair, kind="stable")
        pairs, of_pair = np.concatenate([pairs, words[lone]])[order], of_pair[order]
    return Shingles(pairs, np.bincount(of_pair, minlength=rows))


def _words(data: Bytes, starts: Index) -> tuple[Index, Index]:
    """First byte of each word, and the byte behind it."""
    letter = _WORD[data]
    fresh = np.zeros(len(data), dtype=bool)
    if len(data) and data.max() >= 0x80:
        _beyond_ascii(data, letter, fresh)
    fresh[1:] |= ~letter[:-1]
    fresh[starts[starts < len(data)]] = True
    fresh[:1] = True
    edge = np.flatnonzero(fresh | ~letter)
    begin = np.flatnonzero(letter[edge])
    return edge[begin], np.append(edge, len(data))[begin + 1]


def _beyond_ascii(data: Bytes, letter: Mask, fresh: Mask) -> None:
    """Strike out signs of several bytes, and part letters that are words by themselves."""
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
    fresh |= alone | before_alone


def _hash(data: Bytes, begin: Index, end: Index) -> Hashes:
    """A polynomial over the bytes of each word, from one running sum over all bytes."""
    powers, back = _powers(len(data))
    sums = np.zeros(len(data) + 1, dtype=np.uint64)
    np.cumsum(_LETTER[data] * powers[: len(data)], out=sums[1:])
    return mix((sums[end] - sums[begin]) * back[begin])


def _powers(count: int) -> tuple[Hashes, Hashes]:
    global _POWERS
    found = _POWERS  # another thread may put a shorter one in its place
    if len(found[0]) < count:
        size = max(count, SLICE_BYTES)
        made = [np.full(size, base, dtype=np.uint64) for base in (_BASE, _BACK)]
        for one in made:
            one[0] = 1
            np.multiply.accumulate(one, out=one)
        found = (made[0], made[1])
        _POWERS = found
    return found


_POWERS: tuple[Hashes, Hashes] = (np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.uint64))
_bytes = np.arange(256)
_WORD = ((_bytes >= 48) & (_bytes <= 57)) | ((_bytes >= 97) & (_bytes <= 122)) | (_bytes >= 128)
_ALONE = ((_bytes >= 0xE3) & (_bytes <= 0xED)) | (_bytes == 0xF0)
"""First bytes of kana, ideographs, Hangul and signs beyond the basic plane; Thai and Lao: E0 B8 on."""
