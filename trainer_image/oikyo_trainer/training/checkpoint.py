"""Checkpoints that can be trusted: a folder counts once its manifest is there and every file matches it.

checkpoints/checkpoint-<step>/ is written by transformers (and DeepSpeed); its manifest.json is ours
and is written last, by rank 0, when every rank has written its part. Optimizer and random states
are pickled by torch, so nothing in a folder is opened before the folder has verified.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from oikyo.api import workspace as layout

from ..files import file_digest, sync_folder, write_atomic

log = logging.getLogger("oikyo.train")

PREFIX = "checkpoint-"
LEAST_KEPT = 2
"""Good checkpoints that retention never touches, whatever it is told to keep."""
NEEDLESS = ("training_args.bin", "README.md", "zero_to_fp32.py", "zero_to_torch.py")
"""Written by the libraries, read by nobody; the first is a pickle, the last are programs."""


class Entry(BaseModel):
    """One file of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What a checkpoint is, and the proof that it is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    attempt: int
    world_size: int
    epoch: float
    """Passes over the training rows that are done; with the seed it is the position in the data."""
    rows_seen: int
    final: bool
    """Whether training ended here, by its steps or by early stopping."""
    eval_loss: float | None = None
    libraries: dict[str, str] = {}
    files: tuple[Entry, ...]


class Damaged(Exception):
    """A checkpoint does not match its manifest; the text says how."""


@dataclass(frozen=True)
class Saved:
    """What the training knows about the checkpoint that it has just written."""

    step: int
    epoch: float
    rows_seen: int
    final: bool
    eval_loss: float | None


@dataclass
class Checkpoints:
    """All checkpoints of a run. Only rank 0 commits and removes."""

    folder: Path
    keep: int
    attempt: int = 1
    world_size: int = 1
    libraries: Mapping[str, str] = field(default_factory=dict)
    before_commit: Callable[[], None] = lambda: None
    """Raises when this attempt has been replaced and must not write."""
    damaged: dict[int, str] = field(default_factory=dict)
    """Steps that were skipped, and why."""

    def path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step}"

    def clear(self, step: int) -> None:
        """Remove what an earlier attempt left under this step, so that two never mix."""
        self.before_commit()
        _remove(self.path(step))

    def commit(self, saved: Saved) -> None:
        """Make the folder of `saved.step` count, then remove what is no longer kept."""
        self.before_commit()
        folder = self.path(saved.step)
        for name in NEEDLESS:
            (folder / name).unlink(missing_ok=True)
        manifest = Manifest(
            step=saved.step,
            attempt=self.attempt,
            world_size=self.world_size,
            epoch=saved.epoch,
            rows_seen=saved.rows_seen,
            final=saved.final,
            eval_loss=saved.eval_loss,
            libraries=dict(self.libraries),
            files=tuple(_entries(folder)),
        )
        write_atomic(folder / layout.MANIFEST, manifest.model_dump_json(indent=1))
        sync_folder(self.folder)
        self.damaged.pop(saved.step, None)
        self._retain(saved.step)

    def set_eval_loss(self, step: int, loss: float) -> None:
        """Add a validation loss that was measured after the checkpoint was committed."""
        manifest = read_manifest(self.path(step)).model_copy(update={"eval_loss": loss})
        self.before_commit()
        write_atomic(self.path(step) / layout.MANIFEST, manifest.model_dump_json(indent=1))

    def newest_good(self) -> Manifest | None:
        """The newest checkpoint that verifies; the ones skipped on the way are kept in `damaged`."""
        for step in sorted(self._steps(), reverse=True):
            try:
                return verify(self.path(step))
            except Damaged as reason:
                log.warning("skipped checkpoint-%d: %s", step, reason)
                self.damaged[step] = str(reason)
        return None

    def best_good(self) -> Manifest | None:
        """The checkpoint of the least validation loss that verifies; the newest without any loss."""
        for step in ranked(self._committed()):
            try:
                return verify(self.path(step))
            except Damaged as reason:
                log.warning("skipped checkpoint-%d: %s", step, reason)
                self.damaged[step] = str(reason)
        return None

    def _steps(self) -> list[int]:
        names = (path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*"))
        return [int(name) for name in names if name.isdigit()]

    def _committed(self) -> dict[int, float | None]:
        """Validation loss of every checkpoint that has a readable manifest."""
        losses: dict[int, float | None] = {}
        for step in self._steps():
            if step in self.damaged:
                continue
            try:
                losses[step] = read_manifest(self.path(step)).eval_loss
            except Damaged:
                continue
        return losses

    def _retain(self, newest: int) -> None:
        losses = self._committed()
        doomed = to_remove(losses, keep=self.keep)
        # Half-written and damaged folders of the past are of no use to anyone.
        doomed |= {step for step in self._steps() if step not in losses and step < newest}
        for step in sorted(doomed):
            _remove(self.path(step))


def ranked(losses: Mapping[int, float | None]) -> list[int]:
    """Steps from best to worst: by validation loss, the earlier of equals; without one, the newest."""

    def key(step: int) -> tuple[int, float, int]:
        loss = losses[step]
        return (1, 0.0, -step) if loss is None else (0, loss, step)

    return sorted(losses, key=key)


def to_remove(losses: Mapping[int, float | None], *, keep: int) -> set[int]:
    """Steps that retention drops: all but the `keep` newest (at least two) and the best one."""
    newest = sorted(losses)[-max(keep, LEAST_KEPT) :]
    measured = [step for step in ranked(losses) if losses[step] is not None]
    return set(losses) - set(newest) - set(measured[:1])


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint; raises Damaged where it is absent or unreadable."""
    try:
        return Manifest.model_validate_json((folder / layout.MANIFEST).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"it has no {layout.MANIFEST}: it was never finished") from None
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise Damaged(f"{layout.MANIFEST} cannot be read: {first}") from None


def verify(folder: Path) -> Manifest:
    """The manifest, once every file is of its size and content; raises Damaged otherwise."""
    manifest = read_manifest(folder)
    if folder.name != f"{PREFIX}{manifest.step}":
        raise Damaged(f"{layout.MANIFEST} is of step {manifest.step}")
    present = set(_names(folder))
    for entry in manifest.files:
        if entry.name not in present:
            raise Damaged(f"{entry.name} is missing")
        path = folder / entry.name
        if (size := path.stat().st_size) != entry.size:
            raise Damaged(f"{entry.name} has {size} bytes, {entry.size} were written")
        if file_digest(path) != entry.sha256:
            raise Damaged(f"{entry.name} has another content than was written")
    if extra := sorted(present - {entry.name for entry in manifest.files}):
        raise Damaged(f"{extra[0]} does not belong to it")
    return manifest


def _names(folder: Path) -> Iterable[str]:
    """Every file but the manifest; a link would point out of what was hashed."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise Damaged(f"{path.name} is a symbolic link")
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != layout.MANIFEST:
            yield name


def _entries(folder: Path) -> Iterable[Entry]:
    """Hash every file and flush it: the manifest may not be durable before what it vouches for."""
    for name in _names(folder):
        path = folder / name
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
        yield Entry(name=name, size=path.stat().st_size, sha256=file_digest(path))
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def _remove(folder: Path) -> None:
    """Remove the manifest first: a removal cut short leaves a folder that does not count."""
    (folder / layout.MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
