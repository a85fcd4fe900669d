"""Rows with several labels: each label is a class, whatever sets they stand in; and folds beside synthetic rows."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.augment import Augment
from oikyo.api.data import Fields
from oikyo.api.split import Split
from oikyo_trainer import labelset
from oikyo_trainer.evaluation.rows import open_dataset

NAMES = [f"topic{number}" for number in range(20)]
SETS = Fields(label_separator=",")


def tagged(seed: int, count: int = 400) -> list[dict[str, str]]:
    """Rows of which hardly two have the same set of labels."""
    draw = random.Random(seed)
    return [
        {
            "text": f"question {n} {draw.random()}",
            "label": ",".join(draw.sample(NAMES, draw.randint(1, 6))),
        }
        for n in range(count)
    ]


def splits(desk: Any, digest: str) -> dict[str, list[dict[str, Any]]]:
    folder: Path = desk.workspace / layout.dataset(digest)
    return {
        name: pq.read_table(folder / f"{name}.parquet").to_pylist()
        for name in ("train", "validation", "test")
    }


def names_in(rows: list[dict[str, Any]]) -> Counter[str]:
    return Counter(name for row in rows for name in labelset.names_of(row["label"]))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sets_that_stand_once_do_not_empty_the_test_split(desk: Any, seed: int) -> None:
    result = desk.prepare(desk.rows("a.jsonl", tagged(seed)), fields=SETS)
    # 40 are expected on each side, with a deviation of 6.
    assert 20 <= result.test <= 60
    assert 20 <= result.validation <= 60
    assert set(names_in(splits(desk, result.dataset_digest)["train"])) == set(NAMES)


def test_a_label_of_one_row_is_trained_on(desk: Any) -> None:
    for seed in range(8):
        rows = tagged(seed, 60)
        rows[7]["label"] += ",rare"
        result = desk.prepare(desk.rows(f"{seed}.jsonl", rows), fields=SETS)
        assert "rare" in names_in(splits(desk, result.dataset_digest)["train"])


def test_stratify_gives_each_row_to_its_rarest_label(desk: Any) -> None:
    rows = tagged(4)
    counts = Counter(name for row in rows for name in row["label"].split(","))

    def rarest(names: tuple[str, ...]) -> str:
        return min(names, key=lambda name: (counts[name], name))

    stratified = Split(stratify=True)
    result = desk.prepare(desk.rows("a.jsonl", rows), fields=SETS, split=stratified)
    parts = splits(desk, result.dataset_digest)
    classes = Counter(rarest(tuple(row["label"].split(","))) for row in rows)
    for side in ("validation", "test"):
        own = Counter(rarest(labelset.names_of(row["label"])) for row in parts[side])
        for name, count in classes.items():
            assert abs(own[name] - count / 10) <= 1
    assert 30 <= result.test <= 50
    again = desk.prepare(desk.rows("b.jsonl", rows[::-1]), fields=SETS, split=stratified)
    assert again.dataset_digest == result.dataset_digest


def test_rows_without_a_label_are_divided_like_the_others(desk: Any) -> None:
    rows = tagged(5)
    for row in rows[::4]:
        row["label"] = ""
    for stratify in (False, True):
        split = Split(stratify=stratify)
        result = desk.prepare(desk.rows("a.jsonl", rows), fields=SETS, split=split)
        parts = splits(desk, result.dataset_digest)
        assert all(any(row["label"] == "[]" for row in part) for part in parts.values())


def test_a_synthetic_row_is_in_the_fold_of_its_source_and_never_measured(desk: Any) -> None:
    draw = random.Random(6)
    rows = [
        {"text": f"{' '.join(draw.sample(NAMES, 8))} {n}", "label": "ab"[n % 2]} for n in range(200)
    ]
    augment = Augment(templates=("please: {text}", "{text}, thanks"), per_row=2)
    result = desk.prepare(desk.rows("a.jsonl", rows), augment=augment, folds=4)
    train = splits(desk, result.dataset_digest)["train"]
    made = [row for row in train if row["synthetic"]]
    assert len(made) == result.synthetic > 150
    folds = {row["source"]: row["learn.fold"] for row in train if not row["synthetic"]}
    assert all(row["learn.fold"] == folds[row["source"]] for row in made)
    assert len(set(folds.values())) == 4
    dataset = open_dataset(desk.workspace, result.dataset_digest)
    for fold in range(4):
        measured = dataset.fold(fold)
        assert not {row["text"] for row in measured} & {row["text"] for row in made}
        held = {place for place, number in folds.items() if number == fold}
        learned = [row for row in train if row["learn.fold"] != fold]
        assert not held & {row["source"] for row in learned}
