"""Near-duplicates: what is found is alike, what is alike is found, and it stays on one side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oikyo.api.duplicates import Duplicates
from oikyo.api.split import Split
from oikyo_trainer.data.dedup import dedup
from oikyo_trainer.data.findings import FILE
from oikyo_trainer.data.intake import Intake
from oikyo_trainer.data.near import near
from oikyo_trainer.data.near.bands import MISSED, MOST_BANDS, banding
from oikyo_trainer.data.near.shingles import of_rows, shingles
from oikyo_trainer.data.split import TEST, TRAIN
from unit.trainer.data.conftest import looked_at

sys.path.insert(0, str(Path(__file__).parents[4] / "bench"))
import plant

WORDS = [f"word{number}" for number in range(400)]


def found_in(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


def text(start: int, count: int = 30) -> str:
    return " ".join(WORDS[start : start + count])


def rows(*texts: str, label: str = "a") -> list[dict[str, str]]:
    return [{"text": one, "label": label} for one in texts]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[plant.Fault]]:
    folder = tmp_path_factory.mktemp("planted")
    made = plant.plant(folder, plant.Plan(rows=6000, malformed=0, near_leaks=100))
    return folder, list(made.faults())


def test_planted_near_duplicates_and_leaks_are_found_and_nothing_else(
    desk: Any, planted: tuple[Path, list[plant.Fault]], tmp_path: Path
) -> None:
    folder, faults = planted
    spec = desk.spec(
        folder / "train.jsonl",
        tests=(folder / "test.jsonl",),
        duplicates=Duplicates(near="Remove"),
    )
    found, _, told = looked_at(spec, tmp_path / "staging")
    lines = found_in(tmp_path / "staging")
    near_leaks = {fault.line for fault in faults if fault.kind == "near-leak"}
    assert {one["line"] for one in lines if one["code"] == "near-leak"} == near_leaks
    pairs = {frozenset((fault.line, fault.of)) for fault in faults if fault.kind == "near"}
    told_pairs = [
        frozenset((one["line"], int(one["other"].rpartition(":")[2])))
        for one in lines
        if one["code"] == "near-duplicate"
    ]
    assert len(pairs & set(told_pairs)) >= 0.97 * len(pairs)
    # An exact copy of a pair's one half may stand for it; the texts are then the same.
    meant = {line for pair in pairs for line in pair} | {
        f.line for f in faults if f.kind == "exact"
    }
    wrong = [pair for pair in told_pairs if not pair <= meant]
    assert len(wrong) <= 0.01 * len(told_pairs)
    assert told["near_duplicates"]["count"] == len(told_pairs)
    assert int(found.kept.mask.sum()) == len(found.rows) - int(
        (found.kept.duplicate | found.kept.leaked).sum()
    )


def test_by_default_rows_that_are_alike_stay_and_share_a_side(
    desk: Any, planted: tuple[Path, list[plant.Fault]], tmp_path: Path
) -> None:
    folder, faults = planted
    found, _, _ = looked_at(desk.spec(folder / "train.jsonl"), tmp_path / "staging")
    place = {int(line): row for row, line in enumerate(found.rows.lines)}
    pairs = [(place[f.line], place[f.of]) for f in faults if f.kind == "near"]
    apart = [one for one in pairs if len({int(found.sides[row]) for row in one} - {-1}) > 1]
    assert len(pairs) == 180
    assert len(apart) <= 0.03 * len(pairs)
    again = dedup(found.rows, np.zeros(len(found.rows), dtype=bool))
    assert found.kept.mask.tolist() == again.mask.tolist()


def test_a_new_near_duplicate_moves_a_row_towards_train_at_most(desk: Any, tmp_path: Path) -> None:
    before = rows(*(text(start) for start in range(0, 300, 31)), label="a")
    before += rows(*(text(start + 7) + " other" for start in range(0, 300, 31)), label="b")
    more = [{**row, "text": row["text"] + " indeed"} for row in before]
    split = Split(validation="0.3", test="0.3")
    sides = []
    for name, data in (("one", before), ("two", before + more)):
        spec = desk.spec(desk.rows(f"{name}.jsonl", data), split=split)
        found, _, _ = looked_at(spec, tmp_path / name)
        sides.append(found.sides[: len(before)].tolist())
    assert all(after <= side for side, after in zip(*sides, strict=True))
    assert TEST in sides[0]
    assert TRAIN in sides[1]


def test_a_near_duplicate_with_another_label_is_kept_and_shares_the_side(
    desk: Any, tmp_path: Path
) -> None:
    data = [{"text": text(0), "label": "a"}, {"text": text(0) + " indeed", "label": "b"}]
    data += [{"text": text(start), "label": label} for start in range(40, 300, 31) for label in "a"]
    data += rows(*(text(start) for start in range(55, 300, 31)), label="b")
    spec = desk.spec(desk.rows("a.jsonl", data), duplicates=Duplicates(near="Remove"))
    found, _, told = looked_at(spec, tmp_path / "staging")
    assert told["near_duplicates"]["count"] == 0
    assert found.sides[0] == found.sides[1]


def test_of_near_duplicates_the_same_row_stays_in_any_order(desk: Any, tmp_path: Path) -> None:
    data = rows(text(0), text(0) + " indeed", *(text(start) for start in range(40, 300, 31)))
    data += rows(*(text(start) for start in range(55, 300, 31)), label="b")
    left = []
    for name, ordered in (("one", data), ("two", data[::-1])):
        path = desk.rows(f"{name}.jsonl", ordered)
        spec = desk.spec(path, duplicates=Duplicates(near="Remove"))
        found, _, _ = looked_at(spec, tmp_path / name)
        left.append({ordered[row]["text"] for row in np.flatnonzero(found.kept.mask)})
    assert left[0] == left[1]
    assert len(left[0]) == len(data) - 1


def test_chats_that_declare_the_same_tools_are_not_alike(desk: Any, tmp_path: Path) -> None:
    function = {"name": "weather", "description": text(300, 60), "parameters": {"type": "object"}}
    data = [
        {
            "messages": [
                {"role": "user", "content": text(number, 4)},
                {"role": "assistant", "content": text(number + 100, 4)},
            ],
            "tools": [{"type": "function", "function": function}],
        }
        for number in range(0, 100, 5)
    ]
    spec = desk.spec(desk.rows("a.jsonl", data), task="TextGeneration")
    _, intake, told = looked_at(spec, tmp_path / "staging")
    assert told["near_duplicates"]["count"] == 0
    assert not intake.findings.counts


def test_ignore_looks_for_nothing(desk: Any, tmp_path: Path) -> None:
    data = rows(text(0), text(0) + " indeed") + rows(
        *(text(s) for s in range(9, 300, 9)), label="b"
    )
    spec = desk.spec(desk.rows("a.jsonl", data), duplicates=Duplicates(near="Ignore"))
    _, intake, told = looked_at(spec, tmp_path / "staging")
    assert "near_duplicates" not in told
    assert not intake.findings.counts["near-duplicate"]


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("My card, has it arrived?", "my card has it arrived"),
        ("Wo ist die \u00dcberweisung", "wo ist die \u00fcberweisung!"),
        ("a\u00a0card \u2013 lost", "a card lost"),
        ("\u5361\u4e22\u4e86\u3002", "\u5361 \u4e22 \u4e86"),
    ],
)
def test_case_signs_and_blanks_do_not_count(desk: Any, tmp_path: Path, one: str, two: str) -> None:
    path = desk.rows("a.jsonl", rows(one) + rows(two, label="b"))
    spec = desk.spec(path, duplicates=Duplicates(near="Ignore"), split=Split(validation="0"))
    from oikyo_trainer.data.intake import take_in

    spool = take_in(
        spec,
        spec.sources,
        (),
        spool=tmp_path / "rows.arrow",
        intake=Intake(),
        tell=lambda *_: None,
    )
    found = of_rows(spool, spool.columns(), np.arange(2), lambda _, words: shingles(words, 2))
    ((flat, counts),) = found
    assert counts[0] == counts[1] > 0
    assert flat[: counts[0]].tolist() == flat[counts[0] :].tolist()


def test_a_template_that_most_rows_share_does_not_empty_the_test_set(
    desk: Any, tmp_path: Path
) -> None:
    data = [{"text": f"{text(0, 60)} number{n}", "label": "ab"[n % 2]} for n in range(200)]
    found, _, _ = looked_at(desk.spec(desk.rows("a.jsonl", data)), tmp_path / "staging")
    assert (found.sides == TEST).sum() >= 5


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9, 0.99])
def test_the_bands_miss_few_pairs_and_fit_on_disk(similarity: float) -> None:
    form = banding(similarity)
    assert (1 - similarity**form.width) ** form.bands <= MISSED
    assert form.bands <= MOST_BANDS
    assert near.LARGEST < 0.1
