"""Writing so that nothing half-written is ever taken for whole: temporary name, fsync, rename."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

CHUNK = 1 << 20


def write_atomic(path: Path, data: bytes | str) -> None:
    """Put `data` at `path` so that a reader sees the old file or the new one, also after a crash."""
    body = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_folder(staging: Path, target: Path) -> None:
    """Rename a finished `staging` folder to `target`; a target that is already there wins."""
    for file in sorted(staging.rglob("*")):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(staging, target)
    sync_folder(target.parent)


def file_digest(path: Path) -> str:
    """SHA-256 of one file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def folder_digest(folder: Path, *, skip: frozenset[str] = frozenset()) -> str:
    """`sha256:` over the names, sizes and contents of every file below `folder`."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in skip:
            digest.update(f"{name}\0{path.stat().st_size}\0{file_digest(path)}\n".encode())
    return "sha256:" + digest.hexdigest()
