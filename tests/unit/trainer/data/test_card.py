"""The card of a version: a header that the hub reads, and figures that are those of the version."""

from __future__ import annotations

import json
from typing import Any

import pyarrow.parquet as pq
import yaml

from oikyo.api import workspace as layout


def test_the_card_names_the_file_of_each_split_and_its_rows(desk: Any) -> None:
    rows = [{"text": f"question {i}", "label": "ab"[i % 2]} for i in range(200)]
    result = desk.prepare(desk.rows("rows.jsonl", [*rows, *rows[:7]]))
    folder = desk.workspace / layout.dataset(result.dataset_digest)
    _, header, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    head = yaml.safe_load(header)
    assert head["task_categories"] == ["text-classification"]
    assert head["size_categories"] == ["n<1K"]
    for item in head["configs"][0]["data_files"]:
        count = pq.read_metadata(folder / item["path"]).num_rows
        assert f"| {item['split']} | {count} |" in body
    assert result.dataset_digest in body
    assert "- 7 rows that stand twice" in body
    assert "README.md" in json.loads((folder / "manifest.json").read_bytes())["files"]
