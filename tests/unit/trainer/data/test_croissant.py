"""croissant.json against the required properties of the specification, and against the files.

Written from https://docs.mlcommons.org/croissant/docs/croissant-spec.html (1.0). `mlcroissant validate`
and `mlcroissant load` of mlcroissant 1.1.1 took both shapes below; as a dependency it is too heavy for CI.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api import workspace as layout

CHATS = [
    {"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": "a"}]}
    for n in range(60)
]
ROWS = [{"text": f"question {n}", "label": "ab"[n % 2]} for n in range(60)]


@pytest.fixture(params=["TextClassification", "TextGeneration"])
def version(request: pytest.FixtureRequest, desk: Any) -> Path:
    rows = ROWS if request.param == "TextClassification" else CHATS
    result = desk.prepare(desk.rows("rows.jsonl", rows), task=request.param)
    return Path(desk.workspace / layout.dataset(result.dataset_digest))


def test_it_describes_every_file_and_every_column_of_the_version(version: Path) -> None:
    told = json.loads((version / "croissant.json").read_text())
    assert told["@type"] == "sc:Dataset"
    assert told["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert {"name", "description", "@context", "version"} <= set(told)
    assert told["@context"]["cr"] == "http://mlcommons.org/croissant/"
    files = {file["@id"]: file for file in told["distribution"]}
    assert sorted(files) == ["test.parquet", "train.parquet", "validation.parquet"]
    for name, file in files.items():
        body = (version / name).read_bytes()
        assert file["@type"] == "cr:FileObject"
        assert file["sha256"] == hashlib.sha256(body).hexdigest()
        assert file["contentSize"] == f"{len(body)} B"
        assert (file["contentUrl"], file["encodingFormat"]) == (name, "application/x-parquet")
    for records in told["recordSet"]:
        assert records["@type"] == "cr:RecordSet"
        columns = pq.read_schema(version / f"{records['name']}.parquet").names
        assert [field["name"].rpartition("/")[2] for field in records["field"]] == columns
        assert records["key"]["@id"] in {field["@id"] for field in records["field"]}
        for field in records["field"]:
            _check_field(field, files)


def _check_field(field: dict[str, Any], files: dict[str, Any]) -> None:
    assert field["@type"] == "cr:Field"
    assert {"@id", "name", "description"} <= set(field)
    if "subField" in field:
        assert field["repeated"] is True
        assert [part["source"]["transform"]["jsonPath"] for part in field["subField"]] == [
            "role",
            "content",
        ]
        for part in field["subField"]:
            _check_field(part, files)
        return
    assert field["dataType"] in ("sc:Text", "sc:Boolean")
    assert field["source"]["fileObject"]["@id"] in files
    assert field["source"]["extract"]["column"] in field["@id"]


def test_every_id_stands_once(version: Path) -> None:
    told = json.loads((version / "croissant.json").read_text())
    ids: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            ids.extend([value["@id"]] if "@id" in value and "@type" in value else [])
            for part in value.values():
                collect(part)
        elif isinstance(value, list):
            for part in value:
                collect(part)

    collect({key: value for key, value in told.items() if key != "@context"})
    assert len(ids) == len(set(ids)) > 10
