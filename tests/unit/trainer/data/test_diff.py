"""oikyo data diff: which rows came, went and changed, and what drifted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oikyo_trainer.data.__main__ import main


def rows(count: int) -> list[dict[str, str]]:
    return [{"text": f"question number {i}", "label": "ab"[i % 2]} for i in range(count)]


def told(capsys: pytest.CaptureFixture[str], *paths: Path) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["diff", *map(str, paths), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_each_row_is_same_added_removed_or_changed(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    old = rows(100)
    new = [{**old[0], "label": "b"}, *old[3:], {"text": "quite new", "label": "a"}]
    found = told(capsys, desk.rows("old.jsonl", old), desk.rows("new.jsonl", new))
    assert found["rows"] == {"old": 100, "new": 99, "same": 97}
    assert (found["added"]["count"], found["removed"]["count"]) == (1, 2)
    assert found["added"]["examples"][0]["text"] == "quite new"
    (changed,) = found["changed"]["examples"]
    assert (changed["text"], changed["answer"], changed["was"]) == ("question number 0", "b", "a")


def test_the_same_data_in_another_order_has_no_difference(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = desk.rows("old.jsonl", rows(50)), desk.rows("new.jsonl", rows(50)[::-1])
    found = told(capsys, old, new)
    assert [found[kind]["count"] for kind in ("added", "removed", "changed")] == [0, 0, 0]
    assert (found["drift"]["words"]["js"], found["drift"]["classes"]["psi"]) == (0.0, 0.0)


def test_drift_of_lengths_classes_and_words_is_told(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    new = [{"text": f"a much longer refund request {i} " * 3, "label": "c"} for i in range(90)]
    new += rows(10)
    found = told(capsys, desk.rows("old.jsonl", rows(100)), desk.rows("new.jsonl", new))["drift"]
    assert found["lengths"]["drift"] == found["classes"]["drift"] == "clear"
    assert (found["classes"]["new"], found["classes"]["gone"]) == (["c"], [])
    assert "refund" in found["words"]["more"]
    assert "question" in found["words"]["less"]
    assert 0.5 < found["words"]["js"] <= 1


def test_a_version_compares_with_the_file_it_was_made_from(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = desk.rows("rows.jsonl", rows(200))
    desk.prepare(path)
    folder = next((desk.workspace / "datasets").glob("*/manifest.json")).parent
    found = told(capsys, folder, path)
    assert (found["rows"]["same"], found["moved"]) == (200, 0)


def test_the_table_is_for_people(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = desk.rows("old.jsonl", rows(50)), desk.rows("new.jsonl", rows(40))
    assert main(["diff", str(old), str(new)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["same", "40"]
    assert "removed" in lines[2]
    assert any(line.startswith("classes     PSI 0.000, hardly any drift") for line in lines)


def test_rows_of_one_class_are_compared_with_a_warning(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    only = [row for row in rows(100) if row["label"] == "a"]
    one, both = desk.rows("one.jsonl", only), desk.rows("both.jsonl", rows(100))
    assert main(["diff", str(one), str(both), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["rows"]["same"], found["added"]["count"]) == (50, 50)
    assert found["drift"]["classes"]["new"] == ["b"]
    assert said.err.count("warning: ") == 1
    assert said.err.startswith("warning: one.jsonl: a training would refuse this: every row")


def test_two_shapes_are_not_compared(desk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = desk.rows("pairs.jsonl", [{"prompt": f"p {i}", "completion": "c"} for i in range(9)])
    assert main(["diff", str(desk.rows("rows.jsonl", rows(20))), str(pairs)]) == 64
    assert "prompt-completion rows" in capsys.readouterr().err


def test_a_path_may_lead_through_the_folder_above(
    desk: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.rows("rows.jsonl", rows(20))
    (desk.root / "below").mkdir()
    monkeypatch.chdir(desk.root / "below")
    assert told(capsys, Path("../rows.jsonl"), path)["rows"]["same"] == 20
