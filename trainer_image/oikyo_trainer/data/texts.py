"""Texts that can be read and yet are not whole: wrongly decoded, cut off, or no answer at all.

Looked for in Arrow columns; only texts that were found become strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from oikyo.api.clean import PERSONAL_KINDS, PersonalKind

from . import personal
from .findings import EXCERPT
from .intake import Intake
from .spool import Index, Mask, Rows, Spool

GARBLED, PERSONAL, PLACEHOLDER, TRUNCATED, ECHO = (
    "garbled-text",
    "personal-data",
    "placeholder-answer",
    "truncated-answer",
    "echoed-answer",
)
MOJIBAKE = "\N{REPLACEMENT CHARACTER}|\u00c3[\u0080-\u00bf]|\u00c2[\u0080-\u00bf]|\u00e2\u20ac|\u00ef\u00bf\u00bd"
"""U+FFFD, and what UTF-8 looks like that was read as Windows-1252 or Latin-1."""
PLACEHOLDERS = (
    r"(?i)^\s*(nan|<na>|#n/a|undefined|\[deleted\]|\[removed\]|todo|tbd|lorem ipsum.*)\s*$"
)
OPEN_END = r"[,(\[{]\s*$"
"""No answer ends so."""
LAST_LETTER = r"[\pL\pN]\s*$"
ANSWERS = ("completion", "chosen", "rejected")
"""Columns with an answer to learn; of several in one row the first is the one that is looked at."""
QUOTED = 10_000
"""Findings of a code whose text is fetched; those after them name file and line alone."""
PILE, PILE_SHARE, PILE_LENGTH = 5, 0.005, 100
"""So many answers of exactly the greatest length, which is so long, were cut there."""


@dataclass(frozen=True)
class Texts:
    """The texts of some rows as Arrow columns."""

    every: Any
    """All texts, in the order of the rows."""
    owner: Index
    """Of each of `every`, the position of its row among these rows."""
    answer: Any | None
    """The (last) answer of each row; None for classification."""
    prompt: Any | None
    """What it answers, where that is one text."""
    answers: Mask
    """Which of `every` are answers to learn."""
    either: bool
    """Whether the answers of a row are learnt one at a time (preferences), else one after another."""
    chat: bool


def of_table(table: Any) -> Texts:  # Any: pyarrow is untyped
    """The texts of a gathered piece, whatever its shape: text columns, and the turns of chats."""
    count = np.arange(len(table))
    parts, owners, learnt, answer, chat = [], [], [], None, False
    for name in table.column_names:
        column = _one(table, name)
        if pa.types.is_string(column.type):
            answer = column if name in ANSWERS and answer is None else answer
            there = count
            if column.null_count:  # few chats declare tools
                there, column = np.flatnonzero(np.asarray(pc.is_valid(column))), column.drop_null()
            parts.append(column)
            owners.append(there)
            learnt.append(np.full(len(there), name in ANSWERS))
        elif pa.types.is_list(column.type) and pa.types.is_struct(column.type.value_type):
            turns, offsets = column.flatten(), np.asarray(column.offsets)
            contents = pc.fill_null(pc.struct_field(turns, "content"), "")
            parts.append(contents)
            owners.append(np.repeat(count, np.diff(offsets)))
            said = np.asarray(pc.equal(pc.struct_field(turns, "role"), "assistant"))
            learnt.append(said & (name == "messages"))
            chat = True
            if name == "messages":
                answer = contents.take(pa.array(offsets[1:] - offsets[0] - 1))
    prompt = _one(table, "prompt") if "prompt" in table.column_names and not chat else None
    owner, answers = np.concatenate(owners), np.concatenate(learnt)
    either = "rejected" in table.column_names
    every = pa.concat_arrays(parts) if len(parts) > 1 else parts[0]
    return Texts(every, owner, answer, prompt, answers, either, chat)


def _one(table: Any, name: str) -> Any:
    column = table.column(name)
    if column.num_chunks == 1:  # as gathered pieces have it; combine_chunks would copy it
        return column.chunk(0)
    column = column.combine_chunks()
    return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column


class Found(NamedTuple):
    """What is to be told of a row."""

    code: str
    row: int
    """In a piece, first of all its place there."""
    message: str
    shown: str


class Faults:
    """Findings about texts, as passing.py shows them."""

    def __init__(
        self, intake: Intake, rows: Rows, kinds: Sequence[PersonalKind] = PERSONAL_KINDS
    ) -> None:
        """`kinds` of personal data count."""
        self._intake, self._rows, self._kinds = intake, rows, kinds
        self._seen, self._longest = 0, 0
        self._full: list[int] = []
        """Rows whose answer has the greatest length and ends with a letter."""

    def see(self, piece: Index, texts: Texts) -> tuple[int, list[Found], int, list[int]]:
        found = list(_looked_at(self._intake, texts, self._kinds))
        most, ends = _open_ended(texts)
        told = [one._replace(row=int(piece[one.row])) for one in found]
        return len(piece), told, most, piece[ends].tolist()

    def take(self, seen: tuple[int, list[Found], int, list[int]]) -> list[Found]:
        count, found, most, ends = seen
        self._seen += count
        if most > self._longest:
            self._longest, self._full = most, []
        self._full += ends if most == self._longest else []
        return found

    def close(self) -> Iterator[Found]:
        """The answers that were cut at one length."""
        full, longest = self._full, self._longest
        if longest < PILE_LENGTH or len(full) < max(PILE, PILE_SHARE * self._seen):
            return
        message = f"its answer ends without a full stop at {longest} characters, as {len(full)} do"
        told = ((row, message) for row in full)
        for row, message, text in _quoted(self._intake.spool, self._rows, told):
            yield Found(TRUNCATED, row, message, text)


def tell(intake: Intake, rows: Rows, code: str, found: Iterable[tuple[int, str]]) -> None:
    """Add what the check `code` says of each row of `found`, with the beginning of its text."""
    for row, message, text in _quoted(intake.spool, rows, found):
        intake.found(code, rows, row, message, text)


def _quoted(
    spool: Spool | None, rows: Rows, found: Iterable[tuple[int, str]]
) -> Iterator[tuple[int, str, str]]:
    """What is found of rows, of the first QUOTED ones with the beginning of its text."""
    left = iter(found)
    first = list(islice(left, QUOTED))
    quoted = _beginnings(spool, np.array([row for row, _ in first], dtype=np.int64), rows)
    for (row, message), text in zip(first, quoted, strict=True):
        yield row, message, text
    for row, message in left:
        yield row, message, ""


def _beginnings(spool: Spool | None, wanted: Index, rows: Rows) -> Iterator[str]:
    """The first text of each row of `wanted`, cut."""
    if spool is None or not len(wanted):
        yield from [""] * len(wanted)
        return
    for _, table in spool.gather(wanted, rows.lengths):
        column = table.column(0)
        if pa.types.is_string(column.type):
            yield from pc.utf8_slice_codeunits(column, 0, 4 * EXCERPT).to_pylist()
        else:
            yield from (_said(chat) for chat in column.to_pylist())


def _said(chat: Sequence[dict[str, Any]]) -> str:
    """What the user said last."""
    asked = [turn["content"] for turn in chat if turn["role"] == "user"]
    return str(asked[-1] or "")[: 4 * EXCERPT] if asked else ""


def _looked_at(intake: Intake, texts: Texts, kinds: Sequence[PersonalKind]) -> Iterator[Found]:
    """What the texts of one piece show."""
    wants = intake.findings.wants
    if wants(GARBLED):
        yield from _garbled(texts)
    if wants(PERSONAL):
        yield from _personal(texts, kinds)
    if texts.answer is not None:
        yield from (one for one in _answers(texts, texts.answer) if wants(one.code))


def _open_ended(texts: Texts) -> tuple[int, Index]:
    """Characters of the longest answer, and the places of those so long that end with a letter."""
    if texts.answer is None or not len(texts.answer):
        return 0, np.zeros(0, dtype=np.int64)
    lengths = np.asarray(pc.utf8_length(texts.answer))
    most = int(lengths.max())
    places = np.flatnonzero(lengths == most)
    return most, places[_matches(texts.answer.take(pa.array(places)), LAST_LETTER)]


def _garbled(texts: Texts) -> Iterator[Found]:
    # ASCII is told apart ten times faster than the pattern is looked for.
    found = np.flatnonzero(~np.asarray(pc.string_is_ascii(texts.every)))
    found = found[_matches(texts.every.take(pa.array(found)), MOJIBAKE)]
    told: set[int] = set()
    for place in found.tolist():
        row = int(texts.owner[place])
        if row not in told:
            told.add(row)
            shown = _around(texts.every[place].as_py())
            yield Found(GARBLED, row, "holds wrongly decoded letters", shown)


def _around(text: str) -> str:
    """A part of `text` that shows the place."""
    place = pc.find_substring_regex(pa.array([text]), MOJIBAKE)[0].as_py()
    start = max(0, len(text.encode()[:place].decode(errors="ignore")) - 30)
    return text[start : start + 80]


def _personal(texts: Texts, wanted: Sequence[PersonalKind]) -> Iterator[Found]:
    by_row: dict[int, tuple[set[str], str]] = {}
    for place in np.flatnonzero(_matches(texts.every, personal.CANDIDATE)).tolist():
        text = texts.every[place].as_py()
        found = personal.find(text)
        if any(one.kind in wanted for one in found):
            shown = personal.mask(text, found)
            start = max(0, found[0].start - 30)
            row = int(texts.owner[place])
            kinds, _ = by_row.setdefault(row, (set(), shown[start : start + 80]))
            kinds |= {personal.NAMES[one.kind] for one in found if one.kind in wanted}
    for row, (kinds, shown) in by_row.items():
        yield Found(PERSONAL, row, f"holds {' and '.join(sorted(kinds))}", shown)


def _answers(texts: Texts, answer: Any) -> Iterator[Found]:
    for code, message, mask in _faults(texts, answer):
        for place in np.flatnonzero(mask).tolist():
            shown = answer[place].as_py()
            yield Found(code, place, message, shown if code != TRUNCATED else shown[-80:])


def _faults(texts: Texts, answer: Any) -> Iterator[tuple[str, str, Mask]]:
    yield PLACEHOLDER, "its answer stands for a missing one", _matches(answer, PLACEHOLDERS)
    fences = _matches(answer, "```")
    fences[fences] = np.asarray(pc.count_substring(answer.filter(pa.array(fences)), "```")) % 2 == 1
    yield TRUNCATED, "its answer opens a block of code and does not close it", fences
    yield TRUNCATED, "its answer ends in the middle", _matches(answer, OPEN_END) & ~fences
    if texts.prompt is not None:
        trimmed = pc.equal(pc.utf8_trim_whitespace(answer), pc.utf8_trim_whitespace(texts.prompt))
        yield ECHO, "its answer is its prompt again", np.asarray(trimmed)


def _matches(column: Any, pattern: str) -> Mask:
    return np.asarray(pc.match_substring_regex(column, pattern))
