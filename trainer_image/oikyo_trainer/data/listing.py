"""Findings as a page of text: grouped by code, the worst first, each with its place and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from oikyo.api.checks import Severity, next_step
from oikyo.api.jobstatus import FINDINGS, DataFinding

from .clean.log import CleanLog
from .findings import Finding
from .guess import Guess
from .intake import Intake
from .judge import ORDER, judge

EXAMPLE = 180
"""Characters of an example in a status."""

DROPPED = (
    ("duplicates", "duplicates"),
    ("leaked", "also on the test or validation side"),
    ("contaminated", "with items of a benchmark"),
)


@dataclass(frozen=True)
class Group:
    """All findings of one code."""

    code: str
    severity: Severity
    count: int
    sentence: str
    first: tuple[Finding, ...]
    next_step: str

    def report(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity,
            "count": self.count,
            "message": self.sentence,
            "nextStep": self.next_step,
            "examples": [vars(finding) for finding in self.first],
        }


def groups(intake: Intake, max_bad_rows: int) -> list[Group]:
    """The bad rows by their code, and what the checks found; the worst and the most first."""
    findings = intake.findings
    usable = sum(file.usable for file in intake.files)
    made = [
        Group(
            one.check.code,
            one.severity,
            one.count,
            f"{one.sentence()} (max {one.check.max})",
            one.first,
            one.check.next_step,
        )
        for one in judge(findings, usable)
    ]
    for code, count in findings.bad_codes.items():
        first = tuple(findings.first[code])
        sentence = f"{count} of {intake.rows} rows cannot be used"
        severity: Severity = "Error" if findings.bad > max_bad_rows else "Warning"
        made.append(Group(code, severity, count, sentence, first, next_step(code)))
    return sorted(made, key=lambda group: (ORDER.index(group.severity), -group.count, group.code))


def for_status(found: Sequence[Group]) -> tuple[DataFinding, ...]:
    """The worst of them, short enough for a status and for the last words of a stage."""
    return tuple(
        DataFinding(
            code=group.code,
            severity=group.severity,
            count=group.count,
            example=shorten(group.first[0].sentence(), EXAMPLE),
        )
        for group in found[:FINDINGS]
    )


def shorten(sentence: str, most: int) -> str:
    return sentence if len(sentence) <= most else sentence[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def page(
    guessed: Guess, intake: Intake, told: dict[str, Any], found: list[Group], examples: int
) -> str:
    """What a person reads on a terminal: `examples` findings of each group."""
    task = guessed.task if guessed.objective == "Supervised" else guessed.objective
    lines = [f"{task}: {guessed.reason}", _summary(intake, told), *_read(intake)]
    lines += [*cleaned(intake.cleaned), ""]
    for group in found:
        lines.append(f"{group.severity:<8} {group.code}: {group.sentence}")
        lines += [f"         {finding.sentence()}" for finding in group.first[:examples]]
        if group.count > examples:
            lines.append(f"         and {group.count - examples} more")
        lines += [f"         do: {group.next_step}", ""]
    return "\n".join(lines) + "\n"


def cleaned(log: CleanLog) -> list[str]:
    """A line for each step of the cleaning that did something, with the first row of it."""
    lines = []
    for step in log.steps():
        if step.name in ("duplicates", "leaked"):
            continue
        counts = ((step.changed, "changed"), (step.dropped, "left out"))
        told = ", ".join(f"{count} {what}" for count, what in counts if count)
        first = log.first[step.name][0]
        arrow = f" -> {first.after}" if first.after else ""
        lines.append(f"cleaned  {step.name}: {told}")
        lines.append(f"         {first.file}:{first.line}: {first.reason} ({first.before}{arrow})")
    return lines


def _read(intake: Intake) -> list[str]:
    """Which format and split the files were taken for, and why."""
    chosen = [item for item in intake.resolved.values() if item.name.startswith("data.sources.")]
    return [f"read as {item.value}: {item.reason}" for item in chosen]


def _summary(intake: Intake, told: dict[str, Any]) -> str:
    files = f"{len(intake.files)} files, " if len(intake.files) > 1 else ""
    parts = [f"{files}{intake.rows} rows"]
    parts += [
        f"{told[key]['count']} {word}" for key, word in DROPPED if told.get(key, {}).get("count")
    ]
    sides = [f"{side['rows']} {name}" for name, side in told.get("splits", {}).items()]
    return "; ".join([*parts, ", ".join(sides)] if sides else parts)
