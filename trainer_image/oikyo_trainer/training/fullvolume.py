"""A volume without room for a checkpoint: training goes on with the older ones, tries again, and says so.

A half-written checkpoint never counts, so nothing is lost but the steps since the last one. Only at
the end does the training wait: then the newest state is all that there is to save.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oikyo.api.stages import WORKSPACE_FULL, Failure

from ..errors import Retry
from .distributed import World, from_first

log = logging.getLogger("oikyo.train")

FULL = (errno.ENOSPC, errno.EDQUOT)
TRY_AGAIN_SECONDS = 60.0
"""After a checkpoint that found no room, the next is written this soon, whatever the spec says."""
WAIT_SECONDS = 600.0
"""Longest wait for room at the end of the training; the next attempt trains from an older checkpoint."""
LOOK_SECONDS = 15.0
MIB = 1 << 20


def is_full(fault: BaseException | None) -> bool:
    """Whether `fault` says that there is no room left."""
    return isinstance(fault, OSError) and fault.errno in FULL


def free_bytes(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def told(folder: Path, step: int, *, needed: int, free: int, kept: int | None) -> Failure:
    """The trouble in words: what is full, how much is needed, what goes on, and the next step."""
    older = f"the checkpoint of step {kept} is kept" if kept else "there is no earlier one"
    short = max(needed - free, MIB)
    return Failure(
        kind="Retry",
        reason=WORKSPACE_FULL,
        message=f"the workspace is full: checkpoint-{step} needs {_mib(needed)} and {_mib(free)} are "
        f"free; {older}, the training goes on and tries again",
        evidence=str(folder),
        next_step=f"Free at least {_mib(short)} in the workspace or enlarge it (spec.storage.size); "
        "nothing needs to be restarted.",
    )


def _mib(size: int) -> str:
    return f"{-(-size // MIB)} MiB"


@dataclass(frozen=True)
class Ending:
    """Where the checkpoints stand when the steps are over, as rank 0 knows it."""

    committed: int
    trouble: Failure | None
    stopping: bool = False
    """Whether the platform wants the process gone: no time to wait for room."""


def await_last(
    world: World,
    step: int,
    *,
    ending: Callable[[], Ending],
    save_again: Callable[[], Any],
    beat: Callable[[], None],
) -> int:
    """Return the newest step that counts; save again while `step` found no room. All ranks together."""
    begun = time.monotonic()
    while True:
        now, late = from_first(world, (ending(), time.monotonic() - begun > WAIT_SECONDS))
        trouble = now.trouble
        if now.committed >= step or trouble is None or now.stopping:
            return now.committed
        if late:
            raise Retry(
                trouble.reason,
                trouble.message,
                evidence=trouble.evidence,
                next_step=trouble.next_step,
            )
        _sleep(LOOK_SECONDS, beat)
        save_again()


def _sleep(seconds: float, beat: Callable[[], None]) -> None:
    """A wait that nobody takes for a hang."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        beat()
        time.sleep(min(1.0, left))
    beat()
