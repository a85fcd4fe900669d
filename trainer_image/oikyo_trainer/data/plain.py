"""Plain files alone are opened, packed ones through a bound on what comes out of them."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pyarrow as pa

from ..errors import Refused
from .findings import excerpt

Packing = Literal["", "gzip", "zstd"]
"""How the bytes of a file are packed; "": not at all."""

MAGIC: dict[Packing, bytes] = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
FREE = 64 << 20
"""Bytes that may come out of any packed file; behind them RATIO counts."""
RATIO = 250
"""Times its own size that a packed file may hold. Repetitive JSON Lines reach 40; a bomb 1000."""
BUFFER = 1 << 18


def refuse(reason: str, message: str, step: str) -> Refused:
    return Refused(reason, message, next_step=step)


@contextmanager
def open_plain(name: str, path: Path) -> Iterator[BinaryIO]:
    """Open `path` for reading; Refused unless it is a plain file that this user may read."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise refuse(
            "SourceUnreadable",
            f"{name} cannot be opened: {error.strerror}",
            "Make it a plain file that the stage's user may read",
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refuse(
            "NotAFile",
            f"{name} is no plain file (a device, a pipe or a socket)",
            "Copy its content into a file",
        )
    with os.fdopen(descriptor, "rb") as file:
        yield file


def packing_of(start: bytes) -> Packing:
    """How a file that begins with `start` is packed."""
    return next((packing for packing, magic in MAGIC.items() if start.startswith(magic)), "")


@contextmanager
def open_unpacked(name: str, path: Path, packing: Packing) -> Iterator[BinaryIO]:
    """As open_plain, unpacked on the fly; Refused where more comes out than a file may hold."""
    with open_plain(name, path) as file:
        if not packing:
            yield file
            return
        most = max(FREE, RATIO * os.fstat(file.fileno()).st_size)
        with io.BufferedReader(_Unpacked(name, file, packing, most), BUFFER) as unpacked:
            yield unpacked


class _Unpacked(io.RawIOBase):
    """What comes out of a packed file, up to `most` bytes; its faults name the file."""

    def __init__(self, name: str, file: BinaryIO, packing: Packing, most: int) -> None:
        self._name, self._packing = name, packing
        self._most = self._left = most
        self._stream: Any = pa.CompressedInputStream(file, packing)  # Any: pyarrow is untyped

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # Any: whatever is a buffer
        try:
            data: bytes = self._stream.read(len(buffer))
        except (pa.ArrowException, OSError) as error:
            raise refuse(
                "UnreadableFile",
                f"{self._name} is not whole as a {self._packing} file: {excerpt(str(error))}",
                f"Copy it again and try it: {self._packing} -t FILE",
            ) from None
        self._left -= len(data)
        if self._left < 0:
            raise refuse(
                "InvalidData",
                f"{self._name} unpacks to more than {self._most >> 20} MiB, {RATIO} times its size "
                "or more",
                "Unpack it yourself if it is meant to be so",
            )
        buffer[: len(data)] = data
        return len(data)
