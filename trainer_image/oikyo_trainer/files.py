"""Writing so that nothing half-written is ever taken for whole: temporary name, fsync, rename."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

CHUNK = 1 << 20
BEGUN = 16 << 20
"""Bytes after which the disk begins to write what it was given."""
RANGE_WRITE = 2
"""SYNC_FILE_RANGE_WRITE (linux/fs.h)."""


def write_atomic(path: Path, data: bytes | str) -> None:
    """Put `data` at `path` so that a reader sees the old file or the new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)
    sync_folder(path.parent)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place once it is written, and goes when anything fails."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if not file.closed:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_folder(staging: Path, target: Path) -> bool:
    """Rename a finished `staging` folder to `target`, whole and durable.

    A target that is already there wins: the staging folder goes, and the answer is False.
    """
    _sync_tree(staging)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staging, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(staging)
        return False
    sync_folder(target.parent)
    return True


def _sync_tree(folder: Path) -> None:
    """Flush files and the names that lead to them, or a power cut keeps the folder and loses these."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            with path.open("rb") as opened:
                os.fsync(opened.fileno())
    sync_folder(folder)


class Digested(io.RawIOBase):
    """A file that is written anew; its size and digest are known by the time that it is closed.

    The disk writes it meanwhile: an fsync that follows has little left to wait for.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._file = path.open("wb")
        self._digest = hashlib.sha256()
        self._size = self._begun = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: ReadableBuffer) -> int:
        octets = memoryview(data)
        self._file.write(octets)
        self._digest.update(octets)
        self._size += octets.nbytes
        if self._size - self._begun >= BEGUN:
            self._begin_to_sync()
        return octets.nbytes

    def close(self) -> None:
        try:
            if not self._file.closed:
                with self._file:
                    self._begin_to_sync()
        finally:
            super().close()

    def _begin_to_sync(self) -> None:
        self._begun = self._size
        self._file.flush()
        _begin_to_sync(self._file.fileno())

    def facts(self) -> dict[str, Any]:
        """Its size and SHA-256, as manifests have them."""
        return {"size": self._size, "sha256": self._digest.hexdigest()}


def _begin_to_sync(descriptor: int) -> None:
    """Have the kernel begin to write what it holds of a file; not where it is not Linux."""
    if sys.platform == "linux":
        everything = ctypes.c_int64(0)
        ctypes.CDLL(None).sync_file_range(descriptor, everything, everything, RANGE_WRITE)


def file_digest(path: Path) -> str:
    """SHA-256 of one file as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path, *, skip: frozenset[str] = frozenset()) -> str:
    """`sha256:` over the names, sizes and contents of every file below `folder`."""
    digest = hashlib.sha256()
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    for name, path in sorted(files.items()):
        if name not in skip:
            digest.update(digest_line(name, path.stat().st_size, file_digest(path)))
    return "sha256:" + digest.hexdigest()


def digest_line(name: str, size: int, sha256: str) -> bytes:
    """What one file adds to the digest of its folder."""
    return f"{name}\0{size}\0{sha256}\n".encode()
