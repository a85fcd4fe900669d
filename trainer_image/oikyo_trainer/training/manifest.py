"""The proof that a checkpoint is whole: its files with size and hash, sealed by a hash of its own.

Nothing in a checkpoint is opened before `verify` has passed: torch's pickles would run what they hold.
A seal finds damage and slips of the hand; it keeps out nobody who means to forge one.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from oikyo.api import workspace as layout

from ..files import file_digest, sync_folder, write_atomic

PREFIX = "checkpoint-"
SEAL = "seal"
"""Last field of a manifest: SHA-256 over the others."""

Stamps = dict[str, tuple[int, int, int]]  # inode, size and time of change, by name


class Entry(BaseModel):
    """One file of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """What a checkpoint is, and the proof that it is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    run: str = ""
    """The run that wrote it; another run's checkpoint was learned from other rows."""
    step: int
    attempt: int
    world_size: int
    epoch: float
    """Passes over the training rows that are done; with the seed it is the position in the data."""
    rows_seen: int
    final: bool
    """Whether training ended here, by its steps or by early stopping."""
    eval_loss: float | None = None
    ranking: float | None = None
    """What the best is chosen by, less is better: training.selectBy; None: eval_loss."""
    excess: float = 0.0
    """How far the loss of general rows stands above training.general.maxIncrease; 0: it keeps to it."""
    libraries: dict[str, str] = {}
    files: tuple[Entry, ...]

    @property
    def rank(self) -> tuple[float, float] | None:
        """What the best checkpoint is chosen by, less is better; None: nothing was measured."""
        value = self.eval_loss if self.ranking is None else self.ranking
        return None if value is None else (self.excess, value)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)


class Damaged(Exception):
    """A checkpoint does not match its manifest; the text says how."""


def sealed(values: Mapping[str, Any]) -> bytes:
    """The one form in which a manifest is written: its values, then the hash of them."""
    body = {name: value for name, value in values.items() if name != SEAL}
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps({**body, SEAL: digest}, indent=1).encode()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest into its folder. It is written outside: a kill must leave no stray file inside."""
    beside = folder.with_name(f".{folder.name}.{layout.MANIFEST}")
    write_atomic(beside, sealed(manifest.model_dump()))
    os.replace(beside, folder / layout.MANIFEST)
    sync_folder(folder)
    sync_folder(folder.parent)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint; raises Damaged where it is absent, unreadable or edited."""
    if folder.is_symlink():
        raise Damaged("it is a symbolic link")
    try:
        body = (folder / layout.MANIFEST).read_bytes()
        values = json.loads(body)
        if not isinstance(values, dict) or sealed(values) != body:
            raise Damaged(f"{layout.MANIFEST} is not as it was written")
        del values[SEAL]
        return Manifest.model_validate(values)
    except (FileNotFoundError, NotADirectoryError):
        raise Damaged(f"it has no {layout.MANIFEST}: it was never finished") from None
    except (ValueError, RecursionError) as error:
        first = str(error).splitlines()[0]
        raise Damaged(f"{layout.MANIFEST} cannot be read: {first}") from None


def verify(folder: Path, *, run: str = "") -> Manifest:
    """The manifest, once every file is of its size and content; raises Damaged otherwise."""
    manifest = read_manifest(folder)
    if folder.name != f"{PREFIX}{manifest.step}":
        raise Damaged(f"{layout.MANIFEST} is of step {manifest.step}")
    if run and manifest.run != run:
        raise Damaged(f"{layout.MANIFEST} is of the run {manifest.run}")
    present = set(names_of(folder))
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


def stamps(folder: Path) -> Stamps:
    """What changes when anybody writes into the folder, by the file system's own account."""
    found = {".": folder.lstat(), **{str(p): p.lstat() for p in folder.rglob("*")}}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found.items()}


def names_of(folder: Path) -> Iterable[str]:
    """Every file but the manifest; a link would point out of what was hashed."""
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise Damaged(
                f"{path.name} is {'a symbolic link' if stat.S_ISLNK(mode) else 'no file'}"
            )
        name = path.relative_to(folder).as_posix()
        if name != layout.MANIFEST:
            yield name


def entries(folder: Path) -> Iterable[Entry]:
    """Hash every file and flush it: the manifest may not be durable before what it vouches for."""
    for name in names_of(folder):
        path = folder / name
        with path.open("rb") as opened:
            os.fsync(opened.fileno())
        yield Entry(name=name, size=path.stat().st_size, sha256=file_digest(path))
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
    sync_folder(folder)
