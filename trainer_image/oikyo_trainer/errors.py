"""How a stage says that it could not: each ends in an exit code and in last words.

StageFailed
├── Refused   the user must change something: exit 64, never retried
└── Retry     a passing fault: exit 75, tried again
Anything else that is raised is a crash, retried within backoffLimit.
"""

from __future__ import annotations


class StageFailed(Exception):
    """A stage ended without a result; its text is one sentence for a person."""

    def __init__(self, reason: str, message: str, *, evidence: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        """CamelCase word, for example InvalidData."""
        self.message = message
        self.evidence = evidence
        """File and line, or the log line, that shows it."""
        self.next_step = next_step


class Refused(StageFailed):
    """The user must change something."""


class Retry(StageFailed):
    """A passing fault: the same input may work later."""
