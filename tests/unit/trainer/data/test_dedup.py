"""Rows in the order of their keys and the numbers of equal ones: what plain sorting gives, part by part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oikyo_trainer.data import dedup, spool
from oikyo_trainer.data.near.near import connected

WORDS = st.sampled_from([0, 1, 2, 1 << 40, (1 << 40) + 1, 1 << 63, (1 << 64) - 1])
KEYS = st.lists(st.tuples(WORDS, WORDS), max_size=60)


def keys_of(pairs: list[tuple[int, int]]) -> npt.NDArray[np.uint64]:
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2)


@pytest.fixture(autouse=True, scope="module")
def _small_parts() -> object:
    patch = pytest.MonkeyPatch()
    patch.setattr(spool, "AT_ONCE", 7)
    yield
    patch.undo()


@settings(max_examples=200, deadline=None)
@given(KEYS)
def test_keys_that_begin_alike_are_in_order_too(pairs: list[tuple[int, int]]) -> None:
    keys = keys_of(pairs)
    assert dedup.in_order_of(keys).tolist() == sorted(range(len(pairs)), key=pairs.__getitem__)
    numbers = {pair: number for number, pair in enumerate(sorted(set(pairs)))}
    assert dedup.group(keys).tolist() == [numbers[pair] for pair in pairs]


@settings(max_examples=200, deadline=None)
@given(KEYS)
def test_keys_that_stand_again_are_found_with_all_their_rows(pairs: list[tuple[int, int]]) -> None:
    found, numbers = dedup.repeated(keys_of(pairs))
    again = {row for row, pair in enumerate(pairs) if pairs.count(pair) > 1}
    assert set(found.tolist()) == again
    assert len(found) == len(again)
    named = dict(zip(found.tolist(), numbers.tolist(), strict=True))
    assert all((named[a] == named[b]) == (pairs[a] == pairs[b]) for a in again for b in again)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=60))
def test_what_several_rows_have_is_told_across_parts(rows: list[tuple[int, bool]]) -> None:
    numbers = np.array([number % max(1, len(rows)) for number, _ in rows], dtype=np.int64)
    mask = np.array([own for _, own in rows], dtype=bool)
    counts = np.bincount(numbers[mask], minlength=len(rows) + 1)
    assert dedup.several(mask, numbers).tolist() == (counts > 1).tolist()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
def test_connected_nodes_have_the_least_of_them(pairs: list[tuple[int, int]]) -> None:
    least = list(range(30))
    for _ in least:
        for a, b in pairs:
            least[a] = least[b] = min(least[a], least[b])
    assert connected(30, np.array(pairs, dtype=np.int64).reshape(-1, 2)).tolist() == least


def test_room_for_many_rows_lies_in_a_file_that_is_gone(tmp_path: Path) -> None:
    none = np.zeros((0, 2), dtype=np.uint64)
    numbers = np.zeros(0, dtype=np.int64)
    short = np.zeros(0, dtype=np.int32)
    rows = spool.Rows(
        inputs=none, rows=none, exact=np.zeros(0, dtype="V32"), files=short, lines=numbers,
        lengths=short, label_codes=short, labels=(), folder=tmp_path,
    )  # fmt: skip
    room = rows.room(1000)
    room[:] = np.arange(1000)
    assert isinstance(room.base, np.memmap)
    assert room.sum() == 499500
    assert not list(tmp_path.iterdir())
