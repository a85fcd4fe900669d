"""The structural half of admission: types, limits, unknown fields, duplicates. Pure.

Judges a manifest by a generated schema (oikyo.api.schema), as the API server does, and says for each
mistake the field, the value, what was expected and what to write.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .api.base import API_VERSION

Schema = dict[str, Any]

MISSING = object()
"""The value of a field that is not there."""

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_METADATA: Schema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "namespace": {"type": "string"},
        "labels": _TEXTS,
        "annotations": _TEXTS,
        # Written by the API server; seen here in what was read from it.
        "generateName": {},
        "uid": {},
        "resourceVersion": {},
        "generation": {},
        "creationTimestamp": {},
        "deletionTimestamp": {},
        "deletionGracePeriodSeconds": {},
        "finalizers": {},
        "managedFields": {},
        "ownerReferences": {},
        "selfLink": {},
    },
}


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a manifest."""

    path: str
    value: Any
    expected: str
    """What was expected and, where that is not enough, what to write instead."""
    rule: str | None = None
    """The CEL rule that was broken; None for the schema."""

    def __str__(self) -> str:
        if self.value is MISSING:
            return f"{self.path} is missing: {self.expected}"
        shown = json.dumps(self.value, ensure_ascii=False, default=str)
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        return f"{self.path} is {shown}: {self.expected}"


def head(manifest: Mapping[str, Any], kinds: Mapping[str, Schema]) -> Iterator[Violation]:
    """apiVersion, kind and name, without which nothing else can be judged."""
    if manifest.get("apiVersion") != API_VERSION:
        yield Violation("apiVersion", manifest.get("apiVersion", MISSING), f"write {API_VERSION}")
    kind = manifest.get("kind", MISSING)
    if kind not in kinds:
        yield Violation("kind", kind, f"write {_one_of(kinds, kind)}")
    name = manifest.get("metadata")
    name = name.get("name", MISSING) if isinstance(name, Mapping) else MISSING
    if name is MISSING or not isinstance(name, str) or not name:
        yield Violation(
            "metadata.name", name, 'write a name as text, for example "support-intents"'
        )


def metadata(found: Schema) -> Iterator[Violation]:
    """Name and labels, which the API server judges the same way for every kind."""
    yield from judge(_METADATA, found, "metadata")
    name = found["name"]
    if not _SUBDOMAIN.fullmatch(name) or len(name) > 253:
        yield Violation(
            "metadata.name",
            name,
            "write lower case letters, digits and '-' only, with a letter or digit at both ends",
        )
    labels = found.get("labels")
    for key, value in (labels if isinstance(labels, dict) else {}).items():
        if isinstance(value, str) and not _LABEL_VALUE.fullmatch(value):
            expected = "a label has at most 63 letters, digits and - _ . with a letter or digit at both ends"
            yield Violation(f"metadata.labels.{key}", value, expected)


def judge(schema: Schema, value: Any, path: str) -> Iterator[Violation]:
    """Everything in `value` that `schema` refuses, itself first, then below."""
    expected = _wrong_type(schema, value)
    if expected:
        yield Violation(path, value, expected)
        return
    limits = (test(schema[word], value) for word, test in _LIMITS.items() if word in schema)
    if expected := next(filter(None, limits), None):
        yield Violation(path, value, expected)
    if isinstance(value, dict):
        yield from _judge_object(schema, value, path)
    elif isinstance(value, list):
        yield from _duplicates(schema, value, path)
        for index, item in enumerate(value):
            yield from judge(schema["items"], item, f"{path}[{index}]")


def _judge_object(schema: Schema, value: Schema, path: str) -> Iterator[Violation]:
    prefix = f"{path}." if path else ""
    known: Schema = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Violation(
                prefix + name, MISSING, known[name].get("description", "it is required")
            )
    for name, item in value.items():
        if name in known:
            yield from judge(known[name], item, prefix + str(name))
        elif "additionalProperties" in schema:
            yield from judge(schema["additionalProperties"], item, prefix + str(name))
        elif known:
            yield Violation(prefix + str(name), item, _unknown(str(name), schema, path))


