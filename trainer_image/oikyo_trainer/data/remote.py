"""Sources that are fetched: hf:// and buckets, into the staging folder, pinned to what they were.

The bytes pass in pieces of CHUNK; a file counts when its size is what the store said and when it did not
change meanwhile. Names in a bucket become names of files only after `buckets.safe_parts`.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TypeVar

from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import PrepareSpec, Source

from ..errors import Refused, Retry
from . import hub
from .buckets import Bucket, in_bucket, open_bucket, safe_parts, sorted_errors
from .detect import ENDINGS, ending_of
from .findings import excerpt
from .folders import DESCRIPTIONS

log = logging.getLogger("oikyo.data")

CHUNK = 8 << 20
WORKERS = 4
MOST_FILES = 10_000
AnySource = TypeVar("AnySource", bound=Source)
Sources = tuple[tuple[Source, ...], tuple[Source, ...]]
"""To learn from, and to test on."""


def is_remote(source: Source) -> bool:
    return source.uri.startswith("hf://") or in_bucket(source.uri)


def local(sources: Sources, staging: Path) -> tuple[Sources, list[Resolved]]:
    """`sources` with remote ones fetched below `staging`, and what these were pinned to."""
    pinned: list[Resolved] = []
    places = [
        tuple(one for source in side for one in _fetched(source, staging, pinned, test=test))
        for side, test in zip(sources, (False, True), strict=True)
    ]
    return (places[0], places[1]), pinned


def with_benchmarks(spec: PrepareSpec, staging: Path, pinned: list[Resolved]) -> PrepareSpec:
    """`spec` with its benchmarks fetched too; of a pattern each file, under the one name."""
    given = spec.contamination
    found = tuple(one for source in given for one in _fetched(source, staging, pinned, test=True))
    return spec.model_copy(update={"contamination": found})


def _fetched(
    source: AnySource, staging: Path, pinned: list[Resolved], *, test: bool
) -> tuple[AnySource, ...]:
    folder = staging / "fetched" / str(len(pinned))
    if source.uri.startswith("hf://"):
        return (_from_hub(source, folder, pinned, test=test),)
    if in_bucket(source.uri):
        return _from_bucket(source, folder, pinned)
    return (source,)


def _from_hub(source: AnySource, folder: Path, pinned: list[Resolved], *, test: bool) -> AnySource:
    place = hub.parse(source.uri, "dataset")
    commit = hub.revision(place)
    names = hub.data_names(place, commit, test=test)
    hub.download(place, commit, folder, names)
    reason = f"what {place.revision} of {source.uri} was when the data was prepared"
    pinned.append(Resolved(name="data.sources.revision", value=commit, reason=reason))
    path = folder / (place.path or names[0])
    if not place.path and len(names) > 1:
        path = path.parent
    return source.model_copy(update={"path": str(path)})


@dataclass(frozen=True)
class Item:
    """One object of a bucket."""

    key: str
    size: int
    changed: int
    """Nanoseconds since 1970, as the store says."""


def _from_bucket(source: AnySource, folder: Path, pinned: list[Resolved]) -> tuple[AnySource, ...]:
    bucket = open_bucket(source)
    base, pattern = _pattern(bucket.key)
    single = None if pattern else _item(bucket)
    if single is not None:
        items, base = [single], str(PurePosixPath(single.key).parent).removeprefix(".")
    elif pattern is not None:
        items = [item for item in _below(bucket, base, deep=True) if pattern.fullmatch(item.key)]
    else:
        items = _folder_items(bucket, given=source.format != "Auto")
    if not items:
        raise _nothing(bucket, base)
    tags = fetch(bucket, items, base, folder)
    pinned.append(pin(source.uri, items, tags))
    if single is None and pattern is None:
        return (source.model_copy(update={"path": str(folder)}),)
    return tuple(_file_source(source, bucket, item, base, folder) for item in items)


def _file_source(
    source: AnySource, bucket: Bucket, item: Item, base: str, folder: Path
) -> AnySource:
    uri = f"{source.uri.split('://')[0]}://{bucket.name}/{item.key}"
    path = folder / item.key.removeprefix(f"{base}/" if base else "")
    return source.model_copy(update={"uri": uri, "path": str(path)})


def _pattern(key: str) -> tuple[str, re.Pattern[str] | None]:
    """The folder in front of the first part with a wildcard, and the pattern of whole keys."""
    parts = key.split("/")
    wild = next((n for n, part in enumerate(parts) if "*" in part or "?" in part), None)
    if wild is None:
        return key.rstrip("/"), None
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?)", key)
    return "/".join(parts[:wild]), re.compile(
        "".join(words.get(piece) or re.escape(piece) for piece in pieces)
    )


def _item(bucket: Bucket) -> Item | None:
    """The object that the URI names, if it names one."""
    from pyarrow.fs import FileSelector, FileType

    if not bucket.key or bucket.key.endswith("/"):
        return None
    path = bucket.path(bucket.key)
    try:
        (info,) = bucket.files.get_file_info([path])
    except OSError:
        # The answer to a HEAD has no body: a listing says what is wrong.
        with sorted_errors(bucket):
            bucket.files.get_file_info(FileSelector(path, allow_not_found=True))
            (info,) = bucket.files.get_file_info([path])
    return Item(bucket.key, info.size, info.mtime_ns or 0) if info.type == FileType.File else None


def _below(bucket: Bucket, base: str, *, deep: bool) -> list[Item]:
    """The objects below the folder `base`, sorted by key; those of its folders too with `deep`."""
    from pyarrow.fs import FileSelector, FileType

    with sorted_errors(bucket):
        found = bucket.files.get_file_info(FileSelector(bucket.path(base), recursive=deep))
    start = f"{bucket.name}/"
    items = [
        Item(info.path.lstrip("/").removeprefix(start), info.size, info.mtime_ns or 0)
        for info in found
        if info.type == FileType.File
    ]
    return sorted(items, key=lambda item: item.key)


def every(bucket: Bucket) -> list[Item]:
    """All objects below the folder that the URI names."""
    return _below(bucket, bucket.key.rstrip("/"), deep=True)


def _folder_items(bucket: Bucket, *, given: bool) -> list[Item]:
    """What a folder of rows consists of: its own files, those in `data`, and saved splits."""
    base = bucket.key.rstrip("/")
    own = _below(bucket, base, deep=False)
    names = {PurePosixPath(item.key).name for item in own}
    if "dataset_dict.json" in names:
        own = _below(bucket, base, deep=True)
    wanted = [item for item in own if _is_wanted(item.key, given=given)]
    if not wanted:
        below = _join(base, "data")
        try:
            wanted = [
                i for i in _below(bucket, below, deep=False) if _is_wanted(i.key, given=given)
            ]
        except Refused:
            return []  # there is no such folder
    return wanted


def _is_wanted(key: str, *, given: bool) -> bool:
    name = PurePosixPath(key).name
    if name.startswith("."):
        return False
    return given or ending_of(name) in ENDINGS or name in DESCRIPTIONS


def _join(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


def _nothing(bucket: Bucket, base: str) -> Refused:
    there = [item.key for item in _below(bucket, base, deep=False)]
    shown = ", ".join(excerpt(key) for key in there[:8]) or "no file"
    return Refused(
        "NoFiles",
        f"{bucket.uri} matches no file of a known format; below {base or 'the bucket'} stand {shown}",
        next_step="Name a file, its folder, or a pattern such as s3://bucket/path/*.jsonl",
    )


def pin(
    uri: str, items: Sequence[Item], tags: Sequence[str], name: str = "data.sources.revision"
) -> Resolved:
    """What `uri` was, for status.resolved."""
    if len(items) == 1:
        reason = f"the ETag of {uri} when the data was prepared"
        return Resolved(name=name, value=tags[0][:256], reason=reason)
    lines = "".join(f"{item.key} {tag}\n" for item, tag in zip(items, tags, strict=True))
    value = "sha256:" + sha256(lines.encode()).hexdigest()
    reason = f"over the names and ETags of {len(items)} objects of {uri} when the data was prepared"
    return Resolved(name=name, value=value, reason=reason)


def fetch(bucket: Bucket, items: Sequence[Item], base: str, folder: Path) -> list[str]:
    """Copy `items` below `folder`, by their names below `base`; the ETag of each. Goes on with an earlier try."""
    if len(items) > MOST_FILES:
        raise Refused(
            "TooManyFiles",
            f"{bucket.uri} matches {len(items)} objects; at most {MOST_FILES} are read",
            next_step="Pack them into fewer files",
        )
    began, total = time.monotonic(), sum(item.size for item in items)
    folder.mkdir(parents=True, exist_ok=True)
    _check_space(bucket, total, folder)
    targets = [
        folder.joinpath(*safe_parts(bucket.uri, i.key.removeprefix(f"{base}/" if base else "")))
        for i in items
    ]
    with ThreadPoolExecutor(WORKERS) as pool:
        tags = list(pool.map(lambda pair: _copy(bucket, *pair), zip(items, targets, strict=True)))
    log.info(
        "fetched %d files, %d bytes, of %s in %.1f s",
        len(items),
        total,
        bucket.uri,
        time.monotonic() - began,
    )
    return tags


def _check_space(bucket: Bucket, total: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if total > free:
        raise Refused(
            "WorkspaceFull",
            f"{bucket.uri} has {total >> 20} MiB, and the workspace has {free >> 20} MiB free",
            next_step="Free space in the workspace or enlarge it (spec.storage.size)",
        )


def _copy(bucket: Bucket, item: Item, target: Path) -> str:
    """Bring one object here, whole; its ETag."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{sha256(target.name.encode()).hexdigest()[:16]}.part")
    path = bucket.path(item.key)
    with sorted_errors(bucket):
        tag = _tag(bucket, item)
        if target.is_file() and target.stat().st_size == item.size:
            return (
                tag  # an earlier try brought it; the folder is named by what the store says of it
            )
        _stream(bucket, path, part)
        after = _tag(bucket, item)
    if tag != after or part.stat().st_size != item.size:
        part.unlink()
        raise Retry(
            "SourceChanged",
            f"{excerpt(item.key)} of {bucket.uri} changed while it was fetched",
            next_step="Nothing: the stage is tried again; do not write to the source meanwhile",
        )
    os.replace(part, target)
    return tag


def _stream(bucket: Bucket, path: str, part: Path) -> None:
    # As it lies there: left to itself Arrow unpacks a .gz, without a bound.
    with (
        bucket.files.open_input_stream(path, compression=None) as stream,
        part.open("wb") as file,
    ):
        while piece := stream.read(CHUNK):
            file.write(piece)


def _tag(bucket: Bucket, item: Item) -> str:
    """The ETag of an object, else its size and time."""
    with bucket.files.open_input_stream(bucket.path(item.key), compression=None) as stream:
        told = {k.lower(): v for k, v in (stream.metadata() or {}).items()}
    tag = told.get("etag") or told.get(b"etag") or b""
    text = tag.decode(errors="replace") if isinstance(tag, bytes) else str(tag)
    return text.strip('"') or f"{item.size}-{item.changed}"
