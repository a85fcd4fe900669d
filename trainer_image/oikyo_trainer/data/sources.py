"""From a source of the spec to the files that it names, none of them outside its volume.

A path is resolved and must stay below the root that the source may see: the claim or ConfigMap for
pvc:// and configmap://, the folder itself for a folder. The file is then opened without following a
link and must be a plain file, so neither a device nor a pipe can hang or feed the stage.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from oikyo.api.stages import Source

from ..errors import Refused

Format = Literal["JSONL", "CSV", "Parquet"]

ENDINGS: dict[str, Format] = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSONL",
    ".csv": "CSV",
    ".tsv": "CSV",
    ".parquet": "Parquet",
}
KNOWN = "JSON Lines (.jsonl, .ndjson), CSV (.csv, .tsv) and Parquet (.parquet)"
PACKED = (".gz", ".zst", ".zip", ".bz2", ".xz", ".tar", ".tgz")
LONGEST = 4096


@dataclass(frozen=True)
class DataFile:
    """One file of a source, checked."""

    name: str
    """What messages call it: the source's URI, for a folder with the name inside it."""
    path: Path
    """Resolved: no component is a link."""
    format: Format
    size: int


def refuse(reason: str, message: str, step: str) -> Refused:
    return Refused(reason, message, next_step=step)


def data_files(source: Source) -> tuple[DataFile, ...]:
    """The files of `source`, sorted by name; Refused when there is none or one is not allowed."""
    path, root = locate(source)
    if path.is_dir():
        found = tuple(_folder_files(source, path, root))
        if not found:
            raise refuse(
                "NoFiles",
                f"the folder {source.uri} holds no file of a known format",
                f"Put {KNOWN} files there",
            )
        return found
    return (_data_file(source, source.uri, path),)


def locate(source: Source) -> tuple[Path, Path]:
    """The resolved path of `source` and the root it may not leave."""
    given = Path(source.path)
    if len(source.path) > LONGEST or "\0" in source.path:
        raise refuse("InvalidPath", f"the path of {source.uri[:200]} is no path", "Shorten it")
    if ".." in given.parts or ".." in source.uri.split("://", 1)[-1].split("/"):
        raise refuse(
            "PathEscapes",
            f"{source.uri} has '..' in its path: a source names a file inside its volume",
            "Write the path from the root of the volume, without '..'",
        )
    try:
        path = given.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise refuse(
            "SourceMissing", f"{source.uri} does not exist", _near(given, source.uri)
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise refuse(
            "SourceUnreadable", f"{source.uri} cannot be opened: {error}", "Check the path"
        ) from None
    root = _root(source, given, path)
    _inside(source.uri, path, root)
    return path, root


def _root(source: Source, given: Path, path: Path) -> Path:
    scheme, _, rest = source.uri.partition("://")
    if scheme in ("pvc", "configmap"):
        below = PurePosixPath(rest).parts[1:]
        if given.parts[len(given.parts) - len(below) :] == below:
            return Path(*given.parts[: len(given.parts) - len(below)]).resolve()
    return path if path.is_dir() else path.parent


def _inside(name: str, path: Path, root: Path) -> None:
    if not path.is_relative_to(root):
        raise refuse(
            "PathEscapes",
            f"{name} is a link that leads out of its volume",
            "Put the file itself there instead of the link",
        )


def _near(path: Path, uri: str) -> str:
    parent = path.parent
    names = sorted(p.name for p in parent.iterdir())[:8] if parent.is_dir() else []
    there = f"beside it stand {', '.join(names)}" if names else "its folder does not exist either"
    return f"Correct the path or put the file there: {there}" if uri else there


def _folder_files(source: Source, folder: Path, root: Path) -> Iterator[DataFile]:
    for entry in sorted(folder.iterdir(), key=lambda p: p.name):
        if entry.name.startswith(".") or entry.suffix.lower() not in ENDINGS:
            continue
        name = f"{source.uri.rstrip('/')}/{entry.name}"
        try:
            path = entry.resolve(strict=True)
        except (OSError, RuntimeError):
            raise refuse(
                "SourceUnreadable", f"{name} is a link to nothing", "Remove the link"
            ) from None
        _inside(name, path, root)
        if not path.is_dir():
            yield _data_file(source, name, path, entry.suffix)


def _data_file(source: Source, name: str, path: Path, ending: str = "") -> DataFile:
    with open_plain(name, path) as file:
        size = os.fstat(file.fileno()).st_size
    if size == 0:
        raise refuse("EmptyFile", f"{name} is empty", "Write rows into it or leave it out")
    ending = ending or Path(source.uri.split("@")[0]).suffix or path.suffix
    return DataFile(name, path, _format(source, name, ending.lower()), size)


def _format(source: Source, name: str, ending: str) -> Format:
    if source.format != "Auto":
        return source.format
    if ending in ENDINGS:
        return ENDINGS[ending]
    if ending in PACKED:
        step = f"Unpack it; {KNOWN} are read"
    else:
        step = f"Rename it or set the source's format; {KNOWN} are read"
    raise refuse("UnknownFormat", f"the format of {name} is not told by its ending", step)


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
