"""Writing a version: versions/<model>/<n>/ with the model's files, its card and its record.

Accepted or rejected, a result is written: the record says which, and only an accepted one is served.
Idempotent: a version of the same run and input is found again. Two jobs of one model that release at
once get different numbers: the folder's rename decides, and the loser takes the next number.
"""

from __future__ import annotations

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
    """Write the files of `source` as the next version; returns the draft, number and digests in."""
    shelf = _shelf(workspace, draft.model)
    shelf.mkdir(parents=True, exist_ok=True)
    _sweep(shelf, draft.lineage.run)
    for _ in range(TRIES):
        staging = _staged(source, shelf, draft.lineage.run)
        try:
            number = max([min_version, *(taken + 1 for taken in _numbers(workspace, draft.model))])
            _keep_history(workspace, draft.lineage.run, staging)
            record = _described(staging, draft, number)
            if commit_folder(staging, workspace / layout.version(draft.model, number)):
                return record
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    raise Retry(
        "VersionTaken", f"{TRIES} version numbers of {draft.model} were taken while releasing"
    )


def _keep_history(workspace: Path, run: str, staging: Path) -> None:
    """The run's folder may be removed; the curve belongs to the result."""
    history = workspace / layout.stage(run, "train") / layout.HISTORY
    if history.exists():
        shutil.copyfile(history, staging / layout.HISTORY)


def _described(staging: Path, draft: VersionRecord, number: int) -> VersionRecord:
    """Write card and record beside the model's files."""
    files = model_files(staging)
    record = draft.model_copy(
        update={
            "version": number,
            "digest": folder_digest(staging, skip=NOT_THE_MODEL),
            "files": {name: file_digest(path) for name, path in files.items()},
        }
    )
    (staging / CARD).write_text(card(record), encoding="utf-8")
    body = record.model_dump_json(by_alias=True, indent=2)
    (staging / layout.RECORD).write_text(body + "\n", encoding="utf-8")
    return record


def _shelf(workspace: Path, model: str) -> Path:
    """The folder of all versions of a model."""
    return workspace / layout.version(model, 1).parent


def _numbers(workspace: Path, model: str) -> list[int]:
    shelf = _shelf(workspace, model)
    if not shelf.is_dir():
        return []
    return sorted(int(path.name) for path in shelf.iterdir() if path.name.isdecimal())


def _staged(source: Path, shelf: Path, run: str) -> Path:
    """A new folder with the model's files: linked, or copied where the file system does not link."""
    if not any(source.glob("*.safetensors")):
        raise Refused(
            "WeightsMissing",
            f"the training's result {source.parent.name}/{source.name} holds no .safetensors file",
            next_step="Apply the job under a new name to train it again.",
        )
    staging = Path(tempfile.mkdtemp(dir=shelf, prefix=_staging_prefix(run)))
    staging.chmod(0o755)  # mkdtemp's 0700 would lock out the server, which may be another user
    for path in sorted(source.rglob("*")):
        if path.is_file() and path.suffix in KEPT:
            target = staging / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)
    return staging


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _staging_prefix(run: str) -> str:
    return f".staging-{run}~"  # no name holds a tilde: another run's prefix never matches


def _sweep(shelf: Path, run: str) -> None:
    """Remove what a killed attempt of the same run left half-written."""
    for path in shelf.glob(_staging_prefix(run) + "*"):
        shutil.rmtree(path, ignore_errors=True)
