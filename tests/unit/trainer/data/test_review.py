"""oikyo data review: suspects out, a person's decisions in, the corrected file out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo_trainer.data.__main__ import main
from oikyo_trainer.data.insight.source import open_data
from oikyo_trainer.data.insight.suspects import Suspect
from oikyo_trainer.data.review import export

WORDS = {"a": "lost card wallet stolen", "b": "exchange rate euro dollar"}


def rows(count: int = 60) -> list[dict[str, Any]]:
    return [
        {"text": f"{' '.join(WORDS[kind].split()[i % 3 :])} {i}", "label": kind, "team": i}
        for i, kind in ((i, "ab"[i % 2]) for i in range(count))
    ]


@pytest.fixture
def data(desk: Any) -> Path:
    wrong = [*rows(), {"text": "lost card wallet stolen today", "label": "b", "team": 99}]
    path: Path = desk.rows("rows.jsonl", [*wrong, wrong[-1]])
    return path


def review_of(data: Path) -> tuple[Path, list[dict[str, str]]]:
    path = data.with_name("review.csv")
    assert main(["review", str(data), "-o", str(path)]) == 0
    return path, list(csv.DictReader(path.open(encoding="utf-8")))


def decide(path: Path, lines: list[dict[str, str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def applied(data: Path, review: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    output = data.with_name("corrected.jsonl")
    code = main(["review", str(data), "--apply", str(review), "-o", str(output), *more])
    body = output.read_text(encoding="utf-8") if output.exists() else ""
    return code, [json.loads(line) for line in body.splitlines()]


def test_the_suspect_stands_first_with_its_line_and_the_label_that_fits(data: Path) -> None:
    _, lines = review_of(data)
    assert lines[0]["source"] == f"{data}:61"
    assert (lines[0]["label"], lines[0]["suggested_label"]) == ("b", "a")
    assert lines[0]["why"] == "probable-label-error"
    assert lines[0]["decision"] == ""


def test_a_new_label_reaches_the_duplicates_and_leaves_the_other_columns(data: Path) -> None:
    review, lines = review_of(data)
    lines[0]["decision"] = "relabel:a"
    code, corrected = applied(data, decide(review, lines))
    assert code == 0
    assert corrected[:60] == rows()
    assert (
        corrected[60:] == [{"text": "lost card wallet stolen today", "label": "a", "team": 99}] * 2
    )


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_review_that_a_spreadsheet_saved_with_another_mark_is_read(data: Path, mark: str) -> None:
    review, lines = review_of(data)
    lines[0]["decision"] = "drop"
    with review.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=mark)
        writer.writeheader()
        writer.writerows(lines)
    assert applied(data, review) == (0, rows())


def test_dropped_rows_are_gone_and_undecided_ones_stay(data: Path) -> None:
    review, lines = review_of(data)
    lines[0]["decision"] = " Drop "
    code, corrected = applied(data, decide(review, lines))
    assert (code, corrected) == (0, rows())


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ("delete", "review.csv:2: the decision 'delete' is none"),
        ("relabel:", "review.csv:2: the decision 'relabel:' is none"),
        ("relabel:aa", "review.csv:2: no row has the label 'aa'"),
    ],
)
def test_a_bad_decision_is_refused_with_its_line_and_nothing_is_written(
    data: Path, capsys: pytest.CaptureFixture[str], decision: str, message: str
) -> None:
    review, lines = review_of(data)
    lines[0]["decision"] = decision
    assert applied(data, decide(review, lines)) == (64, [])
    assert message in capsys.readouterr().err
    assert not list(data.parent.glob(".corrected*"))


def test_a_label_that_is_new_is_accepted_when_asked(data: Path) -> None:
    review, lines = review_of(data)
    lines[0]["decision"] = "relabel:c"
    code, corrected = applied(data, decide(review, lines), "--new-labels")
    assert (code, corrected[-1]["label"]) == (0, "c")


def test_a_review_of_other_data_is_refused(
    desk: Any, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review, _ = review_of(data)
    other = desk.rows("other.jsonl", rows())
    assert applied(other, review)[0] == 64
    assert "review.csv:2: other.jsonl has no row with the id" in capsys.readouterr().err


def test_two_decisions_about_one_row_are_refused(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review, lines = review_of(data)
    lines = [{**lines[0], "decision": "drop"}, {**lines[0], "decision": "keep"}]
    assert applied(data, decide(review, lines))[0] == 64
    assert "review.csv:3: decides otherwise of the row of line 2" in capsys.readouterr().err


def test_a_file_that_is_no_review_is_refused(
    desk: Any, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    review = desk.file("review.csv", "row,verdict\n1,drop\n")
    assert applied(data, review)[0] == 64
    assert "has no column 'id'" in capsys.readouterr().err


def test_a_version_is_reviewed_and_corrected_like_a_file(desk: Any, data: Path) -> None:
    result = desk.prepare(data)
    version = desk.workspace / layout.dataset(result.dataset_digest)
    review = data.with_name("review.csv")
    assert main(["review", str(version), "-o", str(review)]) == 0
    lines = list(csv.DictReader(review.open(encoding="utf-8")))
    lines[0]["decision"] = "relabel:a"
    output = data.with_name("corrected.jsonl")
    decide(review, lines)
    assert main(["review", str(version), "--apply", str(review), "-o", str(output)]) == 0
    corrected = [json.loads(line) for line in output.open(encoding="utf-8")]
    assert len(corrected) == 61
    assert {"text": "lost card wallet stolen today", "label": "a"} in [
        {"text": row["text"], "label": row["label"]} for row in corrected
    ]


def test_prompts_are_reviewed_for_two_answers_and_cannot_be_relabelled(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [{"prompt": f"number {i}", "completion": f"it is {i}"} for i in range(30)]
    data = desk.rows("pairs.jsonl", [*pairs, {"prompt": "number 3", "completion": "no idea"}])
    review, lines = review_of(data)
    assert {line["why"] for line in lines[:2]} == {"conflicting-answers"}
    wrong = next(line for line in lines if line["label"] == "no idea")
    wrong["decision"] = "relabel:it is 3"
    assert applied(data, decide(review, lines))[0] == 64
    assert "the rows have no label" in capsys.readouterr().err
    wrong["decision"] = "drop"
    assert applied(data, decide(review, lines)) == (0, pairs)


def test_rows_of_one_class_are_reviewed_with_a_warning(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"text": "qwx zzk vvp", "label": "a"}
    data = desk.rows("rows.jsonl", [*({**row, "label": "a"} for row in rows()), odd])
    _, lines = review_of(data)
    assert [(line["text"], line["why"]) for line in lines] == [("qwx zzk vvp", "outlier")]
    assert "warning: rows.jsonl: a training would refuse this" in capsys.readouterr().err


def test_no_cell_of_the_export_is_a_formula(desk: Any) -> None:
    data = desk.rows("rows.jsonl", [{"text": "=1+1", "label": "a"}, {"text": "b", "label": "b"}])
    table = open_data(data).table
    row = table.texts.index("=1+1")
    (line,) = csv.DictReader(export(table, [Suspect(row, ("outlier",))]).splitlines())
    assert line["text"] == "'=1+1"
