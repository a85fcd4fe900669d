"""From a pydantic model to the structural schema of a CustomResourceDefinition (v1). Pure.

pydantic speaks JSON Schema 2020-12, the API server a subset of OpenAPI 3.0, and the difference is
where generators go wrong: references are inlined here, `X | None` becomes an absent property, a
nested default becomes `{}` so that the API server fills it level by level, and anything that the
subset does not know, or that has no limit, stops the build with the path of the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from .base import SAID_BY_RULES

Schema = dict[str, Any]

VOCABULARY = frozenset(
    {
        "type", "description", "default", "enum", "format", "properties", "required", "items",
        "additionalProperties", "minimum", "maximum", "minLength", "maxLength", "pattern",
        "minItems", "maxItems", "maxProperties", "x-kubernetes-validations",
        "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-int-or-string",
    }
)  # fmt: skip
"""Every keyword that may stand in a generated schema: CRD v1 knows each of them."""

_DROPPED = frozenset({"title", "examples", "$defs", SAID_BY_RULES})
_COPIED = VOCABULARY - {"properties", "required", "items", "additionalProperties", "default"}
_KNOWN = VOCABULARY | _DROPPED | {"$ref", "anyOf", "const", "exclusiveMinimum", "exclusiveMaximum"}
_RULE_KEYS = ("rule", "message", "reason", "fieldPath")
_INT32, _INT64 = 2**31 - 1, 2**63 - 1

_API_VERSION = "Version of the schema of this object: oikyo.dev/v1alpha1."


class SchemaError(Exception):
    """A model says something that a CRD cannot; the text names the field."""


@cache
def structural(model: type[BaseModel]) -> Schema:
    """The `openAPIV3Schema` of a kind. Shared: callers must not change it."""
    raw = model.model_json_schema(by_alias=True)
    inliner = _Inliner(raw.get("$defs", {}))
    kind = raw["properties"].pop("kind")["const"]
    for generated_elsewhere in ("apiVersion", "metadata"):
        raw["properties"].pop(generated_elsewhere)
    body = inliner.convert(raw, kind)
    properties = body.pop("properties")
    if "status" in properties:
        _only_observed_generation(properties["status"])
    properties = {
        "apiVersion": {"type": "string", "description": _API_VERSION},
        "kind": {"type": "string", "description": f"Kind of this object: {kind}."},
        "metadata": {
            "type": "object"
        },  # the API server allows nothing more and documents it itself
        **properties,
    }
    return {**body, "required": ["spec"], "properties": properties}


def _only_observed_generation(status: Schema) -> None:
    """An object that nobody has seen says nothing but that: -1, so that kstatus waits for us."""
    _strip_defaults(status)
    status["properties"]["observedGeneration"]["default"] = -1
    status["default"] = {"observedGeneration": -1}


def _strip_defaults(schema: Schema) -> None:
    schema.pop("default", None)
    for child in schema.get("properties", {}).values():
        _strip_defaults(child)
    if "items" in schema:
        _strip_defaults(schema["items"])


def defaulted(schema: Schema, value: Any) -> Any:
    """A copy of `value` as the API server completes it: nulls dropped, then defaults, level by level."""
    if isinstance(value, dict) and "properties" in schema:
        known: Schema = schema["properties"]
        full = {key: item for key, item in value.items() if item is not None or key not in known}
        for name, child in known.items():
            if name not in full and "default" in child:
                full[name] = child["default"]
        return {k: defaulted(known[k], v) if k in known else v for k, v in full.items()}
    if isinstance(value, list) and "items" in schema:
        return [defaulted(schema["items"], item) for item in value]
    return value


class _Inliner:
    """Replaces references by what they name; `open` holds the names on the way down."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self.definitions = definitions
        self.open: list[str] = []

    def convert(self, raw: Schema, path: str) -> Schema:
        """The structural form of `raw`; `path` is the field, for errors."""
        if "anyOf" in raw:
            return self.convert(_without_null(raw, path), path)
        if "$ref" in raw:
            return self._inline(raw, path)
        if unknown := sorted(set(raw) - _KNOWN):
            raise SchemaError(f"{path}: CRD v1 does not know {', '.join(unknown)}")
        said = {*raw.get(SAID_BY_RULES, ()), *_DROPPED}
        schema = {key: raw[key] for key in raw if key in _COPIED and key not in said}
        _bounds(raw, schema, path)
        if found := raw.get("x-kubernetes-validations"):
            schema["x-kubernetes-validations"] = [
                {key: rule[key] for key in _RULE_KEYS if key in rule} for rule in found
            ]
        if "const" in raw:
            schema["enum"] = [raw["const"]]
        if raw.get("default") not in (None, [], ""):
            schema["default"] = raw["default"]
        self._children(raw, schema, path)
        _refuse_unlimited(schema, path)
        return schema

    def _inline(self, raw: Schema, path: str) -> Schema:
        name = raw["$ref"].rpartition("/")[2]
        if name in self.open:
            raise SchemaError(f"{path}: {' > '.join([*self.open, name])} is recursive")
        self.open.append(name)
        beside = {key: value for key, value in raw.items() if key != "$ref"}
        schema = self.convert({**self.definitions[name], **beside}, path)
        self.open.pop()
        if isinstance(schema.get("default"), dict):
            # The defaults of the properties fill {}, but the API server judges a default by the
            # rules of its object before it is filled.
            filled = defaulted(schema, {})
            schema["default"] = filled if "x-kubernetes-validations" in schema else {}
            if not filled:
                del schema["default"]
        return schema

    def _children(self, raw: Schema, schema: Schema, path: str) -> None:
        if "properties" in raw:
            if required := raw.get("required"):
                schema["required"] = required
            schema["properties"] = {
                name: self.convert(child, f"{path}.{name}")
                for name, child in raw["properties"].items()
            }
        elif isinstance(values := raw.get("additionalProperties"), dict):
            schema["additionalProperties"] = self.convert(values, f"{path}.*")
        if "items" in raw:
            schema["items"] = self.convert(raw["items"], f"{path}[]")
            # kubectl and Argo CD compare lists whole: a default inside one would be a change for ever.
            _strip_defaults(schema["items"])


