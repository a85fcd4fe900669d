"""Where a job runs, as far as one looks at it: the same questions to a desktop's folder and to a cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from oikyo.api.finetunejob import FineTuneJob

from .lines import LogLine

Point = dict[str, Any]  # a line of history.jsonl: step, time, and the values logged at that step


@dataclass(frozen=True)
class Wanted:
    """Which log lines."""

    stage: str = ""
    """Of this stage alone; empty: of all."""
    attempt: int = 0
    """Of this attempt alone; 0: of all that are still there."""

    def includes(self, stage: str, attempt: int) -> bool:
        return self.stage in ("", stage) and self.attempt in (0, attempt)


class Place(Protocol):
    """Asked again and again; nothing is kept open between two questions but connections."""

    async def job(self, name: str) -> FineTuneJob:
        """As it is now. Raises SpecError when there is none."""
        ...

    def curve(self, job: FineTuneJob, *names: str) -> list[Point]:
        """What the training logged, oldest first, as far as it can be read from here.

        With `names` at least these values, and the points that have one of them.
        """
        ...

    def lines(
        self, job: FineTuneJob, wanted: Wanted, *, follow: bool
    ) -> AsyncIterator[list[LogLine]]:
        """Lines in the order of their times, in pieces as they come; ends with the job if followed."""
        ...

    async def close(self) -> None: ...
