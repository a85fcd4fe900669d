"""Fencing: a worker that was given up for lost must not write over the work of its successor.

`runs/<run>/<stage>/attempt` holds the highest attempt that has begun. A stage claims its number
before it works and checks it again before each commit; the lower number loses and writes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from oikyo.api.stages import RunSpec

from .context import Context
from .errors import Stale
from .files import write_atomic

ATTEMPT = "attempt"
NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)


def claim_attempt(spec: RunSpec, context: Context) -> None:
    """Write this attempt's number; raises Stale when a higher one is there already."""
    folder = context.folder(spec)
    with _locked(folder / f".{ATTEMPT}.lock"):
        newest = _read(folder / ATTEMPT)
        _compare(spec, newest)
        if newest < spec.attempt:
            write_atomic(folder / ATTEMPT, f"{spec.attempt}\n")


def check_attempt(spec: RunSpec, context: Context) -> None:
    """Raise Stale when a newer attempt has begun; call it right before each commit."""
    _compare(spec, _read(context.folder(spec) / ATTEMPT))


def _compare(spec: RunSpec, newest: int) -> None:
    if newest > spec.attempt:
        raise Stale(
            "StaleAttempt",
            f"attempt {spec.attempt} of {spec.stage} was replaced by attempt {newest}: "
            "it writes nothing more",
            evidence=f"runs/{spec.run}/{spec.stage}/{ATTEMPT} says {newest}",
            next_step="Nothing: the newer attempt goes on",
        )


def _read(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return 0


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file lock; a file system without locks still has the numbers, written atomically."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)
