"""Values, their schema and their table say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[3] / "charts" / "oikyo"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
TABLE = re.compile(r"^\| `([^`]+)` \| `(.+?)` \| (.+) \|$", re.MULTILINE)


def leaves(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any, str]]:
    """(path, default, description) of each value, as deep as the schema names members."""
    if "properties" not in schema:
        yield path, value, schema.get("description", "")
        return
    for name, part in value.items():
        yield from leaves(part, schema["properties"][name], f"{path}.{name}".lstrip("."))


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if "properties" in schema:
        yield path, schema
        for name, part in schema["properties"].items():
            yield from objects(part, f"{path}.{name}".lstrip("."))


def test_the_table_of_the_readme_is_that_of_the_values() -> None:
    found = {
        path: (json.loads(default), words)
        for path, default, words in TABLE.findall((CHART / "README.md").read_text())
    }
    assert found == {path: (default, words) for path, default, words in leaves(VALUES, SCHEMA)}


def test_every_value_is_described_and_no_other_is_accepted() -> None:
    assert all(words.endswith(".") for _, _, words in leaves(VALUES, SCHEMA))
    assert [path for path, part in objects(SCHEMA) if part["additionalProperties"]] == []


def test_every_name_of_the_schema_has_a_default() -> None:
    def names(value: Any, schema: dict[str, Any]) -> None:
        for name, part in schema.get("properties", {}).items():
            if name != "global":
                assert name in value, name
                names(value[name], part)

    names(VALUES, SCHEMA)
