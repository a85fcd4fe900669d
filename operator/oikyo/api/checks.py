"""spec.data.checks: what is looked for in the data, what only warns, what refuses the job.

CHECKS lists every check that a user can set. A new check is one entry here and one call in the
trainer's data/prepare.py that adds findings under its code; the field, the CRD, the reference page,
the judgement, status and events follow from the entry (`python -m oikyo.api.crd --write`). An entry
exists only when its check does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema

from .base import Fraction, Model

Action = Literal["Ignore", "Warn", "Fail"]
Severity = Literal["Error", "Warning", "Info"]


@dataclass(frozen=True)
class Check:
    """One check as it is in force."""

    code: str
    action: Action
    max: str
    """Share of the rows up to which a finding is counted and nothing more, in [0, 1) as text."""
    description: str
    """Of what the rows are: completes "rows that …"."""
    next_step: str
    """What a person does about it."""


_ALL = (
    Check(
        code="conflicting-answers",
        action="Warn",
        max="0",
        description="have the same input as another row and a different answer",
        next_step="Decide which answer is right and take out the others",
    ),
)
CHECKS: Mapping[str, Check] = {check.code: check for check in _ALL}


def _known(code: str) -> str:
    if code not in CHECKS:
        raise ValueError(f"there is no such check; write one of {', '.join(CHECKS)}")
    return code


Code = Annotated[
    str,
    AfterValidator(_known),
    WithJsonSchema({"type": "string", "enum": list(CHECKS), "maxLength": 64}),
]


class DataCheck(Model):
    """One check that differs from its default."""

    code: Annotated[
        Code,
        Field(
            description="Which check; docs/reference/data-checks.md lists them with their defaults. "
            "Example: conflicting-answers."
        ),
    ]
    action: Annotated[
        Action | None,
        Field(
            description="What happens when more than `max` of the rows are found: Fail refuses the "
            "job, Warn tells it in status and events, Ignore leaves the check out. Default: that of "
            "the check. Example: Fail."
        ),
    ] = None
    max: Annotated[
        Fraction | None,
        Field(
            description="Share of the rows that may be found, as text, 0 or above and below 1. "
            'Default: that of the check. Example: "0.01".'
        ),
    ] = None


def in_force(given: Iterable[DataCheck]) -> dict[str, Check]:
    """Every check by its code, with what `given` sets."""
    checks = dict(CHECKS)
    for item in given:
        check = checks[item.code]
        checks[item.code] = replace(
            check, action=item.action or check.action, max=item.max or check.max
        )
    return checks
