"""From a row of a version to its source line, and from a source line to what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout
from oikyo.api.augment import Augment, Edits
from oikyo.api.clean import Clean
from oikyo_trainer.data.__main__ import main


@pytest.fixture
def version(desk: Any) -> Path:
    rows = [{"text": f"<b>question</b> number {n}", "label": "ab"[n % 2]} for n in range(60)]
    rows += [rows[3], {"label": "a"}, {"text": "one", "label": "b"}]
    clean = Clean.model_validate({"html": "Inputs", "quality": {"minWords": 2}})
    result = desk.prepare(desk.rows("rows.jsonl", rows), clean=clean, max_bad_rows=1)
    return Path(desk.workspace / layout.dataset(result.dataset_digest))


def told(capsys: pytest.CaptureFixture[str], version: Path, row: str) -> str:
    assert main(["trace", str(version), row]) == 0
    return capsys.readouterr().out


def test_every_kept_row_is_led_back_to_the_line_it_comes_from(
    version: Path, desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.loads(line) for line in (desk.root / "rows.jsonl").read_text().splitlines()]
    for side in ("train", "validation", "test"):
        for row in pq.read_table(version / f"{side}.parquet").to_pylist():
            line = int(row["source"].rpartition(":")[2])
            assert lines[line - 1]["text"] == row["text"].replace("question", "<b>question</b>")
    said = told(capsys, version, row["id"][:12])
    assert f"kept in test as {row['id']}: {row['source']} ({row['text']})" in said
    assert "changed by html: HTML removed (<b>question</b>" in said


@pytest.mark.parametrize(
    ("line", "says"),
    [(2, "kept in "), (61, "dropped by duplicates: the same row as"), (62, "missing-field: "),
     (63, "dropped by quality: 1 words, fewer than 2 (one)")],
)  # fmt: skip
def test_every_line_of_a_source_tells_what_became_of_it(
    version: Path, capsys: pytest.CaptureFixture[str], line: int, says: str
) -> None:
    assert says in told(capsys, version, f"rows.jsonl:{line}")


def test_a_row_that_was_made_is_not_taken_for_one_of_the_source(
    desk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"question number {n} of many", "label": "ab"[n % 2]} for n in range(60)]
    augment = Augment(edits=Edits())
    result = desk.prepare(desk.rows("rows.jsonl", rows), augment=augment)
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    made = next(r for r in pq.read_table(folder / "train.parquet").to_pylist() if r["synthetic"])
    line = made["source"].rpartition("/")[2]
    heads = [one.split(" as ")[0] for one in told(capsys, folder, line).splitlines()]
    assert sorted(heads) == ["kept in train", "made by edits, in train"]


def test_a_row_that_nobody_knows_and_a_folder_that_is_no_version_are_refused(
    version: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["trace", str(version), "rows.jsonl:640"]) == 64
    assert main(["trace", str(tmp_path), "a"]) == 64
    assert main(["trace", str(version), ""]) == 64
    assert "rows fit" in capsys.readouterr().err
