"""Rows read by several processes are those that one reads, whatever the number of processes."""

from __future__ import annotations

import errno
import gzip
import io
import itertools
import json
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo.api.split import Split
from oikyo_trainer.data.columns import Columns
from oikyo_trainer.data.intake import Job, read_block
from oikyo_trainer.data.keys import Hashed, keys_of, normalise
from oikyo_trainer.data.piece import Form, Piece
from oikyo_trainer.data.readers import in_blocks, jsonl, read
from oikyo_trainer.data.readers.lines import LongLine, blocks, lines, of_block
from oikyo_trainer.data.readers.row import LONGEST_ROW
from oikyo_trainer.data.sources import DataFile
from oikyo_trainer.data.workers import WORTH, Workers, apart
from oikyo_trainer.errors import Refused, Retry

FORM = Form(Columns("classification", {"text": "text", "label": "label"}, {}), Split(), False)


@pytest.fixture
def workers() -> Iterator[Workers[Job, list[Piece]]]:
    opened = Workers(3, read_block)
    yield opened
    opened.close()


def made(count: int, parse: Any = jsonl.rows) -> list[Job]:
    """Blocks of different lengths, every seventh row a bad one."""
    found, number = [], 1
    for place in range(count):
        rows = [
            b"{" if n % 7 == 3 else json.dumps({"text": f"t {n}", "label": f"l{n % 3}"}).encode()
            for n in range(number, number + 20 + 50 * (place % 3))
        ]
        found.append(Job(FORM, parse, number, b"\n".join(rows) + b"\n"))
        number += len(rows)
    return found


def told(piece: Piece) -> tuple[Any, ...]:
    return (*piece._replace(batch=None), piece.batch.to_pylist())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 17])
def test_several_processes_give_what_one_gives_in_the_same_order(
    workers: Workers[Job, list[Piece]], count: int
) -> None:
    jobs = made(count)
    one, many = map(read_block, jobs), workers.in_order(jobs)
    left, right = ([[told(p) for p in found] for found in way] for way in (one, many))
    assert left == right
    assert len(left) == count


def test_a_worker_that_is_killed_is_told_and_nothing_hangs(
    workers: Workers[Job, list[Piece]],
) -> None:
    for process in workers._processes:
        os.kill(process.pid or 0, signal.SIGKILL)
    with pytest.raises(Retry, match="was ended"):
        list(workers.in_order(made(9)))


def test_a_fault_of_our_own_in_a_worker_is_told(workers: Workers[Job, list[Piece]]) -> None:
    with pytest.raises(RuntimeError, match="TypeError"):
        list(workers.in_order(made(2, json.loads)))


def test_what_is_made_apart_comes_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oikyo_trainer.data.workers.available_cpus", lambda: 2)
    with apart(lambda: ((n, os.getpid()) for n in range(9)), WORTH) as made:
        numbers, makers = zip(*made, strict=True)
    assert numbers == tuple(range(9))
    assert os.getpid() not in makers
    with apart(lambda: ((n, os.getpid()) for n in range(9)), WORTH - 1) as made:
        assert [*made] == [(n, os.getpid()) for n in numbers]


@pytest.mark.parametrize(
    ("fault", "raised", "told"),
    [
        (lambda: Refused("InvalidModel", "it cannot be read"), Refused, "cannot be read"),
        (lambda: OSError(errno.ENOSPC, "no room is left"), OSError, "no room is left"),
        (lambda: ValueError("of our own"), RuntimeError, "ValueError: of our own"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), Retry, "was ended"),
    ],
)
def test_a_fault_apart_is_told_behind_what_was_made_before_it(
    monkeypatch: pytest.MonkeyPatch, fault: Any, raised: type[Exception], told: str
) -> None:
    def work() -> Iterator[int]:
        yield 1
        raise fault()

    monkeypatch.setattr("oikyo_trainer.data.workers.available_cpus", lambda: 2)
    with apart(work, WORTH) as made:
        assert next(made) == 1
        with pytest.raises(raised, match=told):
            next(made)


def test_nobody_who_is_apart_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oikyo_trainer.data.workers.available_cpus", lambda: 2)
    with apart(itertools.count, WORTH) as made:
        assert next(made) == 0
    assert not multiprocessing.active_children()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"\x0b", b"\x85", b"bc"])))
def test_blocks_hold_the_lines_that_lines_gives(parts: list[bytes]) -> None:
    body = b"".join(parts)
    found = [(number, list(of_block(block))) for number, block, _ in blocks(_Dribble(body))]
    numbered = [(n + i, line) for n, every in found for i, line in enumerate(every)]
    assert numbered == list(enumerate(lines(_Dribble(body)), 1))


