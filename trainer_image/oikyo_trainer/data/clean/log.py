"""What was changed and left out, row by row: counted by step, the first kept, all written to a file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from oikyo.api.clean import CleanedStep, CleanStep

from ..journal import Journal

FILE = "cleaned.jsonl"
"""The whole list: beside findings.jsonl, in the version and in the folder of the stage."""
FIRST = 10
"""Rows of each step, changed and dropped, that the report lists."""
STEPS: tuple[CleanStep, ...] = get_args(CleanStep)


@dataclass(frozen=True)
class Cleaned:
    """One step of the cleaning that changed a row, or left it out."""

    file: str
    line: int
    step: CleanStep
    action: Literal["changed", "dropped"]
    reason: str
    column: str = ""
    before: str = ""
    """What stood there: shortened, around the change, personal data masked."""
    after: str = ""
    other: str = ""
    """File and line of the row that stays, when it was left out for another one."""


@dataclass
class CleanLog(Journal):
    """All of them, in the order in which they were made."""

    changed: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[Cleaned]] = field(default_factory=dict)

    def add(self, one: Cleaned) -> None:
        (self.changed if one.action == "changed" else self.dropped)[one.step] += 1
        examples = self.first.setdefault(one.step, [])
        if sum(example.action == one.action for example in examples) < FIRST:
            examples.append(one)
        self._write({name: value for name, value in vars(one).items() if value != ""})

    def steps(self) -> tuple[CleanedStep, ...]:
        """What each step did, in their order; steps that did nothing are left out."""
        return tuple(
            CleanedStep(name=step, changed=self.changed[step], dropped=self.dropped[step])
            for step in STEPS
            if self.changed[step] or self.dropped[step]
        )

    def report(self) -> list[dict[str, Any]]:
        """For report.json."""
        return [
            {
                "step": one.name,
                "changed": one.changed,
                "dropped": one.dropped,
                "examples": [vars(example) for example in self.first[one.name]],
            }
            for one in self.steps()
        ]
