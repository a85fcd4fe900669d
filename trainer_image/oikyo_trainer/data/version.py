"""A version of the data: one folder, named by the digest of its rows, whole or absent.

The digest is over the rows and their sides alone: neither the order of the files nor their paths
change it. Rows lie in the order of their hash, so equal digests are equal files.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from oikyo.api import workspace as layout
from oikyo.api.tasks import Task

from ..errors import Retry
from ..files import Digested, commit_folder, file_digest, write_atomic
from ..numbers import Scale, scale_of
from . import card, croissant
from .augment.plan import METHODS
from .clean.log import FILE as CLEANED
from .columns import Shape
from .dedup import in_order_of
from .findings import FILE as FINDINGS
from .intake import Intake
from .lessons import Lessons
from .slicing import SliceColumns
from .split import SIDES, TRAIN, Sides
from .spool import Index, Rows, Spool
from .tables import Passing
from .threads import ahead

log = logging.getLogger("oikyo.data")

FORMAT = 1
AT_ONCE = 1 << 16
"""Hashes that are in memory at one time."""
OWN = frozenset({"id", "source", "text", "prompt", "completion", "chosen", "rejected"})
"""Columns of which each row has its own text: a dictionary of them is made in vain."""
REPORT = "report.json"
SYNTHETIC = "synthetic"
"""Column of a version with rows that data.augment made: by which method, null for a row of a source."""
NONE = Lessons()
Facts = dict[str, dict[str, Any]]
"""File -> its size and SHA-256."""


@dataclass(frozen=True)
class Version:
    """What is written: which rows on which side, in which order."""

    task: Task
    shape: Shape
    labels: tuple[str, ...]
    several: bool
    """Whether each of `labels` is a set of names (labelset)."""
    seed: int
    splits: tuple[Index, Index, Index]
    digest: str
    scale: Scale | None = None
    """Of the numbers of the training rows, where rows have one."""


def plan(
    task: Task,
    shape: Shape,
    seed: int,
    rows: Rows,
    sides: Sides,
    slices: SliceColumns | None = None,
    lessons: Lessons = NONE,
    *,
    several: bool = False,
) -> Version:
    """Order the rows of each side and digest them."""
    splits = tuple(_ordered(rows, np.flatnonzero(sides == side)) for side in range(len(SIDES)))
    used = np.unique(rows.label_codes[sides >= 0]) if rows.labels else ()
    digest = hashlib.sha256(f"oikyo-dataset {FORMAT}\n{task}\n{shape}\n".encode())
    if several:
        digest.update(b"several labels\n")
    for name, index in zip(SIDES, splits, strict=True):
        digest.update(f"{name} {len(index)}\n".encode())
        for start in range(0, len(index), AT_ONCE):
            digest.update(rows.exact[index[start : start + AT_ONCE]].tobytes())
        if slices is not None:
            digest.update(slices.content(index))
        if rows.synthetic is not None:
            digest.update(rows.synthetic[index].tobytes())
        digest.update(lessons.content(index))
    return Version(
        task=task,
        shape=shape,
        labels=tuple(sorted(rows.labels[code] for code in used)),
        several=several,
        seed=seed,
        splits=(splits[0], splits[1], splits[2]),
        digest="sha256:" + digest.hexdigest(),
        scale=None if rows.numbers is None else scale_of(rows.numbers[splits[TRAIN]]),
    )


def _ordered(rows: Rows, index: Index) -> Index:
    return index[in_order_of(rows.rows[index])]


def write(
    version: Version,
    *,
    workspace: Path,
    staging: Path,
    spool: Spool,
    rows: Rows,
    intake: Intake,
    report: dict[str, Any],
    lessons: Lessons = NONE,
    passing: Passing | None = None,
) -> bool:
    """Put the version into the workspace; False: the same one is there already.

    `passing` is shown every table as it is written.
    """
    target = workspace / layout.dataset(version.digest)
    if is_whole(target):
        log.info("dataset %s is there already", version.digest)
        return False
    staging.mkdir(parents=True)
    schema = _schema(spool, rows, intake, lessons)
    known = Facts()
    for name, index in zip(SIDES, version.splits, strict=True):
        tables = _tables(index, schema, spool, rows, intake, lessons)
        known |= _write_split(staging, name, schema, tables, passing)
    intake.findings.flush()
    intake.cleaned.flush()
    for name in (FINDINGS, CLEANED):
        shutil.copyfile(staging.parent / name, staging / name)
    write_atomic(staging / REPORT, pretty(report))
    write_atomic(
        staging / card.FILE,
        card.card(version.task, version.digest, version.seed, _counts(version), report),
    )
    files = describe(staging, known)
    told = croissant.croissant(version.task, version.digest, _counts(version), files, schema)
    write_atomic(staging / croissant.FILE, pretty(told))
    files[croissant.FILE] = _facts(staging / croissant.FILE)
    write_atomic(staging / layout.MANIFEST, pretty(_manifest(version, files)))
    replace_folder(staging, target)
    return True


def _write_split(
    folder: Path, name: str, schema: Any, tables: Iterable[Any], passing: Passing | None
) -> Facts:  # pyarrow is untyped
    with (
        Digested(folder / f"{name}.parquet") as file,
        pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            write_statistics=False,
            use_dictionary=[name for name in schema.names if name not in OWN],
        ) as writer,
    ):
        for table in tables:
            if passing is not None:
                passing.show(name, table)
            writer.write_table(table)
    return {file.name: file.facts()}


def passing(
    version: Version,
    workspace: Path,
    spool: Spool,
    rows: Rows,
    intake: Intake,
    lessons: Lessons = NONE,
) -> Passing:
    """For one who reads the tables of `version` while they are written."""
    folder, schema = (
        workspace / layout.dataset(version.digest),
        _schema(spool, rows, intake, lessons),
    )
    return Passing(folder, version.shape, version.labels, _counts(version), schema.names)


def replace_folder(staging: Path, target: Path) -> None:
    """Commit `staging`; a target that somebody damaged is moved out of the way first."""
    if target.exists() and not is_whole(target):
        os.rename(target, staging.with_name(f"{staging.name}-damaged"))
        shutil.rmtree(staging.with_name(f"{staging.name}-damaged"), ignore_errors=True)
    commit_folder(staging, target)
    if not is_whole(target):
        raise Retry("WorkspaceFault", f"{target} is not whole although it was just written")


def pretty(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _tables(
    index: Index, schema: Any, spool: Spool, rows: Rows, intake: Intake, lessons: Lessons
) -> Iterator[Any]:  # pyarrow is untyped
    files = pa.array([file.name for file in intake.files])

    def table(part: tuple[Index, Any]) -> Any:  # pyarrow is untyped
        piece, texts = part
        lines = pa.array(rows.lines[piece]).cast(pa.string())
        names = pc.binary_join_element_wise(files.take(pa.array(rows.files[piece])), lines, ":")
        beside = [] if rows.synthetic is None else [_marks(rows.synthetic[piece])]
        beside += intake.slices.columns(piece).values() if intake.slices else []
        beside += lessons.columns(piece)
        columns = [ids(rows.rows[piece]), names, *texts.columns, *beside]
        return pa.Table.from_arrays(columns, schema=schema)

    return ahead(map(table, spool.gather(index, rows.lengths)))  # one piece is compressed meanwhile


def ids(keys: npt.NDArray[np.uint64]) -> Any:  # pyarrow is untyped
    """The names of rows: their keys, given as (rows, 2) numbers, in hexadecimal digits."""
    octets = keys.astype(">u8").view(np.uint8).reshape(len(keys), 16)
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    text = np.empty((len(keys), 32), dtype=np.uint8)
    text[:, ::2], text[:, 1::2] = digits[octets >> 4], digits[octets & 15]
    bounds = np.arange(len(keys) + 1, dtype=np.int32) * np.int32(32)
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(bounds), pa.py_buffer(text))


def _schema(spool: Spool, rows: Rows, intake: Intake, lessons: Lessons) -> Any:
    own = [pa.field("id", pa.string()), pa.field("source", pa.string())]
    mark = [] if rows.synthetic is None else [pa.field(SYNTHETIC, pa.string())]
    slices = intake.slices.fields() if intake.slices else []
    return pa.schema([*own, *spool.schema, *mark, *slices, *lessons.fields()])


def _marks(codes: npt.NDArray[np.int8]) -> Any:  # pyarrow is untyped
    return pa.array([METHODS[code - 1] if code else None for code in codes.tolist()], pa.string())


def _manifest(version: Version, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    scale = {} if version.scale is None else {"scale": asdict(version.scale)}
    return {
        **scale,
        "format": FORMAT,
        "digest": version.digest,
        "task": version.task,
        "shape": version.shape,
        "labels": list(version.labels),
        "several": version.several,
        "seed": version.seed,
        "rows": _counts(version),
        "files": files,
    }


def _counts(version: Version) -> dict[str, int]:
    return {name: len(index) for name, index in zip(SIDES, version.splits, strict=True)}


def describe(folder: Path, known: Facts | None = None) -> Facts:
    """Size and SHA-256 of every file but the manifest itself; those that are `known` are not read."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    names.pop(layout.MANIFEST, None)
    return {name: (known or {}).get(name) or _facts(path) for name, path in names.items()}


def _facts(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": file_digest(path)}


def is_whole(folder: Path) -> bool:
    """Whether the manifest is there and every file that it names has its size."""
    try:
        files = json.loads((folder / layout.MANIFEST).read_bytes())["files"]
        return all((folder / name).stat().st_size == item["size"] for name, item in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
