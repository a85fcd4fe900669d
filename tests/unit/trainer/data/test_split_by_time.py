"""split.timeBy: the newest rows test, families stay together, and newer data moves rows towards train only."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oikyo.api.split import Split
from oikyo_trainer.data import times
from oikyo_trainer.data.columns import Columns
from oikyo_trainer.data.dedup import dedup
from oikyo_trainer.data.piece import Form
from oikyo_trainer.data.pieces import pieces
from oikyo_trainer.data.readers.row import Row
from oikyo_trainer.data.split import DROPPED, TEST, TRAIN, VALIDATION, assign
from oikyo_trainer.data.spool import Spool
from oikyo_trainer.errors import Refused

NOON = 1_700_000_000
BY_TIME = Split(validation="0.2", test="0.2", time_by="at")
Timed = tuple[str, str, int]  # text, label, second
ROWS = st.lists(
    st.tuples(st.text("abc", min_size=1, max_size=3), st.sampled_from("xy"), st.integers(0, 40)),
    min_size=6,
)
QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class TooFew(Exception):
    """The rows have fewer times than sides."""


def sides(folder: Path, rows: list[Timed], split: Split = BY_TIME) -> list[int]:
    spool = Spool(folder / "rows.arrow", "classification")
    names = {"text": "text", "label": "label"}
    form = Form(Columns("classification", names, {}), split, test=False)
    items = [
        Row(line, {"text": text, "label": label, "at": NOON + second})
        for line, (text, label, second) in enumerate(rows, 1)
    ]
    for piece in pieces(form, items):
        assert not piece.bad
        spool.add(piece, 0)
    spool.close()
    columns = spool.columns()
    none = np.zeros(len(columns), dtype=bool)
    try:
        return assign(columns, dedup(columns, none), none, split).tolist()
    except Refused as error:
        raise TooFew(error.message) if error.reason == "TooFewTimes" else error from None


def by_text(rows: list[Timed], found: list[int]) -> dict[str, int]:
    told: dict[str, int] = {}
    for (text, _, _), side in zip(rows, found, strict=True):
        if side != DROPPED:
            assert told.setdefault(text, side) == side, f"{text} stands on two sides"
    return told


def first_seen(rows: list[Timed]) -> dict[str, int]:
    seen: dict[str, int] = {}
    for text, _, second in rows:
        seen[text] = min(second, seen.get(text, second))
    return seen


def oldest_of_classes(rows: list[Timed]) -> set[str]:
    """The inputs that rule 4 may train: of each class one of the oldest, by its first time."""
    seen = first_seen(rows)
    least = {c: min(seen[t] for t, label, _ in rows if label == c) for _, c, _ in rows}
    return {text for text, label, _ in rows if seen[text] == least[label]}


@QUICK
@given(rows=ROWS)
def test_no_input_that_trains_is_newer_than_one_that_tests(
    tmp_path: Path, rows: list[Timed]
) -> None:
    with suppress(TooFew):
        told = by_text(rows, sides(tmp_path, rows))
        seen, exempt = first_seen(rows), oldest_of_classes(rows)
        for text, side in told.items():
            later = [seen[other] for other, held in told.items() if side < held]
            assert text in exempt or all(seen[text] < second for second in later)


@QUICK
@given(rows=ROWS, more=ROWS)
def test_newer_data_moves_no_row_back_towards_the_test_side(
    tmp_path: Path, rows: list[Timed], more: list[Timed]
) -> None:
    newest = max(second for _, _, second in rows)
    later = [(f"n{text}", label, newest + 1 + second) for text, label, second in more]
    with suppress(TooFew):
        before = by_text(rows, sides(tmp_path, rows))
        after = by_text(rows + later, sides(tmp_path, rows + later))
        times_in_train = {first_seen(rows)[text] for text, side in before.items() if side == TRAIN}
        # With one or two times in train the cut was not free: the sides needed a time each.
        if len(times_in_train - {first_seen(rows)[t] for t in oldest_of_classes(rows)}) > 1:
            assert all(after[text] <= side for text, side in before.items())


def test_every_row_of_its_own_time_never_returns_to_the_test_side(tmp_path: Path) -> None:
    rows = [(f"t{n}", "xy"[n % 2], n) for n in range(100)]
    before = sides(tmp_path, rows)
    for more in range(1, 60, 7):
        grown = rows + [(f"u{n}", "xy"[n % 2], 100 + n) for n in range(more)]
        after = sides(tmp_path, grown)[:100]
        assert all(new <= old for old, new in zip(before, after, strict=True))
    assert [before.count(side) for side in (TRAIN, VALIDATION, TEST)] == [60, 20, 20]
    assert before == sorted(before)


def test_a_class_that_is_new_trains_with_its_oldest_row(tmp_path: Path) -> None:
    rows = [(f"t{n}", "x", n) for n in range(50)] + [(f"n{n}", "new", 50 + n) for n in range(8)]
    found = sides(tmp_path, rows)
    assert found[50] == TRAIN
    assert set(found[51:]) == {TEST}


@pytest.mark.parametrize(
    ("value", "second"),
    [
        ("2023-11-14T22:13:20Z", NOON),
        ("2023-11-14T23:13:20+01:00", NOON),
        ("2023-11-14 22:13:20", NOON),
        ("20231114T221320Z", NOON),
        (NOON, NOON),
        (str(NOON), NOON),
        (float(NOON), NOON),
        (NOON * 10**3, NOON),
        (str(NOON * 10**6), NOON),
        (NOON * 10**9, NOON),
        (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), NOON),
        (date(2023, 11, 14), NOON - 80_000),
        ("2023-11-14", NOON - 80_000),
        ("1969-12-31T23:59:59Z", -1),
    ],
)
def test_times_are_read_as_they_are_written(value: Any, second: int) -> None:
    assert times.microseconds(value) == second * 10**6


@pytest.mark.parametrize(
    "value",
    ["soon", "2023-13-01", True, [1], {}, 17, "17", "nan", "1e400", float("inf"), -NOON, "9" * 40],
)
def test_what_is_no_time_is_none(value: Any) -> None:
    assert times.microseconds(value) is None


@given(at=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)))
def test_a_mark_tells_its_time_again_and_falls_as_time_goes_on(at: datetime) -> None:
    told = times.mark(Row(1, {"at": at}), "at")
    later = times.mark(Row(1, {"at": at.replace(year=min(9999, at.year + 1), day=1)}), "at")
    assert isinstance(told, bytes)
    assert isinstance(later, bytes)
    number = int.from_bytes(told[:8], "big")
    assert datetime.fromisoformat(times.shown(number)) == at.replace(tzinfo=UTC)
    assert later < told or at.year == 9999


def test_a_bad_time_is_a_bad_row_with_its_line_and_the_cuts_are_told(desk: Any) -> None:
    rows = [
        {"text": f"row {n}", "label": "ab"[n % 2], "at": f"2026-01-{1 + n // 4:02}T0{n % 4}:00:00Z"}
        for n in range(100)
    ]
    rows[41]["at"] = "yesterday"
    del rows[17]["at"]
    path = desk.rows("rows.jsonl", rows)
    with pytest.raises(Refused, match="maxBadRows is 0") as refused:
        desk.prepare(path, split=BY_TIME)
    assert (
        f"{path.as_uri()}:18: the column 'at' of data.split.timeBy is missing"
        in refused.value.evidence
    )
    assert (
        f"{path.as_uri()}:42: the column 'at' of data.split.timeBy is no time"
        in refused.value.evidence
    )
    made = desk.prepare(path, split=BY_TIME, max_bad_rows=2)
    assert (made.train, made.validation, made.test) == (59, 19, 20)
    (choice,) = [one for one in made.resolved if one.name == "data.split.timeBy"]
    assert choice.value == "validation from 2026-01-16T01:00:00Z, test from 2026-01-21T00:00:00Z"
    report = json.loads(next(desk.workspace.rglob("datasets/*/report.json")).read_text())
    assert report["times"]["sides"]["train"]["until"] == "2026-01-16T00:00:00Z"
    assert "2026-01-21T00:00:00Z" in next(desk.workspace.rglob("datasets/*/README.md")).read_text()


def test_a_file_without_the_column_or_without_times_is_refused(desk: Any) -> None:
    plain = [{"text": f"row {n}", "label": "ab"[n % 2]} for n in range(40)]
    with pytest.raises(Refused, match=r"no column 'at' \(data.split.timeBy\)"):
        desk.prepare(desk.rows("plain.jsonl", plain), split=BY_TIME)
    same = [{**row, "at": "2026-01-01"} for row in plain]
    with pytest.raises(Refused, match="1 different times in the column 'at'"):
        desk.prepare(desk.rows("same.jsonl", same), split=BY_TIME)


def test_a_given_test_set_needs_no_times(desk: Any) -> None:
    rows = [{"text": f"row {n}", "label": "ab"[n % 2], "at": NOON + n} for n in range(50)]
    test = [{"text": f"asked {n}", "label": "ab"[n % 2]} for n in range(10)]
    made = desk.prepare(
        desk.rows("rows.jsonl", rows), tests=(desk.rows("test.jsonl", test),), split=BY_TIME
    )
    assert (made.train, made.validation, made.test) == (40, 10, 10)


def test_cuts_hold_about_their_shares() -> None:
    marks = np.repeat(np.arange(10, dtype=np.uint64), 10)
    cut = times.cuts(marks, Decimal("0.2"), Decimal("0.3"), "at")
    assert ((marks < cut.test).sum(), (marks < cut.validation).sum()) == (20, 50)
