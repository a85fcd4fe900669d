"""Conditions: the contract with every tool that waits; and the phase, a word for people derived from them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

from oikyo.api.jobstatus import Phase
from oikyo.api.meta import Condition

from . import reasons

Status = Literal["True", "False", "Unknown"]

ORDER = (
    "Reconciling",
    "Stalled",
    "Suspended",
    "DataReady",
    "Trained",
    "Evaluated",
    "Released",
    "Succeeded",
)
"""All conditions of a FineTuneJob; the first visit writes them all. There is never a `Ready`: kstatus
would hold a GitOps deployment until the training ends."""

STAGE_CONDITION = {"prepare": "DataReady", "train": "Trained", "evaluate": "Evaluated"}


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Conditions:
    """The next conditions of one object, built from the last: a transition time moves only when a
    status does."""

    def __init__(self, last: Iterable[Condition], generation: int, now: datetime) -> None:
        self._now = timestamp(now)
        self._generation = generation
        self._last = {condition.type: condition for condition in last}
        self._next: dict[str, Condition] = {}

    def set(self, kind: str, status: Status, reason: str, message: str = "") -> None:
        last = self._last.get(kind)
        since = (
            last.last_transition_time if last is not None and last.status == status else self._now
        )
        self._next[kind] = Condition(
            type=kind,
            status=status,
            reason=reason,
            message=message[:2048],
            last_transition_time=since,
            observed_generation=self._generation,
        )

    def status(self, kind: str) -> Status:
        return self._next[kind].status if kind in self._next else "Unknown"

    def tuple(self, order: Iterable[str] = ORDER) -> tuple[Condition, ...]:
        return tuple(self._next[kind] for kind in order if kind in self._next)


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == kind), None)


def holds(conditions: Iterable[Condition], kind: str, status: Status = "True") -> bool:
    condition = find(conditions, kind)
    return condition is not None and condition.status == status


def phase_of(conditions: tuple[Condition, ...]) -> Phase:
    """One word for people. Each rung knows that the rungs above did not hold."""
    if holds(conditions, "Succeeded"):
        return "Succeeded"
    if holds(conditions, "Succeeded", "False"):
        return "Failed"
    if holds(conditions, "Suspended"):
        return "Suspended"
    if holds(conditions, "Evaluated"):
        return "Releasing"
    if holds(conditions, "Trained"):
        return "Evaluating"
    if holds(conditions, "DataReady"):
        return "Training"
    data = find(conditions, "DataReady")
    started = data is not None and data.reason in (reasons.RUNNING, reasons.RETRYING)
    return "Preparing" if started else "Pending"