def _without_null(raw: Schema, path: str) -> Schema:
    """`X | None` is X, and may be absent; any other union is no structural schema."""
    options = [option for option in raw["anyOf"] if option != {"type": "null"}]
    if len(options) != 1:
        raise SchemaError(
            f"{path}: a union of {len(options)} types; write optional members instead"
        )
    outer = {key: value for key, value in raw.items() if key != "anyOf"}
    return {**options[0], **outer}


def _bounds(raw: Schema, schema: Schema, path: str) -> None:
    """Integers get a width and inclusive bounds; in CRD v1 `exclusiveMinimum` is a flag."""
    if raw.get("type") == "number":
        raise SchemaError(f"{path}: floats are not portable; write text with a pattern")
    if raw.get("type") != "integer":
        return
    if "exclusiveMinimum" in raw:
        schema["minimum"] = raw["exclusiveMinimum"] + 1
    if "exclusiveMaximum" in raw:
        schema["maximum"] = raw["exclusiveMaximum"] - 1
    schema["format"] = "int32" if schema.get("maximum", _INT64) <= _INT32 else "int64"


def _refuse_unlimited(schema: Schema, path: str) -> None:
    """Limits bound the cost of rules and the size of objects; lists say how they merge."""
    kind = schema.get("type")
    if kind is None and not schema.get("x-kubernetes-int-or-string"):
        raise SchemaError(f"{path}: has no type")
    if kind == "string" and "format" in schema:
        raise SchemaError(f"{path}: with a format the API server takes lists too; write a pattern")
    if kind == "string" and "maxLength" not in schema and "enum" not in schema:
        raise SchemaError(f"{path}: a string needs max_length")
    if kind == "array" and "maxItems" not in schema:
        raise SchemaError(f"{path}: a list needs max_length")
    if kind == "array" and "x-kubernetes-list-type" not in schema:
        raise SchemaError(f"{path}: a list says how it merges: list_map(...) or ATOMIC")
    if kind == "object" and "properties" not in schema and "maxProperties" not in schema:
        raise SchemaError(f"{path}: a map needs max_length")
