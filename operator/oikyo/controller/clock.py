"""What time it is, by the API server: all moments that a decision compares were written by the cluster.

A node whose clock is an hour ahead would fail a job by its deadline and retry nothing for an hour.
Every answer carries the server's time, and the lease alone asks every two seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

COARSE = timedelta(seconds=3)
"""The header tells whole seconds and is as late as the answer: what is less is no skew."""


def _wall() -> datetime:
    return datetime.now(UTC)


class ServerClock:
    """The wall clock of this machine, put right by what the server says."""

    def __init__(self, wall: Callable[[], datetime] = _wall) -> None:
        self._wall = wall
        self.skew = timedelta(0)
        """How far the server's clock is ahead of ours."""

    def hear(self, date: str | None) -> None:
        """Take the Date header of an answer that has just come."""
        try:
            told = parsedate_to_datetime(date or "").astimezone(UTC)
        except ValueError:
            return
        skew = told - self._wall()
        self.skew = skew if abs(skew) >= COARSE else timedelta(0)

    def now(self) -> datetime:
        return self._wall() + self.skew
