"""How a stage says that it could not: each ends in an exit code and in last words.

StageFailed
├── Refused   the user must change something: exit 64, never retried
└── Retry     a passing fault: exit 75, tried again
    └── Stale an attempt that a newer one has replaced: it must write nothing more
Stopped       SIGTERM or SIGINT: exit 75; no Exception, so that no library swallows it
Anything else that is raised is a crash, retried within backoffLimit.
"""

from __future__ import annotations

import errno

from oikyo.api.jobstatus import DataFinding


class StageFailed(Exception):
    """A stage ended without a result; its text is one sentence for a person."""

    findings: tuple[DataFinding, ...] = ()
    """What the prepare stage found in the rows, beside what it stopped at."""

    def __init__(
        self, reason: str, message: str, *, evidence: str = "", next_step: str = ""
    ) -> None:
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


class Stale(Retry):
    """A newer attempt of the same stage has begun: this one must not write."""


class Stopped(BaseException):
    """The platform asked the stage to end (eviction, suspend, Ctrl-C)."""


STORAGE_FAULTS = {
    errno.ENOSPC: ("WorkspaceFull", "the workspace is full"),
    errno.EDQUOT: ("WorkspaceFull", "the quota of the workspace is used up"),
    errno.EROFS: ("WorkspaceUnwritable", "the workspace is read-only"),
    errno.EACCES: (
        "WorkspaceUnwritable",
        "the workspace may not be written by this user",
    ),
    errno.EPERM: (
        "WorkspaceUnwritable",
        "the workspace may not be written by this user",
    ),
    errno.ENOTDIR: ("WorkspaceUnwritable", "the workspace is no folder"),
    errno.EIO: (
        "WorkspaceFault",
        "the storage of the workspace answered with an I/O error",
    ),
    errno.ESTALE: (
        "WorkspaceFault",
        "the mount of the workspace is gone (stale handle)",
    ),
}
STORAGE_STEPS = {
    "WorkspaceFull": "Free space in the workspace or enlarge it (spec.storage.size)",
    "WorkspaceUnwritable": "Make the volume writable for the stage's user (fsGroup, mount options)",
    "WorkspaceFault": "Check the volume and its node",
}


def storage_fault(error: OSError) -> Retry | None:
    """The sentence for a fault of the storage; None when `error` is about something else."""
    if error.errno not in STORAGE_FAULTS:
        return None
    reason, sentence = STORAGE_FAULTS[error.errno]
    where = f": {error.filename}" if error.filename else ""
    step = f"{STORAGE_STEPS[reason]}; the stage is tried again"
    return Retry(reason, f"{sentence}{where}", evidence=str(error), next_step=step)
