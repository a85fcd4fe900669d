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
import os
import re
import shutil
from pathlib import Path
from typing import Any

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

    def __reduce__(self) -> tuple[Any, ...]:
        """Whole on its way between processes: an Exception is made anew from its message alone."""
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[StageFailed], said: tuple[str], state: dict[str, Any]) -> StageFailed:
    error = kind.__new__(kind, *said)
    error.__dict__.update(state)
    return error


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


SMALLEST_PART = 1 << 20
"""Free bytes under which a failed write of a small file is one of a full volume."""
_ARCHIVE = ("inline_container.cc", "iostream error")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
MIB = 1 << 20


def storage_fault(error: BaseException, workspace: Path | None = None) -> Retry | None:
    """The sentence for a fault of the storage; None when `error` is about something else."""
    found = as_os_error(error, workspace)
    if not isinstance(found, OSError) or found.errno not in STORAGE_FAULTS:
        return None
    reason, sentence = STORAGE_FAULTS[found.errno]
    where = f": {found.filename}" if found.filename else ""
    step = f"{STORAGE_STEPS[reason]}; the stage is tried again"
    evidence = f"{room(workspace)}{error}" if reason == "WorkspaceFull" else str(error)
    return Retry(reason, f"{sentence}{where}", evidence=evidence, next_step=step)


def room(folder: Path | None) -> str:
    """How full the volume of `folder` is, as the beginning of a sentence."""
    try:
        usage = shutil.disk_usage(folder or "")
    except OSError:
        return ""
    return f"{usage.free // MIB} MiB of {usage.total // MIB} MiB are free on {folder}: "


def as_os_error(fault: BaseException, folder: Path | None = None) -> BaseException:
    """A fault of the storage met in Rust or C++ code, as the OSError that Python would have raised.

    torch's writer of archives keeps the reason to itself: then the room left on `folder` tells.
    """
    found = _OS_ERROR.search(str(fault))
    if found:
        number = int(found[1])
        return OSError(number, os.strerror(number))
    silent = isinstance(fault, RuntimeError) and any(said in str(fault) for said in _ARCHIVE)
    if silent and folder is not None and shutil.disk_usage(folder).free < SMALLEST_PART:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    return fault
