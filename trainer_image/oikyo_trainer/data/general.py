"""training.general: rows of what the base knew, prepared as a version and tokens of their own.

Called by the prepare stage, after the task's rows. The general rows go through the same recipe (examine.py);
what stands among the task's rows too, or holds a long run of words of its test side, is left out: a replayed
row never comes from the rows that judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from oikyo.api.checks import DataCheck, in_force
from oikyo.api.general import FEWEST, JUDGING, STEERING, General
from oikyo.api.jobstatus import Resolved
from oikyo.api.leakage import Leakage
from oikyo.api.split import Split
from oikyo.api.stages import GeneralRows, PrepareSpec

from ..errors import Refused
from . import remote, version
from .clean import log as cleaning
from .dedup import group
from .examine import Examined, examine
from .findings import FILE, Findings
from .insight.asked import LABEL_ERROR, OUTLIER
from .intake import Intake
from .leakage.quoted import known_of
from .leakage.search import Found, search
from .split import DROPPED, SIDES, TEST, TRAIN, VALIDATION
from .spool import Mask
from .tokenise import Request, tokenise

FIELD = "training.general"
QUIET = tuple(DataCheck(code=code, action="Ignore") for code in (LABEL_ERROR, OUTLIER))
"""What is not looked for: the general rows are to be what they are."""
TOO_FEW = frozenset({"NoTrainingRows", "ValidationTooSmall", "TestSplitTooSmall"})
"""Reasons of examine.py that say of general rows that they are too few."""


@dataclass(frozen=True)
class Prepared:
    """The general rows, checked and divided; not yet in the workspace."""

    version: version.Version
    data: Examined
    intake: Intake
    told: dict[str, Any]
    resolved: tuple[Resolved, ...]
    staging: Path

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return self.data.longest


def read_general(
    spec: PrepareSpec, task: Examined, staging: Path, model: Mapping[str, Path] | None
) -> Prepared | None:
    """The rows of training.general; None where none are asked for. `model` as for examine."""
    asked = spec.training.general if spec.training is not None else None
    if asked is None:
        return None
    staging.mkdir()
    with _named():
        sources, pinned = remote.local((spec.general, ()), staging)
        own = _spec_of(spec, asked)
        intake, told = Intake(Findings(in_force(QUIET))), dict[str, Any]()
        with (
            intake.findings.written(staging / FILE),
            intake.cleaned.written(staging / cleaning.FILE),
        ):
            data = examine(
                own,
                sources,
                staging=staging,
                intake=intake,
                told=told,
                tell=lambda share, so_far: None,
                model=model,
            )
        data, foreign = _apart(data, task, spec.leakage)
    counts = {name: int((data.sides == side).sum()) for side, name in enumerate(SIDES)}
    _check_counts(counts, foreign)
    told |= {"the_tasks_own": foreign, "parts": counts}
    made = version.plan(own.task, data.spool.shape, own.split.seed, data.rows, data.sides)
    found = (_resolved(counts, foreign), *(_of_general(one) for one in pinned))
    return Prepared(made, data, intake, told, found, staging)


def store_general(
    spec: PrepareSpec, prepared: Prepared, workspace: Path, model_digest: str
) -> GeneralRows:
    """Write the version of the general rows and its tokens, unless they are there."""
    assert spec.training is not None
    version.write(
        prepared.version,
        workspace=workspace,
        staging=prepared.staging / "dataset",
        spool=prepared.data.spool,
        rows=prepared.data.rows,
        intake=prepared.intake,
        report=prepared.told,
    )
    digest = prepared.version.digest
    asked = Request(spec.task, digest, model_digest, spec.training)
    with _named():
        tokens = tokenise(workspace, asked, prepared.staging / "tokens", lambda share: None)
        if not tokens.splits[SIDES[VALIDATION]].rows:
            raise Refused(
                "NoLabelledTokens",
                "in no row that is measured does a token of the answer stand within training.maxLength "
                f"{tokens.max_length}",
                next_step="Give shorter general rows, or raise training.maxLength",
            )
    prepared.told["tokens"] = tokens.report()
    return GeneralRows(dataset_digest=digest, tokens_digest=tokens.digest)


def _spec_of(spec: PrepareSpec, asked: General) -> PrepareSpec:
    """How the general rows are read: as the task's, less what is said of the task's alone."""
    return PrepareSpec(
        run=spec.run,
        attempt=spec.attempt,
        task=spec.task,
        model=spec.model,
        sources=spec.general,
        fields=asked.fields,
        split=Split(validation=STEERING, test=JUDGING, seed=spec.split.seed),
        min_test_rows=1,
        leakage=Leakage(ngram=spec.leakage.ngram, action="Remove"),
        max_length=spec.max_length,
        training=spec.training,
    )


def _apart(data: Examined, task: Examined, leakage: Leakage) -> tuple[Examined, int]:
    """`data` without rows that are the task's own; and how many these are."""
    own = _in_the_task(data, task)
    test = np.flatnonzero(task.sides == TEST)
    known = known_of(leakage.ngram, task.spool, task.rows, test)
    if len(known):
        found = Found(known)
        search([found], data.spool, data.rows, (data.sides >= 0) & ~own)
        own[found.rows] = True
    own &= data.sides >= 0
    sides = np.where(own, DROPPED, data.sides).astype(data.sides.dtype)
    return replace(data, sides=sides), int(own.sum())


def _in_the_task(data: Examined, task: Examined) -> Mask:
    """General rows whose input a row of the task has: both were hashed with one seed."""
    used = task.rows.inputs[task.sides >= 0]
    groups = group(np.concatenate([data.rows.inputs, used]))
    known = np.zeros(len(groups) + 1, dtype=bool)
    known[groups[len(data.rows) :]] = True
    return np.asarray(known[groups[: len(data.rows)]])


def _check_counts(counts: dict[str, int], foreign: int) -> None:
    if min(counts.values()) >= FEWEST:
        return
    told = ", ".join(f"{counts[SIDES[side]]} {word}" for side, word in _PARTS)
    own = f"; {foreign} more are the task's own rows and do not count" if foreign else ""
    raise Refused(
        "GeneralSetTooSmall",
        f"{FIELD} has {sum(counts.values())} rows to use ({told}){own}; each part needs {FEWEST}",
        next_step="Give more general rows, which no source of the task holds, or leave "
        f"{FIELD} out",
    )


_PARTS = (
    (TRAIN, "to replay"),
    (VALIDATION, "to measure while training"),
    (TEST, "for the verdict"),
)


def _resolved(counts: dict[str, int], foreign: int) -> Resolved:
    told = ", ".join(f"{counts[SIDES[side]]} {word}" for side, word in _PARTS)
    own = f"; {foreign} that are the task's own are left out" if foreign else ""
    return Resolved(name=FIELD, value=f"{sum(counts.values())} rows", reason=f"{told}{own}")


def _of_general(found: Resolved) -> Resolved:
    """What was pinned, under the name of its own field."""
    return found.model_copy(update={"name": found.name.replace("data.", f"{FIELD}.", 1)})


@contextmanager
def _named() -> Iterator[None]:
    """Say of a refusal that it is about the general rows."""
    try:
        yield
    except Refused as error:
        few = error.reason in TOO_FEW
        raise Refused(
            "GeneralSetTooSmall" if few else error.reason,
            f"{FIELD}: {error.message}",
            evidence=error.evidence,
            next_step=f"Give more general rows, or leave {FIELD} out" if few else error.next_step,
        ) from error
