"""split.groupBy: a group is on one side, keeps it when it grows, and no input leaks across sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oikyo.api.split import Split
from oikyo_trainer.data.examine import Examined
from oikyo_trainer.data.split import DROPPED, TEST, TRAIN
from oikyo_trainer.errors import Refused
from unit.trainer.data.conftest import looked_at

SPLIT = Split(validation="0.2", test="0.3", group_by="customer")


def tickets(each: int, customers: int = 40) -> list[dict[str, Any]]:
    return [
        {"text": f"message {n} of {who} here", "label": "ab"[n % 2], "customer": who}
        for who in range(customers)
        for n in range(each)
    ]


def sides_of(found: Examined, rows: list[dict[str, Any]]) -> dict[Any, set[int]]:
    told: dict[Any, set[int]] = {}
    for row, side in zip(rows, found.sides.tolist(), strict=True):
        if side != DROPPED:
            told.setdefault(row["customer"], set()).add(side)
    return told


def test_a_group_is_on_one_side_and_keeps_it_when_it_grows(desk: Any, tmp_path: Path) -> None:
    sides = []
    for each in (2, 5):
        rows = tickets(each)
        path = desk.rows(f"{each}.jsonl", rows)
        found, _, _ = looked_at(desk.spec(path, split=SPLIT), tmp_path / str(each))
        sides.append(sides_of(found, rows))
    assert all(len(side) == 1 for side in sides[1].values())
    assert sides[0] == sides[1]
    assert {side for group in sides[0].values() for side in group} == {0, 1, 2}


def test_an_input_of_two_groups_stays_where_it_tests(desk: Any, tmp_path: Path) -> None:
    rows = tickets(3) + [
        {"text": "hello", "label": "a", "customer": who, "n": who} for who in range(40)
    ]
    rows += [{"text": "good day", "label": "ab"[who % 2], "customer": who} for who in range(40)]
    found, _, _ = looked_at(
        desk.spec(desk.rows("a.jsonl", rows), split=SPLIT), tmp_path / "staging"
    )
    shared = [
        side for row, side in zip(rows, found.sides, strict=True) if row["text"] == "good day"
    ]
    assert {int(side) for side in shared} <= {DROPPED, TEST}
    for text in {row["text"] for row in rows}:
        own = [s for row, s in zip(rows, found.sides, strict=True) if row["text"] == text]
        assert len({int(side) for side in own} - {DROPPED}) <= 1


def test_rows_of_a_group_in_the_given_test_set_are_dropped(desk: Any, tmp_path: Path) -> None:
    learn = tickets(3, customers=20)
    test = [{"text": f"other {n}", "label": "ab"[n % 2], "customer": n % 4} for n in range(8)]
    spec = desk.spec(desk.rows("a.jsonl", learn), tests=(desk.rows("t.jsonl", test),), split=SPLIT)
    found, _, _ = looked_at(spec, tmp_path / "staging")
    left = {learn[row]["customer"] for row in np.flatnonzero(found.kept.mask) if row < len(learn)}
    assert left == set(range(4, 20))
    assert int(found.kept.leaked.sum()) == 12
    assert (found.sides[len(learn) :] == TEST).all()
    assert (found.sides == TRAIN).any()


@pytest.mark.parametrize(
    ("value", "code", "says"),
    [
        (None, "missing-field", "'customer' of data.split.groupBy is missing or empty"),
        (" ", "missing-field", "missing or empty"),
        ([1], "wrong-type", "is no text, number or truth value"),
    ],
)
def test_a_row_without_a_group_is_a_bad_row(
    desk: Any, tmp_path: Path, value: Any, code: str, says: str
) -> None:
    rows = [*tickets(3), {"text": "lonely", "label": "a", "customer": value}]
    spec = desk.spec(desk.rows("a.jsonl", rows), split=SPLIT, max_bad_rows=1)
    _, intake, _ = looked_at(spec, tmp_path / "staging")
    (bad,) = intake.findings.kept
    assert (bad.line, bad.code) == (len(rows), code)
    assert says in bad.message


def test_a_file_without_the_column_is_refused(desk: Any, tmp_path: Path) -> None:
    rows = [{"text": f"t {n}", "label": "ab"[n % 2]} for n in range(40)]
    with pytest.raises(Refused, match=r"no column 'customer' \(data.split.groupBy\)"):
        looked_at(desk.spec(desk.rows("a.jsonl", rows), split=SPLIT), tmp_path / "staging")
