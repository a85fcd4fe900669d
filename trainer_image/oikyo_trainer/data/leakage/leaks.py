"""Rows to learn that hold a long run of words of the test side, or an item of a benchmark.

Memory: the hashes of the test side and of the benchmarks. The rows to learn go by once, piece by piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import BenchmarkSource, PrepareSpec

from ..dedup import Kept, Mask, without
from ..findings import FIRST, Finding, excerpt
from ..intake import Intake
from ..near.shingles import TextSlice, Words, text_slices, words_of
from ..report import EXAMPLES, where
from ..split import DROPPED, TEST, Sides
from ..spool import Index, Rows, Spool, cut
from ..threads import in_order
from .benchmarks import Items, read_items
from .runs import WITHIN, Hits, Known
from .sieve import Sieve

LEAK, CONTAMINATED = "ngram-leak", "contaminated"
HELD = 32 << 20
"""Characters of the test side whose runs are in memory at one time: some ten bytes for each."""
LETTERS_OF_A_WORD = 6
LETTERS = 2
"""Characters of the shortest word with the blank behind it: a shorter row holds no run."""


@dataclass
class Found:
    """The rows that hold a run of the test side, or of one benchmark."""

    known: Known
    rows: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    """Of each row, the first item that it was seen to hold."""
    sizes: list[int] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """The words of the first ones."""

    def take(self, found: Sequence[Hits], words: Words, piece: Index, seen: Mask) -> None:
        """Take in what was found in the words of the rows `piece`; `seen` are found already."""
        for hits in found:
            rows = piece[words.row[words.text[hits.first]]]
            _, one = np.unique(rows, return_index=True)
            for place in one[~seen[rows[one]]].tolist():
                first, size = int(hits.first[place]), int(hits.size[place])
                self.rows.append(int(rows[place]))
                self.items.append(int(hits.items[place]))
                self.sizes.append(size)
                if len(self.said) < FIRST:
                    self.said.append(excerpt(words.said(first, size)))
            seen[rows[one]] = True


def check(
    spec: PrepareSpec,
    intake: Intake,
    told: dict[str, Any],
    spool: Spool,
    rows: Rows,
    kept: Kept,
    sides: Sides,
) -> tuple[Kept, Sides]:
    """Find and tell the rows; returns what stays once those that are to go have gone."""
    leaked, contaminated = kept.leaked.copy(), kept.contaminated.copy()
    named = _by_name(spec.contamination)
    benchmarks = [read_items(parts, spec.leakage.ngram) for parts in named]
    found = [Found(items.known) for items in benchmarks]
    learnt = np.flatnonzero((sides >= 0) & (sides != TEST))
    if spec.leakage.action == "Ignore":
        search(found, spool, rows, learnt)
    else:
        leaks = _with_leaks(found, spec.leakage.ngram, spool, rows, sides, learnt)
        _tell_leaks(spec, intake, rows, leaks)
        told["ngram_leaks"] = {
            "ngram": spec.leakage.ngram,
            "action": spec.leakage.action,
            "count": len(leaks.rows),
        }
        if spec.leakage.action == "Remove":
            leaked[leaks.rows] = True
    told["contamination"] = []
    for (benchmark, *_), items, one in zip(named, benchmarks, found, strict=True):
        _tell_benchmark(intake, rows, benchmark, items, one)
        told["contamination"].append(_report(intake, rows, benchmark, items, one))
        if benchmark.action == "Remove":
            contaminated[one.rows] = True
    gone = leaked | contaminated
    kept = without(kept, leaked=leaked, contaminated=contaminated)
    return kept, np.where(gone, DROPPED, sides).astype(sides.dtype)


def _by_name(given: Sequence[BenchmarkSource]) -> list[list[BenchmarkSource]]:
    """A pattern in a bucket became several sources of one name."""
    named: dict[str, list[BenchmarkSource]] = {}
    for benchmark in given:
        named.setdefault(benchmark.name, []).append(benchmark)
    return list(named.values())


def _with_leaks(
    others: Sequence[Found], ngram: int, spool: Spool, rows: Rows, sides: Sides, learnt: Index
) -> Found:
    """Search the rows `learnt` for `others`, and for the test side, which comes back.

    A test side of more than HELD characters is looked for part by part, among the rows that its sieve
    leaves.
    """
    parts = list(cut(np.flatnonzero(sides == TEST), rows.lengths, HELD))
    if len(parts) < 2:
        leaks = Found(of_test(ngram, spool, rows, sides))
        search([leaks, *others], spool, rows, learnt)
        return leaks
    search(others, spool, rows, learnt)
    maybe = _sifted(ngram, spool, rows, sides, learnt)
    leaks = Found(Known(ngram, WITHIN))
    found = []
    for part in parts:
        one = Found(_known(ngram, spool, rows, part))
        search([one], spool, rows, maybe)
        said = [*one.said, *[""] * (len(one.rows) - len(one.said))]
        found += list(zip(one.rows, one.items, one.sizes, said, strict=True))
        maybe = maybe[~np.isin(maybe, one.rows)]
    for number, (row, item, size, words) in enumerate(sorted(found)):
        leaks.rows.append(row)
        leaks.items.append(item)
        leaks.sizes.append(size)
        leaks.said += [words] if number < FIRST else []
    return leaks


def _sifted(ngram: int, spool: Spool, rows: Rows, sides: Sides, learnt: Index) -> Index:
    """The rows of `learnt` that may hold a run of the test side."""
    test = np.flatnonzero(sides == TEST)
    sieve = Sieve(ngram, int(rows.lengths[test].sum(dtype=np.int64)) // LETTERS_OF_A_WORD)
    for _, table in spool.gather(test, rows.lengths):
        for words in words_of(table):
            sieve.add(words)

    def sift(part: tuple[Index, Any]) -> Index:  # pyarrow is untyped
        piece, table = part
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *(piece[sieve.rows(words)] for words in words_of(table))])

    left = np.zeros(len(rows), dtype=bool)
    for own in in_order(sift, spool.gather(learnt, rows.lengths)):
        left[own] = True
    return np.flatnonzero(left)


def of_test(ngram: int, spool: Spool, rows: Rows, sides: Sides) -> Known:
    """The runs of the test side; its items are the rows themselves."""
    return _known(ngram, spool, rows, np.flatnonzero(sides == TEST))


def _known(ngram: int, spool: Spool, rows: Rows, test: Index) -> Known:
    known = Known(ngram, WITHIN)
    long = test[rows.lengths[test] >= LETTERS * WITHIN - 1]
    for piece, table in spool.gather(long, rows.lengths):
        for words in words_of(table):
            known.add(words, piece)
    known.close(len(test))
    return known


def search(found: Sequence[Found], spool: Spool, rows: Rows, wanted: Index) -> None:
    """Look through the rows `wanted` for what each of `found` knows."""
    looked = [one for one in found if len(one.known)]
    if not looked:
        return
    shortest = min(one.known.shortest for one in looked)
    wanted = wanted[rows.lengths[wanted] >= LETTERS * shortest - 1]
    seen = {id(one): np.zeros(len(rows), dtype=bool) for one in looked}

    def look(part: tuple[Index, TextSlice]) -> tuple[Index, Words, list[list[Hits]]]:
        piece, texts = part
        words = texts.words()
        return piece, words, [list(one.known.find(words)) for one in looked]

    slices = (
        (piece, part)
        for piece, table in spool.gather(wanted, rows.lengths)
        for part in text_slices(table)
    )
    for piece, words, hits in in_order(look, slices):
        for one, found_here in zip(looked, hits, strict=True):
            one.take(found_here, words, piece, seen[id(one)])


def _tell_leaks(spec: PrepareSpec, intake: Intake, rows: Rows, leaks: Found) -> None:
    done = "; it is dropped" if spec.leakage.action == "Remove" else ""
    for number, (row, item, size) in enumerate(_in_order(leaks)):
        other = where(intake, rows, item)
        message = f"shares {size} words in a row with {other} of the test side{done}"
        _add(intake, rows, row, LEAK, message, leaks.said[number : number + 1], other)


def _tell_benchmark(
    intake: Intake, rows: Rows, benchmark: BenchmarkSource, items: Items, found: Found
) -> None:
    done = "; it is dropped" if benchmark.action == "Remove" else ""
    for number, (row, item, size) in enumerate(_in_order(found)):
        other = items.where(item)
        message = f"holds {size} words of an item of {benchmark.name} ({other}){done}"
        _add(intake, rows, row, CONTAMINATED, message, found.said[number : number + 1], other)
    count = len(found.rows)
    what = "dropped" if benchmark.action == "Remove" else "kept"
    value = f"{count} {'row' if count == 1 else 'rows'} {what}" if count else "no row"
    why = f"rows to learn that hold one of the {len(items)} items of {benchmark.uri[-200:]}"
    intake.settle([Resolved(name=f"data.contamination.{benchmark.name}", value=value, reason=why)])


def _in_order(found: Found) -> list[tuple[int, int, int]]:
    return list(zip(found.rows, found.items, found.sizes, strict=True))


def _add(
    intake: Intake, rows: Rows, row: int, code: str, message: str, said: list[str], other: str
) -> None:
    file, line = intake.files[rows.files[row]].name, int(rows.lines[row])
    intake.findings.add(Finding(line, code, message, "".join(said), file, other=other))


def _report(
    intake: Intake, rows: Rows, benchmark: BenchmarkSource, items: Items, found: Found
) -> dict[str, Any]:
    return {
        "name": benchmark.name,
        "uri": benchmark.uri,
        "action": benchmark.action,
        "items": len(items),
        "items_found": len(set(found.items)),
        "rows": len(found.rows),
        "examples": [where(intake, rows, row) for row in found.rows[:EXAMPLES]],
    }
