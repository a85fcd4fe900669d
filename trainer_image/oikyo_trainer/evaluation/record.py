"""record.json: what a version is, where it comes from and how it was judged; the server trusts it.

Written once by `release`, read by the server, which checks every file against it. No torch in here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from oikyo.api.base import Digest, Report
from oikyo.api.jobstatus import GateResult
from oikyo.api.meta import Metric
from oikyo.api.tasks import Task
from oikyo.api.training import Truncation
from oikyo.api.workspace import HISTORY, RECORD

from ..errors import Refused
from ..files import file_digest
from .cut import Reading

CARD = "README.md"
NOT_THE_MODEL = frozenset({CARD, HISTORY, RECORD})
"""Files of a version that its digest does not cover."""


class RecordLineage(Report):
    """From what, with what and by what the result was made."""

    job: str
    job_uid: str
    run: str
    attempt: int
    input_digest: Digest
    """Of the evaluate stage: the same run and input find this version again."""
    base: str
    base_digest: Digest
    dataset_digest: Digest
    hyperparameters: tuple[Metric, ...] = ()
    seeds: dict[str, int] = Field(default_factory=dict)
    libraries: tuple[Metric, ...] = ()
    image: str = ""


class SliceScore(Report):
    """How good the model is on the test rows with one value of a column of data.sliceBy."""

    column: str
    value: str
    rows: int
    accuracy: str = ""
    """Of a classifier; empty otherwise."""
    loss: str = ""
    """Of a model that generates text, on an answer's token; empty otherwise."""
    low: str
    """Of the 95 % interval of the accuracy or loss; empty where one row cannot give it."""
    high: str
    baseline: str
    """The same of the base model on the same rows."""


class FoldRecord(Report):
    """One fold of a cross-validation: its model on its own rows."""

    rows: int
    metrics: tuple[Metric, ...]


class VersionRecord(Report):
    """One version of one model."""

    model: str
    version: int = 0
    """Its number; 0 until `release` has found a free one."""
    task: Task
    verdict: Literal["Accepted", "Rejected"]
    digest: str = ""
    """SHA-256 over the model's files, without the card and this record; filled in by `release`."""
    files: dict[str, str] = Field(default_factory=dict)
    """Relative name -> SHA-256 (hexadecimal) of each of the model's files; filled in by `release`."""
    max_length: int
    """Tokens after which training cut a row; a classifier cuts there too."""
    truncation: Truncation = "End"
    """What of a longer row was cut."""
    metrics: tuple[Metric, ...]
    baseline: tuple[Metric, ...]
    baseline_method: str
    """What "base" means in this comparison."""
    gates: tuple[GateResult, ...]
    training: tuple[Metric, ...] = ()
    """What the training measured of itself: losses, speed, memory."""
    rows: int
    """Test rows that were scored."""
    generated_rows: int = 0
    """Test rows for which an answer was generated."""
    slices: tuple[SliceScore, ...] = ()
    """Of data.sliceBy, the least accurate first, or those with the highest loss."""
    folds: tuple[FoldRecord, ...] = ()
    """Of a cross-validation; mean and spread stand in `metrics`."""
    forgetting: str = ""
    """What became of what the base knew, and what was done for it; empty without training.general."""
    lineage: RecordLineage
    created: str

    @property
    def reading(self) -> Reading:
        """How the version reads texts."""
        return Reading(self.max_length, self.truncation)


def read_record(folder: Path) -> VersionRecord | None:
    """The record of a version's folder; None when it is not there or unreadable."""
    try:
        return VersionRecord.model_validate_json((folder / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def model_files(folder: Path) -> dict[str, Path]:
    """Relative name -> path of each of the model's files."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path for name, path in named.items() if name not in NOT_THE_MODEL}


def verify(folder: Path) -> VersionRecord:
    """The record, after every file was compared with it; refuses one more, one less, one changed."""
    record = read_record(folder)
    if record is None:
        raise _tampered(folder, f"{RECORD} is missing or unreadable")
    present = {name: file_digest(path) for name, path in model_files(folder).items()}
    for name in sorted(present.keys() | record.files.keys()):
        if name not in present:
            raise _tampered(folder, f"{name} is missing")
        if name not in record.files:
            raise _tampered(folder, f"{name} is not in {RECORD}")
        if present[name] != record.files[name]:
            raise _tampered(folder, f"the SHA-256 of {name} is not the one in {RECORD}")
    return record


def _tampered(folder: Path, what: str) -> Refused:
    return Refused(
        "VersionDamaged",
        f"version {folder.parent.name}/{folder.name} is not what was released: {what}",
        evidence=f"{folder.parent.name}/{folder.name}",
        next_step="Restore the version's folder from a backup, or serve another version.",
    )