@pytest.mark.parametrize("extra", [-2, -1, 0, 1, 2, 3, 5 << 20])
@pytest.mark.parametrize("end", [b"", b"\n", b"\nnext\n"])
def test_a_line_over_the_cap_is_told_as_one_by_both_ways(
    tmp_path: Path, extra: int, end: bytes
) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"first\n" + b"x" * (LONGEST_ROW + extra) + end)
    with path.open("rb") as one, path.open("rb") as other:
        by_lines = list(lines(one))
        by_blocks = [line for _, block, _ in blocks(other) for line in of_block(block)]
    assert by_lines == by_blocks
    assert [type(line) for line in by_lines] == [type(line) for line in by_blocks]
    assert (LongLine in map(type, by_lines)) == (extra > (1 if end else 0))


@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packing", ["", "gzip"])
def test_parts_that_are_read_where_they_lie_hold_the_rows_of_the_file(
    tmp_path: Path, begin: bytes, packing: Any
) -> None:
    told = [json.dumps({"text": f"t {n} " + "x" * (n % 97)}).encode() for n in range(60_000)]
    told[20_000] = b"x" * (5 << 20)  # over the cap: its part holds the beginning alone
    body = begin + b"\n".join(told)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(body, 1) if packing else body)
    file = DataFile("rows.jsonl", path, "JSONL", path.stat().st_size, packing)
    found = in_blocks(file)
    assert found is not None
    parse, numbered = found
    parts = list(numbered)
    kinds = {type(part) for _, part in parts}
    assert kinds == ({bytes} if packing else {bytes, jsonl.Part})
    assert [item for part in parts for item in parse(*part)] == list(read(file))


class _Dribble(io.BytesIO):
    """A file that gives three bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3)


TEXTS = st.text(" ab\t\n\x1c\x7f\u00e9e\u0301\u00a0\u2028", min_size=1, max_size=6)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.builds(
            Hashed,
            st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
            st.one_of(TEXTS, st.just(""), st.builds("{}\0{}".format, TEXTS, TEXTS)),
            st.one_of(st.none(), st.lists(TEXTS, min_size=1, max_size=2).map(tuple)),
        )
    )
)
def test_hashing_many_rows_at_once_hashes_each_in_its_normal_form(rows: list[Hashed]) -> None:
    import hashlib

    def digest(text: str, size: int = 16) -> bytes:
        return hashlib.sha256(text.encode()).digest()[:size]

    found = keys_of(7, rows)
    normal = [[normalise(part) for part in row.parts] for row in rows]
    pairs = list(zip(rows, normal, strict=True))
    assert found.input == b"".join(digest("\0".join(["7", *parts])) for parts in normal)
    assert found.row == b"".join(
        digest("\0".join([*parts, normalise(row.answer)])) for row, parts in pairs
    )
    assert found.exact == b"".join(digest("\0".join([*row.parts, row.answer]), 32) for row in rows)
    asked = ["\0".join(map(normalise, row.question)) for row in rows if row.question]
    assert found.question == b"".join(map(digest, asked))


PIECES = [
    *(b'"', b"\\", b'\\"', b'\\\\"', b"{", b"}", b"[", b"]", b":", b",", b"\\ud83d", b"\\udc00"),
    *(b"\\u0000", b"\xff", b"\xc3", b"NaN", b"1e999", b"9" * 30, b'"a":1,"a":2,', b"\x1f", b"-0"),
    *(b"[" * 60 + b"]" * 60, b'{"a":' * 55 + b"1" + b"}" * 55, b'"":"",', b"\xed\xa0\x80"),
]


def test_the_fast_parser_says_what_the_strict_one_says() -> None:
    draw = random.Random(11)
    row = {"text": 'say "x", \u00e4\n', "label": 3, "turns": [{"role": "user", "n": [1.5, None]}]}
    whole = [json.dumps(row, ensure_ascii=short).encode() for short in (True, False)]
    for _ in range(20_000):
        line = draw.choice(whole)
        for _ in range(draw.choice((1, 1, 2, 3))):
            at = draw.randrange(len(line) + 1)
            line = line[:at] + draw.choice(PIECES) + line[at + draw.choice((0, 0, 1, 4)) :]
        line += draw.choice((b"", b"\n"))
        assert repr(jsonl.row(3, line)) == repr(jsonl._strict(3, line)), line
