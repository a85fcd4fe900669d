"""data.sliceBy: groups that a job's own report tells, and columns that stay beside the rows."""

from __future__ import annotations

import json
import random
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.checks import DataCheck
from oikyo.api.fewshot import FewShot
from oikyo_trainer.data.__main__ import main
from oikyo_trainer.data.fewshot import load
from oikyo_trainer.data.page.page import render
from oikyo_trainer.data.slicing import META, MOST, SliceColumns
from oikyo_trainer.errors import Refused

WORDS = [
    "card",
    "money",
    "lost",
    "transfer",
    "pin",
    "account",
    "help",
    "please",
    "today",
    "bank",
    "fee",
    "charge",
    "refund",
]


def rows(skew: float, seed: int = 3) -> list[dict[str, Any]]:
    """600 rows of three countries, refused more often in one of them by `skew`, and 12 of a fourth."""
    draw, made = random.Random(seed), list[dict[str, Any]]()
    for number in range(612):
        country = draw.choice(("de", "fr", "us")) if number >= 12 else "li"
        refused = draw.random() < (0.3 + skew if country == "fr" else 0.3)
        text = f"{' '.join(draw.choices(WORDS, k=9))} {number}"
        label = "refused" if refused else "granted"
        made.append({"text": text, "label": label, "country": country, "age": number % 3 or None})
    return made


def test_a_job_tells_small_slices_and_outcomes_that_differ(desk: Any) -> None:
    path = desk.rows("rows.jsonl", rows(0.4))
    result = desk.prepare(path, slice_by=("country",))
    codes = {one.code: one for one in result.findings}
    assert codes["small-slice"].count == 12
    assert "country = li has 12 rows, fewer than 30" in codes["small-slice"].example
    assert "country = fr: label" in codes["outcome-skew"].example
    report = json.loads((desk.workspace / "runs/job-00000000/prepare/report.json").read_text())
    assert {one["value"]: one["rows"] for one in report["slices"]["slices"]}["li"] == 12
    page = render("job", report, {})
    assert 'country = fr</td><td class="name">label &#39;refused&#39;</td>' in page
    assert "Outcomes that differ between slices" in page


def test_without_a_skew_none_is_told_and_a_check_can_refuse(desk: Any) -> None:
    path = desk.rows("rows.jsonl", rows(0.0))
    result = desk.prepare(path, slice_by=("country",))
    assert "outcome-skew" not in {one.code for one in result.findings}
    fail = (DataCheck(code="outcome-skew", action="Fail"),)
    with pytest.raises(Refused, match="country = fr"):
        desk.prepare(desk.rows("b.jsonl", rows(0.5)), slice_by=("country",), checks=fail)


def test_the_columns_stay_beside_the_rows_and_belong_to_the_digest(desk: Any) -> None:
    data = rows(0.0)
    path = desk.rows("rows.jsonl", data)
    plain = desk.prepare(path)
    sliced = desk.prepare(path, slice_by=("country", "age"), run="b-00000000")
    other = [{**row, "country": "xx"} if row["country"] == "de" else row for row in data]
    moved = desk.prepare(desk.rows("o.jsonl", other), slice_by=("country", "age"), run="c-00000000")
    assert len({one.dataset_digest for one in (plain, sliced, moved)}) == 3
    folder = desk.workspace / layout.dataset(sliced.dataset_digest)
    for side in ("train", "validation", "test"):
        for row in pq.read_table(folder / f"{side}.parquet").to_pylist():
            own = data[int(row["source"].rpartition(":")[2]) - 1]
            assert row[f"{META}country"] == own["country"]
            assert row[f"{META}age"] == (str(own["age"]) if own["age"] else None)
    assert main(["report", str(folder), "-o", str(desk.root / "page.html")]) == 0
    assert '<td>country</td><td class="name">li</td>' in (desk.root / "page.html").read_text()


def test_a_column_that_a_file_lacks_is_refused_with_those_that_it_has(desk: Any) -> None:
    with pytest.raises(Refused, match=r"no column 'land' \(data.sliceBy\).*country"):
        desk.prepare(desk.rows("rows.jsonl", rows(0.0)), slice_by=("land",))


def test_a_column_with_a_value_for_each_row_takes_little_memory() -> None:
    taken = SliceColumns(("id",))
    for number in range(5000):
        taken.add({"id": number})
    assert len(taken._values["id"]) == MOST + 1


def test_examples_of_each_class_that_a_column_names(desk: Any) -> None:
    topics = ("card", "app", None, "card", "fee")
    given = [
        {"prompt": f"what of {topics[n % 5]}, number {n}?", "completion": f"answer {n} in words", "topic": topics[n % 5]}
        for n in range(200)
    ]  # fmt: skip
    asked = FewShot(examples=4, choose_by="Class", class_by="topic")
    data = desk.rows("rows.jsonl", given)
    made = desk.prepare(data, task="TextGeneration", slice_by=("topic",), few_shot=asked)
    path = desk.workspace / layout.few_shot(made.dataset_digest, asked)
    choice = load(path)
    said = [choice.examples[place]["prompt"].split(",")[0][8:] for place in choice.fixed]
    assert said == ["card", *sorted(said[1:3]), "card"]
    assert set(said) == {"card", "app", "fee"}
    assert path != desk.workspace / layout.few_shot(
        made.dataset_digest, FewShot(examples=4, choose_by="Class")
    )
