"""What every model of the contract shares: strictness, names, and the rules the API server enforces.

A rule is written once, in CEL, beside the field it is about. The CRD generator copies it into
`x-kubernetes-validations`, where the API server fires it at `kubectl apply`; `oikyo.admission`
evaluates the same text for the desktop. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

GROUP = "oikyo.dev"
VERSION = "v1alpha1"
API_VERSION: Final = "oikyo.dev/v1alpha1"


@dataclass(frozen=True)
class Rule:
    """One CEL rule and the sentence a person reads when it fires."""

    rule: str
    """CEL over `self` (and `oldSelf`); true means valid."""
    message: str
    """Says what to write instead."""
    field_path: str | None = None
    """Where the error points, relative to the model, as `.a.b`."""
    reason: Literal["FieldValueInvalid", "FieldValueForbidden"] = "FieldValueInvalid"
    """Forbidden where the value is good but may no longer change."""

    def wire(self) -> dict[str, str]:
        """As one entry of `x-kubernetes-validations`."""
        entry = {"rule": self.rule, "message": self.message}
        if self.field_path:
            entry["fieldPath"] = self.field_path
        if self.reason != "FieldValueInvalid":
            entry["reason"] = self.reason
        return entry


SAID_BY_RULES = "x-oikyo-said-by-rules"
"""Schema extra, dropped by the generator together with the keywords it names: the API server would
answer these with the bare regular expression, and a rule beside them says the same in words."""


def in_words(*said: Rule, instead_of: tuple[str, ...] = ()) -> dict[str, Any]:
    """Schema extra: rules of one field; `instead_of` names the keywords that they say in words."""
    extra: dict[str, Any] = {"x-kubernetes-validations": [rule.wire() for rule in said]}
    return {**extra, SAID_BY_RULES: list(instead_of)} if instead_of else extra


class Model(BaseModel):
    """A frozen, strict piece of the wire format: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        defer_build=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        if cls.rules:
            body = handler.resolve_ref_schema(schema)
            body["x-kubernetes-validations"] = [rule.wire() for rule in cls.rules]
        return schema

    def wire(self) -> dict[str, Any]:
        """The JSON form that goes over the wire: camelCase, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def json_line(self) -> str:
        """The canonical one-line JSON: the same value gives the same bytes."""
        import json

        return json.dumps(self.wire(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Report(Model):
    """What oikyo itself writes (status, results): fields of a newer version are ignored."""

    model_config = ConfigDict(extra="ignore")


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extra: a list that server-side apply merges by these keys."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
"""Schema extra: a list that has one owner and is replaced whole."""

LABEL_PATTERN = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NAME = in_words(
    Rule(
        f"self.matches('{LABEL_PATTERN}')",
        "write lower case letters, digits and '-' only, with a letter or digit at both ends, for "
        "example support-intents",
    ),
    instead_of=("pattern", "minLength"),
)
Name = Annotated[
    str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN, json_schema_extra=_NAME)
]
"""A DNS label (RFC 1123)."""

NAME_LIMIT = 52
"""Longest name of an object whose children are named after it: 63 less `-evaluate-9`."""
_PARENT_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
_PARENT_NAME = in_words(
    Rule(
        f"self.matches('{_PARENT_PATTERN}')",
        "write lower case letters, digits and '-' only, with a letter first and a letter or digit "
        "last, because services are named after it, for example model-7b",
    ),
    instead_of=("pattern", "minLength"),
)
ParentName = Annotated[
    str,
    Field(
        min_length=1, max_length=NAME_LIMIT, pattern=_PARENT_PATTERN, json_schema_extra=_PARENT_NAME
    ),
]
"""A DNS label (RFC 1035, as Services need it) that leaves room for the suffixes of child names."""
NAME_RULES = (
    Rule(
        f"size(self.metadata.name) <= {NAME_LIMIT}",
        f"metadata.name may have at most {NAME_LIMIT} characters, because the names and labels of "
        "pods and services are made from it: shorten it",
    ),
    Rule(
        "!self.metadata.name.contains('.')",
        "metadata.name may not contain '.', because services are named after it: write '-' instead",
    ),
    Rule(
        "!self.metadata.name.matches('^[0-9]')",
        "metadata.name must begin with a letter, because services are named after it: write for "
        "example model-7b",
    ),
)
"""Rules of the root of a kind whose children are named after it."""

DECIMAL_PATTERN = "^[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{1,2})?$"
Decimal = Annotated[
    str,
    Field(
        max_length=24,
        pattern=DECIMAL_PATTERN,
        json_schema_extra=in_words(
            Rule(
                f"self.matches('{DECIMAL_PATTERN}')",
                'write a decimal number of at least 0 as text, for example "0.80" or "2e-4"',
            ),
            instead_of=("pattern",),
        ),
    ),
]
"""A non-negative decimal as text: the API conventions forbid floats."""

_FRACTION = "^0([.][0-9]+)?$"
Fraction = Annotated[
    str,
    Field(
        max_length=12,
        pattern=_FRACTION,
        json_schema_extra=in_words(
            Rule(
                f"self.matches('{_FRACTION}')",
                'write a share of at least 0 and below 1 as text, for example "0.1"',
            ),
            instead_of=("pattern",),
        ),
    ),
]
"""A share in [0, 1) as text, for example "0.1"."""

_HALF = "^0([.]([0-4][0-9]*|50*))?$"
HalfFraction = Annotated[
    str,
    Field(
        max_length=12,
        pattern=_HALF,
        json_schema_extra=in_words(
            Rule(
                f"self.matches('{_HALF}')",
                'write a share from 0 to 0.5 as text, for example "0.1"',
            ),
            instead_of=("pattern",),
        ),
    ),
]
"""A share in [0, 0.5] as text, for example "0.1"."""

_QUANTITY = "^[0-9]+([.][0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"


def _number_as_text(value: object) -> object:
    """Kubernetes takes `cpu: 4` for `cpu: "4"`; so does oikyo."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Quantity = Annotated[
    str,
    Field(max_length=24, pattern=_QUANTITY),
    BeforeValidator(_number_as_text),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 24,
            **in_words(
                Rule(
                    f"string(self).matches('{_QUANTITY}')",
                    'write a quantity such as 4, "500m" or "16Gi"',
                )
            ),
        }
    ),
]
"""A Kubernetes quantity, for example "500m" or "4Gi"; a whole number needs no quotes."""

Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
"""SHA-256 over content, as `sha256:<hex>`."""

# Not `format: date-time`: with a format on text the API server also takes a list for it.
_TIMESTAMP = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})$"
)
Timestamp = Annotated[
    str,
    Field(
        max_length=40,
        pattern=_TIMESTAMP,
        json_schema_extra=in_words(
            Rule(f"self.matches('{_TIMESTAMP}')", "write a time as 2026-11-23T21:00:00Z"),
            instead_of=("pattern",),
        ),
    ),
]
"""RFC 3339 in UTC, to the second, for example 2026-11-23T21:00:00Z."""

Sentence = Annotated[str, Field(max_length=2048)]
"""Words for a person."""

Word = Annotated[str, Field(max_length=256)]
"""A short text: a name, a reason, a value."""
