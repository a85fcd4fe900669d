"""Weights of sources and folds: from content, stable, never across the split, told in report and card."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api.split import Split
from oikyo_trainer.errors import Refused


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    return [{"text": f"{name} asks number {n}", "label": "ab"[n % 2]} for n in range(count)]


def version(desk: Any) -> Path:
    return next(desk.workspace.glob("datasets/*/manifest.json")).parent


def read(desk: Any, split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(version(desk) / f"{split}.parquet").to_pylist()
    return rows


def weighted(desk: Any, *pairs: tuple[Path, str], **more: Any) -> Any:
    spec = desk.spec(*(path for path, _ in pairs), **more)
    sources = tuple(
        source.model_copy(update={"weight": weight})
        for source, (_, weight) in zip(spec.sources, pairs, strict=True)
    )
    from oikyo_trainer.data.prepare import prepare

    return prepare(spec.model_copy(update={"sources": sources}), desk.context())


def test_an_epoch_shows_a_source_as_often_as_its_weight_says(a_desk: Any) -> None:
    plain, desk = a_desk("plain"), a_desk("weighted")
    files = [desk.rows(f"{name}.jsonl", rows_of(name, 1000)) for name in ("one", "two", "half")]
    again = [plain.rows(f"{name}.jsonl", rows_of(name, 1000)) for name in ("one", "two", "half")]
    plain.prepare(*again)
    made = weighted(desk, (files[0], "1"), (files[1], "2.25"), (files[2], "0.5"))
    seen: Counter[str] = Counter()
    for row in read(desk, "train"):
        seen[row["text"].split()[0]] += row["learn.times"]
    unweighted = Counter(row["text"].split()[0] for row in read(plain, "train"))
    assert seen["one"] == unweighted["one"]
    assert abs(seen["two"] / unweighted["two"] - 2.25) < 0.07
    assert abs(seen["half"] / unweighted["half"] - 0.5) < 0.08
    for split in ("validation", "test"):
        assert {row["id"] for row in read(desk, split)} == {row["id"] for row in read(plain, split)}
        assert {row["learn.times"] for row in read(desk, split)} == {1}
    assert "learn.times" not in read(plain, "train")[0]
    report = json.loads((version(desk) / "report.json").read_text())
    assert [one["weight"] for one in report["weights"]] == ["1", "2.25", "0.5"]
    assert report["weights"][1]["rows_an_epoch"] == seen["two"]
    (choice,) = [one for one in made.resolved if one.name == "data.sources.weight"]
    assert choice.value == f"{seen.total()} rows an epoch of {made.train} different ones"
    assert (
        f"| 2.25 | {unweighted['two']} | {seen['two']} |"
        in (version(desk) / "README.md").read_text()
    )


def test_a_row_is_drawn_the_same_way_when_the_data_grows(a_desk: Any) -> None:
    few, more = a_desk("few"), a_desk("more")
    times = []
    for desk, count in ((few, 300), (more, 600)):
        weighted(desk, (desk.rows("a.jsonl", rows_of("a", count)), "0.5"))
        times.append({row["id"]: row["learn.times"] for row in read(desk, "train")})
    assert len(times[0]) > 50
    assert all(times[1][row] == count for row, count in times[0].items())


def test_a_row_of_several_sources_has_the_greatest_weight(desk: Any) -> None:
    both = rows_of("both", 200)
    first, second = desk.rows("a.jsonl", both), desk.rows("b.jsonl", both + rows_of("b", 50))
    weighted(desk, (first, "1"), (second, "3"))
    assert {row["learn.times"] for row in read(desk, "train")} == {3}


def test_folds_keep_families_and_groups_whole(desk: Any) -> None:
    rows = [
        {"text": f"message {n} of {who} here", "label": "ab"[n % 2], "customer": who}
        for who in range(60)
        for n in range(5)
    ]
    made = desk.prepare(
        desk.rows("a.jsonl", rows), folds=4, split=Split(group_by="customer", test="0.2")
    )
    fold_of: dict[str, set[int]] = {}
    for split in ("train", "validation"):
        for row in read(desk, split):
            fold_of.setdefault(row["text"].split()[3], set()).add(row["learn.fold"])
    assert all(len(found) == 1 for found in fold_of.values())
    counts = json.loads((version(desk) / "report.json").read_text())["folds"]
    assert sum(counts) == made.train + made.validation
    assert len(counts) == 4
    assert min(counts) > 0


def test_near_duplicates_share_a_fold_and_growth_moves_none(a_desk: Any) -> None:
    told = "please tell me where my parcel number {} from the shop in the next town is just now"
    rows = [
        {
            "text": told.format(f"{n} {n + 7} {n + 11} {n + 13} {n + 17}") + end,
            "label": "ab"[n % 40 // 20],
        }
        for n in range(0, 3000, 20)
        for end in ("", " thanks")
    ]
    few, more = a_desk("few"), a_desk("more")
    folds = []
    for desk, given in ((few, rows), (more, rows + rows_of("other", 300))):
        desk.prepare(desk.rows("a.jsonl", given), folds=5)
        folds.append(
            {r["text"]: r["learn.fold"] for s in ("train", "validation") for r in read(desk, s)}
        )
    assert len(folds[0]) > 200
    for text, fold in folds[0].items():
        assert folds[0].get(text + " thanks", fold) == fold
    assert all(folds[1][text] == fold for text, fold in folds[0].items())
    assert set(folds[0].values()) == {0, 1, 2, 3, 4}


def test_an_empty_fold_is_refused(desk: Any) -> None:
    with pytest.raises(Refused, match=r"fold .* of the 20 of evaluation"):
        desk.prepare(desk.rows("a.jsonl", rows_of("a", 30)), folds=20)
