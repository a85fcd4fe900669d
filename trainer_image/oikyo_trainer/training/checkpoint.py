"""Checkpoints that can be trusted: a folder counts once its manifest is there and every file matches it.

checkpoints/.attempt-<n>/checkpoint-<step>/ is written by transformers (and DeepSpeed), each attempt in a
place of its own: a worker that wakes up long after it was replaced has no file of its successor open.
manifest.json is ours and is written last, by rank 0, when every rank has written its part; then the
folder is renamed to checkpoints/checkpoint-<step>/, the only place that anybody reads. Optimizer and random states
are pickled by torch, so nothing in a folder is opened before the folder has verified. The manifest
ends in a hash of itself: an edited one is no proof of anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout

from ..files import sync_folder
from .manifest import (
    PREFIX,
    Damaged,
    Manifest,
    Stamps,
    entries,
    read_manifest,
    stamps,
    verify,
    write_manifest,
)

__all__ = [
    "Checkpoints",
    "Damaged",
    "Manifest",
    "Saved",
    "in_use",
    "ranked",
    "reading",
    "to_remove",
    "verify",
]

log = logging.getLogger("oikyo.train")

LEAST_KEPT = 2
"""Good checkpoints that retention never touches, whatever it is told to keep."""
STAGING = ".attempt-"
NEEDLESS = ("training_args.bin", "README.md", "zero_to_fp32.py", "zero_to_torch.py")
"""Written by the libraries, read by nobody; the first is a pickle, the last are programs."""


@dataclass(frozen=True)
class Saved:
    """What the training knows about the checkpoint that it has just written."""

    step: int
    epoch: float
    rows_seen: int
    final: bool
    eval_loss: float | None
    ranking: float | None = None
    excess: float = 0.0
    """How far the general loss stands above its bound."""


Rank = float | tuple[float, float]
"""Less is better: the metric that chooses, behind the excess of the general loss where there is one."""


@dataclass
class Checkpoints:
    """All checkpoints of a run. Only rank 0 commits and removes."""

    folder: Path
    keep: int
    run: str = ""
    attempt: int = 1
    world_size: int = 1
    libraries: Mapping[str, str] = field(default_factory=dict)
    before_commit: Callable[[], None] = lambda: None
    """Raises when this attempt has been replaced and must not write."""
    damaged: dict[int, str] = field(default_factory=dict)
    """Steps that were skipped, and why."""
    _stamps: dict[int, Stamps] = field(default_factory=dict)
    """Of each checkpoint that verified: its files' stamps then. While they stay, it is not read again."""

    def path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step}"

    @property
    def staging(self) -> Path:
        """Where this attempt writes, and nobody else."""
        return self.folder / f"{STAGING}{self.attempt}"

    def staged(self, step: int) -> Path:
        return self.staging / f"{PREFIX}{step}"

    def sweep(self) -> None:
        """Remove what earlier attempts left half-written."""
        for path in self.folder.glob(f"{STAGING}*"):
            number = path.name.removeprefix(STAGING)
            if number.isdigit() and int(number) < self.attempt:
                shutil.rmtree(path, ignore_errors=True)

    def clear(self, step: int) -> None:
        """An empty place for this step."""
        self.before_commit()
        self.staging.mkdir(parents=True, exist_ok=True)
        _remove(self.staged(step))

    def commit(self, saved: Saved) -> None:
        """Make the folder of `saved.step` count, then remove what is no longer kept."""
        self.before_commit()
        folder = self.staged(saved.step)
        for name in NEEDLESS:
            (folder / name).unlink(missing_ok=True)
        manifest = Manifest(
            run=self.run,
            step=saved.step,
            attempt=self.attempt,
            world_size=self.world_size,
            epoch=saved.epoch,
            rows_seen=saved.rows_seen,
            final=saved.final,
            eval_loss=saved.eval_loss,
            ranking=saved.ranking,
            excess=saved.excess,
            libraries=dict(self.libraries),
            files=tuple(entries(folder)),
        )
        write_manifest(folder, manifest)
        self._put_in_place(saved.step)
        self.damaged.pop(saved.step, None)
        self._stamps[saved.step] = stamps(self.path(saved.step))
        self._retain(saved.step, self.keep)

    def _put_in_place(self, step: int) -> None:
        """Rename the whole folder, over what an earlier attempt left under this step."""
        self.before_commit()
        _remove(self.path(step))
        os.rename(self.staged(step), self.path(step))
        sync_folder(self.folder)

    def give_up(self, step: int) -> None:
        """Remove what could not be written whole, and all that retention may spare to make room."""
        self.before_commit()
        _remove(self.staged(step))
        self._retain(step, LEAST_KEPT)

    def newest_step(self) -> int | None:
        """Step of the newest checkpoint that has its manifest."""
        return max(self._committed(), default=None)

    def bytes_of_last(self) -> int:
        """How much the newest committed checkpoint takes; 0 when there is none."""
        losses = self._committed()
        return read_manifest(self.path(max(losses))).size if losses else 0

    def set_eval_loss(
        self,
        step: int,
        loss: float,
        ranking: float | None = None,
        excess: float = 0.0,
        *,
        final: bool = False,
    ) -> None:
        """Add a validation that was made after the checkpoint was committed, and may be the last."""
        measured = {"eval_loss": loss, "ranking": ranking, "excess": excess, "final": final}
        manifest = read_manifest(self.path(step)).model_copy(update=measured)
        self.before_commit()
        write_manifest(self.path(step), manifest)
        self._stamps[step] = stamps(self.path(step))

    def newest_good(self) -> Manifest | None:
        """The newest checkpoint that verifies; the ones skipped on the way are kept in `damaged`."""
        return self._first_good(sorted(self._steps(), reverse=True))

    def best_good(self) -> Manifest | None:
        """The checkpoint of the least validation loss that verifies; the newest without any loss."""
        return self._first_good(ranked(self._committed()))

    def _first_good(self, steps: Sequence[int]) -> Manifest | None:
        """The first that verifies. One bad sector costs its checkpoint, and not the run.

        Where none verifies, what could not be read is raised: a volume that is away has lost nothing.
        """
        fault: OSError | None = None
        for step in steps:
            try:
                if (found := self._verified(step)) is not None:
                    return found
            except OSError as error:
                fault = error
                self._skip(step, f"it cannot be read: {error}")
        if fault is not None:
            raise fault
        return None

    def _verified(self, step: int) -> Manifest | None:
        try:
            manifest = verify(self.path(step), run=self.run)
        except Damaged as reason:
            self._skip(step, str(reason))
            return None
        self._stamps[step] = stamps(self.path(step))
        return manifest

    def _skip(self, step: int, reason: str) -> None:
        log.warning("skipped checkpoint-%d: %s", step, reason)
        self.damaged[step] = reason

    def _steps(self) -> list[int]:
        names = (path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*"))
        return [int(name) for name in names if name.isdigit()]

    def _committed(self) -> dict[int, Rank | None]:
        """What every checkpoint that has a readable manifest is ranked by, mostly validation loss."""
        losses: dict[int, Rank | None] = {}
        for step in self._steps():
            if step in self.damaged:
                continue
            try:
                manifest = read_manifest(self.path(step))
                losses[step] = manifest.rank
            except Damaged:
                continue
        return losses

    def _retain(self, newest: int, keep: int) -> None:
        losses = {step: loss for step, loss in self._committed().items() if self._still_good(step)}
        doomed = to_remove(losses, keep=keep)
        # Half-written and damaged folders of the past are of no use to anyone.
        doomed |= {step for step in self._steps() if step not in losses and step < newest}
        for step in sorted(doomed):
            if in_use(self.path(step)):
                log.info("checkpoint-%d is being read: it stays for now", step)
            else:
                _remove(self.path(step))

    def _still_good(self, step: int) -> bool:
        """Only good checkpoints may count as the ones kept; one that nobody has touched stays good."""
        with contextlib.suppress(OSError):
            if self._stamps.get(step) == stamps(self.path(step)):
                return True
        return self._verified(step) is not None


def ranked(losses: Mapping[int, Rank | None]) -> list[int]:
    """Steps from best to worst: by validation loss, the earlier of equals; without one, the newest."""

    def key(step: int) -> tuple[int, Any, int]:  # the ranks of one run are all of one kind
        loss = losses[step]
        return (1, 0.0, -step) if loss is None else (0, loss, step)

    return sorted(losses, key=key)


def to_remove(losses: Mapping[int, Rank | None], *, keep: int) -> set[int]:
    """Steps that retention drops: all but the `keep` newest (at least two) and the best one."""
    newest = sorted(losses)[-max(keep, LEAST_KEPT) :]
    measured = [step for step in ranked(losses) if losses[step] is not None]
    return set(losses) - set(newest) - set(measured[:1])


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep retention from removing `folder` while it is read, wherever the file system has locks."""
    with _descriptor(folder) as opened:
        with contextlib.suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_SH)
        yield


def in_use(folder: Path) -> bool:
    """Whether somebody is reading it. A file system without locks cannot tell, and says no."""
    try:
        with _descriptor(folder) as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextlib.contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield opened
    finally:
        os.close(opened)


def _remove(folder: Path) -> None:
    """Remove the manifest first: a removal cut short leaves a folder that does not count."""
    (folder / layout.MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
