"""Writing a version: versions/<model>/<n>/ with the model's files, its card and its record.

Accepted or rejected, a result is written: the record says which, and only an accepted one is served.
Idempotent: a version of the same run and input is found again. Two jobs of one model that release at
once get different numbers: the folder's rename decides, and the loser takes the next number.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from oikyo.api import workspace as layout

from ..errors import Refused, Retry
from ..files import commit_folder, file_digest, folder_digest
from .card import card
from .record import CARD, NOT_THE_MODEL, VersionRecord, model_files, read_record

KEPT = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja"})
"""Endings of files that a version keeps; above all no pickles."""
TRIES = 100


def find_version(workspace: Path, model: str, run: str, input_digest: str) -> VersionRecord | None:
    """The version that this very stage input already made, if it was killed after that."""
    for number in _numbers(workspace, model):
        record = read_record(workspace / layout.version(model, number))
        if record and (record.lineage.run, record.lineage.input_digest) == (run, input_digest):
            return record
    return None


def release(
    workspace: Path, source: Path, draft: VersionRecord, *, min_version: int
) -> VersionRecord:
    """Write the files of `source` as the next version; returns the draft with number and digests."""
    shelf = workspace / layout.version(draft.model, 1).parent
    shelf.mkdir(parents=True, exist_ok=True)
    _sweep(shelf, draft.lineage.run)
    staging = Path(tempfile.mkdtemp(dir=shelf, prefix=_staging_prefix(draft.lineage.run)))
    staging.chmod(0o755)  # mkdtemp's 0700 would lock out the server, which may be another user
    try:
        _copy(source, staging)
        whole = draft.model_copy(
            update={
                "digest": folder_digest(staging, skip=NOT_THE_MODEL),
                "files": {name: file_digest(path) for name, path in model_files(staging).items()},
            }
        )
        return _commit(workspace, staging, whole, min_version)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _commit(
    workspace: Path, staging: Path, record: VersionRecord, min_version: int
) -> VersionRecord:
    for _ in range(TRIES):
        number = max([min_version, *(n + 1 for n in _numbers(workspace, record.model))])
        numbered = record.model_copy(update={"version": number})
        (staging / CARD).write_text(card(numbered), encoding="utf-8")
        (staging / layout.RECORD).write_text(
            numbered.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8"
        )
        try:
            commit_folder(staging, workspace / layout.version(record.model, number))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            continue  # another job took this number between the look and the rename
        return numbered
    raise Retry(
        "VersionTaken", f"{TRIES} version numbers of {record.model} were taken while releasing"
    )


def _numbers(workspace: Path, model: str) -> list[int]:
    shelf = workspace / layout.version(model, 1).parent
    if not shelf.is_dir():
        return []
    return sorted(int(path.name) for path in shelf.iterdir() if path.name.isdecimal())


def _copy(source: Path, staging: Path) -> None:
    """Link the model's files, or copy them where the file system does not link."""
    if not any(source.glob("*.safetensors")):
        raise Refused(
            "WeightsMissing",
            f"the training's result {source.parent.name}/{source.name} holds no .safetensors file",
            next_step="Apply the job under a new name to train it again.",
        )
    for path in sorted(source.rglob("*")):
        if not path.is_file() or path.suffix not in KEPT:
            continue
        target = staging / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)


def _staging_prefix(run: str) -> str:
    return f".staging-{run}-"


def _sweep(shelf: Path, run: str) -> None:
    """Remove what a killed attempt of the same run left half-written."""
    for path in shelf.glob(_staging_prefix(run) + "*"):
        shutil.rmtree(path, ignore_errors=True)
