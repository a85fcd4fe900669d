"""Rows with a number: told from their values, read from any format, compared, split and described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo.api.augment import Augment, Edits
from oikyo.api.duplicates import Duplicates
from oikyo_trainer.data.__main__ import main
from oikyo_trainer.errors import Refused
from oikyo_trainer.numbers import LARGEST, Scale, number_in, scale_of, text_of

TASK = "TextRegression"


def rows(count: int = 240) -> list[dict[str, Any]]:
    return [{"text": f"review number {i}", "score": (i % 41) / 4} for i in range(count)]


def version(desk: Any, made: Any) -> Path:
    return desk.workspace / "datasets" / made.dataset_digest.removeprefix("sha256:")


def prepared(desk: Any, lines: list[dict[str, Any]], **more: Any) -> Any:
    return desk.prepare(desk.rows("rows.jsonl", lines), task=TASK, **more)


@given(st.floats(-LARGEST, LARGEST, allow_nan=False))
def test_a_number_is_read_back_from_its_text(number: float) -> None:
    assert number_in(text_of(number)) == number
    assert number_in(number) == number


@pytest.mark.parametrize(
    ("value", "number"),
    [(" 3.50 ", 3.5), ("-1e3", -1000), (".5", 0.5), ("5.", 5), (3, 3), (-0.0, 0), ("+7", 7)],
)
def test_usual_ways_to_write_a_number(value: Any, number: float) -> None:
    assert number_in(value) == number
    assert not str(number_in(value)).startswith("-0.0")


@pytest.mark.parametrize(
    "value", ["", "1,5", "1_000", "nan", "inf", "0x10", "1e400", "four", "\u0663", True, [1], {}, 10**400]
)  # fmt: skip
def test_what_is_no_number(value: Any) -> None:
    with pytest.raises(ValueError, match="is "):
        number_in(value)


def test_the_scale_is_exact_whatever_the_order() -> None:
    numbers = np.random.default_rng(1).normal(1e9, 3.0, 10_001)
    scale = scale_of(numbers)
    assert scale == scale_of(numbers[::-1])
    assert scale.std == pytest.approx(np.std(numbers), rel=1e-9)
    assert scale.told(scale.learned(numbers)) == pytest.approx(numbers, rel=1e-12)
    assert Scale(2, 4).learned(10) == 2


def test_every_format_gives_the_same_version(desk: Any, a_desk: Any) -> None:
    lines = rows()
    made = [prepared(desk, lines)]
    other = a_desk("csv")
    text = "text,score\n" + "".join(f"{row['text']},{row['score']}\n" for row in lines)
    made.append(other.prepare(other.file("rows.csv", text), task=TASK))
    other = a_desk("parquet")
    path = other.root / "rows.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(lines), path)
    made.append(other.prepare(path, task=TASK))
    assert len({one.dataset_digest for one in made}) == 1
    table = pq.read_table(version(desk, made[0]) / "train.parquet")
    assert table.schema.field("label").type == pa.float64()
    manifest = json.loads((version(desk, made[0]) / "manifest.json").read_bytes())
    learned = np.array(table["label"])
    assert manifest["shape"] == "regression"
    assert manifest["scale"] == pytest.approx({"mean": learned.mean(), "std": learned.std()})
    field = json.loads((version(desk, made[0]) / "croissant.json").read_bytes())["recordSet"][0][
        "field"
    ]
    assert {one["name"]: one["dataType"] for one in field}["train/label"] == "sc:Float"


def test_equal_numbers_are_duplicates_and_others_are_told_as_conflicts(desk: Any) -> None:
    lines = [
        *rows(),
        {"text": "review  number 3", "score": "0.750"},
        {"text": "review number 5", "score": 9},
    ]
    made = prepared(desk, lines)
    assert made.duplicates == 1
    (found,) = [one for one in made.findings if one.code == "conflicting-answers"]
    assert found.count == 2
    report = json.loads((version(desk, made) / "report.json").read_bytes())
    assert [one["label"] for one in report["conflicts"]["examples"][0]] == ["1.25", "9"]


def test_rows_that_are_alike_stay_where_their_numbers_differ(desk: Any) -> None:
    words = " ".join(f"word{i}" for i in range(40))
    lines = [*rows(), {"text": words, "score": 1}, {"text": f"{words} a", "score": 1},
             {"text": f"{words} b", "score": 2}]  # fmt: skip
    made = prepared(desk, lines, duplicates=Duplicates(near="Remove"))
    kept = [
        row["label"]
        for side in ("train", "validation", "test")
        for row in pq.read_table(version(desk, made) / f"{side}.parquet").to_pylist()
        if row["text"].startswith("word0")
    ]
    assert sorted(kept) == [1, 2]


def test_a_number_far_out_is_told(desk: Any) -> None:
    lines = rows()
    lines[17]["score"] = -9999
    (found,) = prepared(desk, lines).findings
    assert (found.code, found.severity, found.count) == ("number-outlier", "Warning", 1)
    assert "rows.jsonl:18" in found.example
    assert "has the number -9999; half of the rows lie between" in str(found)


def test_a_test_side_of_one_number_is_refused(desk: Any) -> None:
    test = desk.rows("test.jsonl", [{"text": f"asked {i}", "score": 2} for i in range(30)])
    with pytest.raises(Refused, match="every row of the test split has the number 2") as refused:
        prepared(desk, rows(), tests=(test,))
    assert refused.value.reason == "ConstantNumber"


def test_synthetic_rows_keep_their_number(desk: Any) -> None:
    made = prepared(desk, rows(), augment=Augment(edits=Edits()))
    table = pq.read_table(version(desk, made) / "train.parquet").to_pylist()
    own = {row["source"]: row["label"] for row in table if not row["synthetic"]}
    made_rows = [row for row in table if row["synthetic"]]
    assert made_rows
    assert all(row["label"] == own[row["source"]] for row in made_rows)


def test_the_report_and_the_page_show_the_numbers(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = prepared(desk, rows())
    report = json.loads((version(desk, made) / "report.json").read_bytes())
    train = report["splits"]["train"]["numbers"]
    assert (train["least"], train["greatest"], train["different"]) == (0, 10, 41)
    assert sum(bucket["rows"] for bucket in train["histogram"]) == made.train
    page = desk.root / "page.html"
    assert main(["report", str(desk.root / "rows.jsonl"), "-o", str(page)]) == 0
    assert "<h2>Numbers</h2>" in page.read_text()
    assert "<h2>Classes</h2>" not in page.read_text()


@pytest.mark.parametrize(
    ("lines", "task", "why"),
    [
        ([{"text": "a", "score": 3}], TASK, "its column score has numbers alone"),
        ([{"text": "a", "label": 0.5}], TASK, "its column label has numbers such as 0.5"),
        ([{"text": "a", "label": "2.5"}], TASK, "its column label has numbers such as 2.5"),
        ([{"text": "a", "label": 2}], "TextClassification", "it has the columns text and label"),
        ([{"text": "a", "score": "good"}], "TextGeneration", "its only usual column is text"),
        (
            [{"text": "a", "label": "x", "score": 0.5}],
            "TextClassification",
            "it has the columns text and label",
        ),
    ],
)
def test_the_task_is_told_from_the_values(
    desk: Any, capsys: pytest.CaptureFixture[str], lines: Any, task: str, why: str
) -> None:
    path = desk.rows("some.jsonl", lines * 3)
    main(["check", str(path)])
    assert capsys.readouterr().out.startswith(f"{task}: {why}\n")


def test_check_names_the_line_and_stratify_is_refused(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = rows()
    lines[7]["score"] = "1,5"
    path = str(desk.rows("rows.jsonl", lines))
    assert main(["check", path, "--min-test-rows", "1"]) == 64
    told = capsys.readouterr()
    assert "rows.jsonl:8: the field 'score' is no number; write a decimal point" in told.out
    assert main(["check", path, "--stratify"]) == 64
    assert "TextRegression has no classes" in capsys.readouterr().err


def test_numbers_become_labels_of_no_class_but_answers_of_a_chat(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = desk.rows("rows.jsonl", rows(3)), desk.root / "out.jsonl"
    assert main(["convert", str(path), str(out), "--from", "text-number", "--to", "messages"]) == 0
    turns = json.loads(out.read_text().splitlines()[1])["messages"]
    assert turns[1] == {"role": "assistant", "content": "0.25"}
    assert (
        main(["convert", str(path), str(out), "--from", "text-number", "--to", "text-label"]) == 64
    )
    assert "a number is no class" in capsys.readouterr().err
    labels = desk.rows("labels.jsonl", [{"text": "a", "label": 4}, {"text": "b", "label": "5.5"}])
    assert (
        main(["convert", str(labels), str(out), "--to", "text-number", "--from", "text-label"]) == 0
    )
    assert [json.loads(line)["label"] for line in out.read_text().splitlines()] == [4, 5.5]
    labels = desk.rows("labels.jsonl", [{"text": "a", "label": "good"}])
    assert (
        main(["convert", str(labels), str(out), "--to", "text-number", "--from", "text-label"])
        == 64
    )
    assert "its label 'good' is no number" in capsys.readouterr().err


def test_a_drift_of_the_numbers_is_told(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    old = desk.rows("old.jsonl", rows())
    new = desk.rows("new.jsonl", [{**row, "score": row["score"] * 3} for row in rows()])
    assert main(["diff", str(old), str(new)]) == 0
    assert "numbers     PSI" in (told := capsys.readouterr().out)
    assert "clear drift, median 4.875 -> 14.625" in told
