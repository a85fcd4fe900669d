"""What every model of the contract shares: strictness, names, and the rules the API server enforces.

A rule is written once, in CEL, beside the field it is about. The CRD generator copies it into
`x-kubernetes-validations`, where the API server fires it at `kubectl apply`; `oikyo.admission`
evaluates the same text for the desktop. Nothing here does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "oikyo.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"


@dataclass(frozen=True)
class Rule:
    """One CEL rule and the sentence a person reads when it fires."""

    rule: str
    """CEL over `self` (and `oldSelf`); true means valid."""
    message: str
    """Says what to write instead."""
    field_path: str | None = None
    """Where the error points, relative to the model, as `.a.b`."""


class Model(BaseModel):
    """A frozen, strict piece of the wire format: camelCase outside, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

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

Name = Annotated[
    str,
    Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
]
"""A DNS label (RFC 1123)."""

Decimal = Annotated[str, Field(max_length=24, pattern=r"^[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$")]
"""A non-negative decimal as text: the API conventions forbid floats."""

Fraction = Annotated[str, Field(max_length=12, pattern=r"^0(\.[0-9]+)?$")]
"""A share in [0, 1) as text, for example "0.1"."""

Quantity = Annotated[
    str, Field(max_length=24, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$")
]
"""A Kubernetes quantity, for example "500m" or "4Gi"."""

Digest = Annotated[str, Field(max_length=71, pattern=r"^sha256:[0-9a-f]{64}$")]
"""SHA-256 over content, as `sha256:<hex>`."""

Timestamp = Annotated[str, Field(max_length=40, json_schema_extra={"format": "date-time"})]
"""RFC 3339 in UTC, to the second, for example 2026-11-23T21:00:00Z."""

Sentence = Annotated[str, Field(max_length=2048)]
"""Words for a person."""

Word = Annotated[str, Field(max_length=256)]
"""A short text: a name, a reason, a value."""