def _unknown(name: str, schema: Schema, path: str) -> str:
    """Which field was meant, as well as can be told."""
    known: Schema = schema["properties"]
    if meant := _close(name, known):
        return f"there is no such field; did you mean {meant}?"
    below = [found for found in _paths(schema, path) if found.rpartition(".")[2] == name]
    if below:
        return f"there is no such field here; write it as {below[0]}"
    return f"there is no such field; {path or 'the object'} has {', '.join(known)}"


def _paths(schema: Schema, path: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        below = f"{path}.{name}".lstrip(".")
        yield below
        yield from _paths(child, below)


def _plain(word: str) -> str:
    return re.sub("[-_ ]", "", word).lower()


def _close(word: object, known: Mapping[str, Any] | Sequence[str]) -> str | None:
    """The known word that `word` is a misspelling of."""
    plain = {_plain(name): name for name in known}
    matches = difflib.get_close_matches(_plain(str(word)), plain, n=1, cutoff=0.6)
    return plain[matches[0]] if matches else None


def _one_of(known: Mapping[str, Any] | Sequence[str], value: object) -> str:
    meant = _close(value, known) if value is not MISSING else None
    return f"one of {', '.join(known)}{f'; did you mean {meant}?' if meant else ''}"


def _is_whole(value: Any) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool)


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "string": (lambda value: isinstance(value, str), "write text"),
    "integer": (_is_whole, "write a whole number without quotes"),
    "boolean": (lambda value: isinstance(value, bool), "write true or false without quotes"),
    "array": (lambda value: isinstance(value, list), "write a list, each entry after a '-'"),
    "object": (lambda value: isinstance(value, dict), "write fields below it"),
}


def _wrong_type(schema: Schema, value: Any) -> str | None:
    """What was expected, when the type is wrong."""
    if schema.get("x-kubernetes-int-or-string"):
        good = isinstance(value, str) or _is_whole(value)
        return None if good else 'write a whole number, or text such as "500m"'
    if "type" not in schema:
        return None
    fits, expected = _TYPES[schema["type"]]
    if fits(value):
        return None
    if schema["type"] == "string" and isinstance(value, int | float):
        quoted = str(value).lower() if isinstance(value, bool) else value
        return f'write it as text, in quotes: "{quoted}"'
    return expected


def _too_long(limit: int, value: Any) -> str | None:
    if not isinstance(value, str) or len(value) <= limit:
        return None
    return f"it has {len(value)} characters; write at most {limit}"


_WIDTH = {"int32": 31, "int64": 63}


def _format(name: str, value: Any) -> str | None:
    bound = 2 ** _WIDTH[name]
    return None if -bound <= value < bound else f"write a number from {-bound} to {bound - 1}"


_LIMITS: dict[str, Callable[[Any, Any], str | None]] = {
    "enum": lambda known, value: None if value in known else f"write {_one_of(known, value)}",
    "minimum": lambda low, value: f"write at least {low}" if value < low else None,
    "maximum": lambda high, value: f"write at most {high}" if value > high else None,
    "minLength": lambda low, value: (
        f"write at least {low} characters" if len(value) < low else None
    ),
    "maxLength": _too_long,
    "pattern": lambda form, value: None if re.search(form, value) else f"write text like {form}",
    "minItems": lambda low, value: f"write at least {low} entries" if len(value) < low else None,
    "maxItems": lambda high, value: f"write at most {high} entries" if len(value) > high else None,
    "format": _format,
}


def _duplicates(schema: Schema, value: list[Any], path: str) -> Iterator[Violation]:
    """Entries of a list-map that have the keys of an earlier one."""
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: set[str] = set()
    for index, item in enumerate(value if keys else ()):
        identity = json.dumps([item.get(key) if isinstance(item, dict) else None for key in keys])
        if identity in seen:
            expected = f"an earlier entry has the same {', '.join(keys)}; write each once"
            yield Violation(f"{path}[{index}]", item, expected)
        seen.add(identity)
