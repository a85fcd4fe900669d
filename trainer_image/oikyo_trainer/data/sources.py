"""From a source of the spec to the files that it names, none of them outside its volume.

A path is resolved and must stay below the root that the source may see: the claim or ConfigMap for
pvc:// and configmap://, the folder itself for a folder. The file is then opened without following a
link and must be a plain file, so neither a device nor a pipe can hang or feed the stage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from oikyo.api.jobstatus import Resolved
from oikyo.api.sources import Format, GivenFormat
from oikyo.api.stages import Source

from . import folders
from .detect import BINARY, HEAD, KNOWN, Detected, detect, ending_of
from .plain import Packing, open_plain, open_unpacked, packing_of, refuse

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
    """Bytes on disk, packed."""
    packing: Packing = ""
    evidence: str = ""
    """Why the format is this one."""
    split: str = ""
    """Which of several splits of its folder it belongs to."""
    splits: tuple[str, ...] = ()
    weight: str = "1"
    """How often an epoch shows each training row."""

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The bytes, unpacked; Refused unless it is a plain file of bounded content."""
        return open_unpacked(self.name, self.path, self.packing)

    def resolved(self) -> tuple[Resolved, ...]:
        """What was chosen for this file without being said, with the evidence."""
        packed = f", packed with {self.packing}" if self.packing else ""
        why = f"{self.name[-200:]}: {self.evidence}{packed}"
        found = [Resolved(name="data.sources.format", value=self.format, reason=why)]
        if self.split:
            why = f"of the splits {', '.join(self.splits)} that its folder has"[:400]
            found.append(Resolved(name="data.sources.split", value=self.split[:256], reason=why))
        return tuple(found)


def here(path: Path, form: GivenFormat = "Auto") -> Source:
    """A file or folder that a person named on the command line; its rows are named as it was given."""
    above = ".." in path.parts
    whole = Path(os.path.realpath(path)) if above else path.absolute()
    return Source(uri=str(whole if above else path), path=str(whole), format=form)


def data_files(source: Source, *, test: bool = False) -> tuple[DataFile, ...]:
    """The files of `source`, sorted by name; Refused when there is none or one is not allowed.

    Of a folder that is parted into splits, those of the training split, with `test` of the test split.
    """
    path, root = locate(source)
    if path.is_dir():
        found = tuple(_folder_files(source, path, root, test))
        if not found:
            raise refuse(
                "NoFiles",
                f"the folder {source.uri} holds no file of a known format",
                f"Put {KNOWN} files there",
            )
        return found
    ending = ending_of(source.uri.split("@")[0]) or ending_of(path.name)
    return (_data_file(source, source.uri, path, ending),)


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


def _folder_files(source: Source, folder: Path, root: Path, test: bool) -> Iterator[DataFile]:
    uri = source.uri.rstrip("/")
    chosen = folders.choose(folder, uri, source.format, test=test)
    for entry in chosen.paths:
        name = f"{uri}/{entry.relative_to(folder).as_posix()}"
        try:
            path = entry.resolve(strict=True)
        except FileNotFoundError:
            missing = not entry.is_symlink()
            raise refuse(
                "SourceMissing" if missing else "SourceUnreadable",
                f"{name} does not exist" if missing else f"{name} is a link to nothing",
                "Save the data set again" if missing else "Remove the link",
            ) from None
        except (OSError, RuntimeError):
            raise refuse(
                "SourceUnreadable", f"{name} is a link to itself", "Remove the link"
            ) from None
        _inside(name, path, root)
        if not path.is_dir():
            file = _data_file(source, name, path, ending_of(entry.name))
            yield replace(file, split=chosen.split, splits=chosen.splits)


def _data_file(source: Source, name: str, path: Path, ending: str) -> DataFile:
    with open_plain(name, path) as file:
        size = os.fstat(file.fileno()).st_size
        packing = packing_of(file.read(4))
    if size == 0:
        raise refuse("EmptyFile", f"{name} is empty", "Write rows into it or leave it out")
    if source.format != "Auto":
        found = Detected(source.format, "as data.sources[].format says")
    else:
        with open_unpacked(name, path, packing) as opened:
            found = detect(name, ending, opened.read(HEAD))
    if packing and found.format in BINARY:
        raise refuse(
            "UnknownFormat",
            f"{name} is {found.format} packed with {packing}",
            f"Unpack it: {found.format} packs its columns itself",
        )
    weight = source.weight
    return DataFile(name, path, found.format, size, packing, found.evidence, weight=weight)
