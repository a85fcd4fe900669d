"""Random manifests, good ones and spoilt ones, made from the generated schemas."""

from __future__ import annotations

from functools import cache
from typing import Any

from hypothesis import strategies as st

from builders import a_manifest
from oikyo.admission import schema_of

_WORDS = st.sampled_from(
    [
        "Auto", "0.1", "0.5", "0.51", "0.9", "0", "1", "2e-4", "1e-999", "abc", "", "-1", "1.", "A",
        "a", "a-b", "a-", "a" * 53, "a" * 64, "500m", "4Gi", "4GB", "hf://a/b", "hf://a b", "s3://a",
        "pvc://a/b.csv", "pvc:///b", "configmap://a/b", "version://a/1", "file:///a", "hf://", "é",
    ]
)  # fmt: skip
_JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.just(0.5), _WORDS, st.text(max_size=4),
    st.just([]), st.just({}), st.just({"unknown": 1}),
)  # fmt: skip


def _value(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values of which many fit `schema`."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.one_of(_WORDS, st.integers(-2, 9))
    kind = schema["type"]
    if kind == "string":
        return st.one_of(_WORDS, st.text(max_size=6))
    if kind == "integer":
        low, high = schema.get("minimum", -9), schema.get("maximum", 9)
        return st.integers(low - 1, high + 1)
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        keys = schema.get("x-kubernetes-list-map-keys", ())
        # Two entries of one key are refused by the API server, and only by it.
        return st.lists(
            _value(schema["items"]),
            max_size=3,
            unique_by=(lambda item: str([item.get(key) for key in keys])) if keys else None,
        )
    if "properties" not in schema:
        return st.dictionaries(_WORDS, _value(schema["additionalProperties"]), max_size=2)
    return _object(schema)


def _object(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with a few fields of `schema`, rarely with something else in one."""
    values = {name: _value(child) for name, child in schema["properties"].items()}
    required = {name: values[name] for name in schema.get("required", ())}
    chosen = st.lists(st.sampled_from(sorted(values)), max_size=2, unique=True)
    some = chosen.flatmap(lambda names: st.fixed_dictionaries({n: values[n] for n in names}))
    spoilt = st.dictionaries(st.sampled_from([*sorted(values), "typo"]), _JUNK, max_size=1)
    pieces = st.tuples(st.fixed_dictionaries(required), some, st.one_of(st.just({}), spoilt))
    return pieces.map(lambda parts: {**parts[0], **parts[1], **parts[2]})


@cache
def random_manifests(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """The smallest manifest with one or two sections replaced."""
    spec = schema_of(kind)["properties"]["spec"]
    sections = {name: st.one_of(_value(child), _JUNK) for name, child in spec["properties"].items()}
    names = st.lists(st.sampled_from(sorted(sections)), min_size=1, max_size=2, unique=True)
    changed = names.flatmap(lambda some: st.fixed_dictionaries({n: sections[n] for n in some}))
    return changed.map(lambda change: a_manifest(kind, **change))
