"""The generated files: what may stand in them, and that they are what the models say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, create_model

from oikyo.api import crd
from oikyo.api.base import API_VERSION, ATOMIC, Model, Name, Quantity, list_map
from oikyo.api.schema import VOCABULARY, Schema, SchemaError, structural

REPOSITORY = Path(__file__).resolve().parents[3]


def _parts(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every schema at and below `schema`."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _parts(child, f"{path}.{name}")
    if "items" in schema:
        yield from _parts(schema["items"], f"{path}[]")


PARTS = {
    path: schema for kind in crd.KINDS for path, schema in _parts(structural(kind.model), kind.name)
}


def test_checked_in_files_are_what_the_models_say() -> None:
    stale = [
        path
        for path, text in crd.files().items()
        if not (REPOSITORY / path).exists() or (REPOSITORY / path).read_text() != text
    ]
    assert stale == [], "run `make generate` and commit the result"


def test_check_names_each_stale_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crd.main(["--write"], tmp_path) == 0
    assert crd.main(["--check"], tmp_path) == 0
    (tmp_path / "crds/finetunejobs.yaml").write_text("old")
    assert crd.main(["--check"], tmp_path) == 1
    assert capsys.readouterr().err.startswith("crds/finetunejobs.yaml is not what the models say")


def test_unknown_option_is_refused(tmp_path: Path) -> None:
    assert crd.main(["--wirte"], tmp_path) == 2


@pytest.mark.parametrize("path", PARTS)
def test_only_what_a_crd_knows_stands_in_the_schema(path: str) -> None:
    assert set(PARTS[path]) <= VOCABULARY
    assert PARTS[path].get("default", 0) is not None


@pytest.mark.parametrize("path", [p for p in PARTS if not p.endswith((".metadata", "[]"))])
def test_every_property_is_described_in_a_sentence(path: str) -> None:
    text = PARTS[path].get("description", "")
    assert re.fullmatch(r"[A-Z].*[.!]", text, re.DOTALL), text


@pytest.mark.parametrize("path", [p for p in PARTS if "default" in PARTS[p] and ".spec" in p])
def test_description_of_a_default_is_true(path: str) -> None:
    schema = PARTS[path]
    if isinstance(schema["default"], dict):
        return
    text = json.dumps(schema["default"])
    shown = {text, text.strip('"')}
    assert any(f"Default: {word}." in schema["description"] for word in shown) or any(
        f"Default: {word}," in schema["description"] for word in shown
    ), schema["description"]


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_file_has_neither_anchors_nor_a_path_of_a_machine(kind: crd.Kind) -> None:
    text = crd.text(kind)
    assert yaml.safe_load(text) == crd.definition(kind)
    assert not re.search(r"^\s*(- )?\S*:? ?[&*]id\d", text, re.MULTILINE)


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_columns_and_selectors_point_at_fields_that_exist(kind: crd.Kind) -> None:
    paths = [column[2] for column in (*kind.columns, *kind.wide)] + list(kind.selectable)
    for path in paths:
        plain = re.sub(r"\[\?\(.*?\)\]", "[]", path)
        assert plain == ".metadata.creationTimestamp" or kind.name + plain in PARTS, path


def test_status_starts_unseen_and_says_nothing_else() -> None:
    for kind in ("FineTuneJob", "ModelEndpoint"):
        assert PARTS[f"{kind}.status"]["default"] == {"observedGeneration": -1}
        assert PARTS[f"{kind}.status.observedGeneration"]["default"] == -1
        others = [p for p in PARTS if p.startswith(f"{kind}.status.") and "default" in PARTS[p]]
        assert others == [f"{kind}.status.observedGeneration"]


def test_rule_in_words_stands_in_for_the_bare_pattern() -> None:
    base = PARTS["FineTuneJob.spec.model.base"]
    assert "pattern" not in base
    assert len(base["x-kubernetes-validations"]) > 1


def _kind_with(annotation: Any, default: Any = ...) -> type[Model]:
    """A kind whose spec has one field, `field`."""
    thing: Any = Literal["Thing"]
    spec = create_model("Spec", __base__=Model, __doc__="A spec.", field=(annotation, default))
    return create_model(
        "Thing",
        __base__=Model,
        __doc__="A thing.",
        api_version=(Annotated[str, Field(max_length=9)], API_VERSION),
        kind=(thing, "Thing"),
        metadata=(Annotated[str, Field(max_length=9)], ""),
        spec=(spec, ...),
    )


class _Loop(Model):
    inner: _Loop | None = None


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (str, "Spec|spec.field: a string needs max_length"),
        (float, "floats are not portable"),
        (int | str, "a union of 2 types"),
        (dict[str, str], "needs max_length"),
        (Annotated[tuple[Name, ...], Field(json_schema_extra=ATOMIC)], "a list needs max_length"),
        (Annotated[tuple[Name, ...], Field(max_length=3)], "says how it merges"),
        (datetime, "with a format"),
        (Annotated[int, Field(multiple_of=2)], "CRD v1 does not know multipleOf"),
        (Any, "has no type"),
        (_Loop, "_Loop > _Loop is recursive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_crd_cannot_say_stops_the_build(annotation: Any, complaint: str) -> None:
    with pytest.raises(SchemaError, match=f"Thing.spec.field.*: |{complaint}") as stopped:
        structural(_kind_with(annotation))
    assert re.search(complaint, str(stopped.value))


_INTS = st.integers(-(2**31), 2**31)
_FIELDS = st.one_of(
    st.builds(lambda low: Annotated[int, Field(gt=low)], _INTS),
    st.builds(lambda high: Annotated[int, Field(lt=high)], _INTS),
    st.builds(lambda n: Annotated[str, Field(max_length=n)], st.integers(1, 9)),
    st.sampled_from([bool, Name, Quantity, Literal["A", "B"], Literal["A"], Name | None]),
    st.builds(
        lambda n: Annotated[tuple[Name, ...], Field(max_length=n, json_schema_extra=ATOMIC)],
        st.integers(1, 9),
    ),
    st.builds(lambda n: Annotated[dict[str, Name], Field(max_length=n)], st.integers(1, 9)),
)


@settings(deadline=None)
@given(_FIELDS, st.booleans())
def test_any_field_becomes_a_schema_of_known_words(annotation: Any, optional: bool) -> None:
    kind = _kind_with(annotation | None, None) if optional else _kind_with(annotation)
    for path, schema in _parts(structural.__wrapped__(kind), "Thing"):
        if ".spec" in path:
            assert set(schema) <= VOCABULARY, path
            assert not isinstance(schema.get("exclusiveMinimum"), bool | int)


@given(st.integers(-(2**31), 2**31 - 2))
def test_exclusive_bound_becomes_an_inclusive_one(low: int) -> None:
    schema = structural.__wrapped__(_kind_with(Annotated[int, Field(gt=low)]))
    assert schema["properties"]["spec"]["properties"]["field"]["minimum"] == low + 1


def test_list_map_names_its_keys() -> None:
    assert list_map("uri") == {
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["uri"],
    }
