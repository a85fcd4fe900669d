"""A file, a folder or a prepared version, opened for the statistics; `oikyo data` verbs call it."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from oikyo.api import workspace as layout
from oikyo.api.checks import in_force
from oikyo.api.split import Split
from oikyo.api.stages import PrepareSpec, Source

from ...errors import Refused
from .. import conflicts, judge, report
from ..checks import check_answers, check_some
from ..dedup import dedup
from ..findings import Findings
from ..guess import Guess, Said, guess
from ..intake import Intake, take_in
from ..sources import here
from ..split import assign
from ..spool import SPOOL, Rows
from .table import ROWS, Table, of_rows, of_version


@dataclass(frozen=True)
class Opened:
    """What is known of a file or version before the statistics."""

    name: str
    table: Table
    report: dict[str, Any]  # JSON, as report.json has it
    manifest: dict[str, Any]  # JSON; empty for a file
    refused: Refused | None = None
    """Why a training would refuse the answers of these rows; a person may look at them all the same."""


def is_version(path: Path) -> bool:
    """Whether `path` is the folder of a prepared version."""
    return (path / layout.MANIFEST).is_file()


def open_data(
    path: Path, said: Said | None = None, limit: int = ROWS, *, made: bool = False
) -> Opened:
    """Open `path`; what is not said is told from its first rows. Raises Refused.

    With `made`, synthetic rows of a version are among its rows.
    """
    if is_version(path):
        return _version(path, limit, made=made)
    said = said or Said()
    source = here(path, said.format)
    return _file(path, _spec(source, guess(source, said)), limit)


def _version(folder: Path, limit: int, *, made: bool) -> Opened:
    manifest = json.loads((folder / layout.MANIFEST).read_bytes())
    told = json.loads((folder / "report.json").read_bytes())
    return Opened(folder.name, of_version(folder, limit, made=made), told, manifest)


def _spec(source: Source, guessed: Guess) -> PrepareSpec:
    return PrepareSpec(
        run="desk",
        task=guessed.task,
        objective=guessed.objective,
        model=Source(uri=""),
        sources=(source,),
        fields=guessed.fields,
        split=Split(),
    )


def _file(path: Path, spec: PrepareSpec, limit: int) -> Opened:
    intake = Intake(Findings(in_force(())))
    with tempfile.TemporaryDirectory(prefix="oikyo-") as folder:
        at = Path(folder) / SPOOL
        spool = take_in(spec, spec.sources, (), spool=at, intake=intake, tell=lambda *_: None)
        rows = spool.columns()
        check_some(intake)
        given_test = np.zeros(len(rows), dtype=bool)
        kept = dedup(rows, given_test)
        sides = assign(rows, kept, given_test, spec.split, several=intake.several)
        conflicts.check(intake, rows, kept)
        judged = judge.judge(intake.findings, len(rows))
        told = report.of_rows(intake, rows, kept, sides, judged)
        refused = _refused(intake, rows)
        if refused is not None:
            told["refused"] = report.refusal(refused)
        return Opened(path.name, of_rows(intake, rows, sides, spool, limit), told, {}, refused)


def _refused(intake: Intake, rows: Rows) -> Refused | None:
    try:
        check_answers(intake, rows)
    except Refused as error:
        return error
    return None
