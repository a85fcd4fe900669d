"""The prepare stage: read, check, clean, split; fetch and check the base model. CPU only.

Everything a training could stumble over is said here, before a GPU is asked for. What is done with
the rows stands in examine.py; here they become a version.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import MemoryPlan, PrepareResult, PrepareSpec

from ..attempt import check_attempt
from ..context import Context
from ..errors import Refused
from ..files import write_atomic
from ..labelset import all_names
from ..planning.road import check_latency, check_serving, fit
from ..training.hyperparameters import memory_choices
from . import fewshot, judge, models, remote, report, version
from .clean import log as cleaning
from .examine import Examined, examine
from .findings import FILE, Findings
from .general import read_general, store_general
from .intake import Intake, Tell
from .listing import for_status, groups
from .page.page import PAGE, render
from .split import SIDES, TEST, TRAIN, VALIDATION
from .tables import Passing
from .tokenise import Request, Tokens, tokenise

log = logging.getLogger("oikyo.data")

READ, STORED = 50.0, 65.0
"""Percent of the stage after which the rows are read and the model is kept."""


def prepare(spec: PrepareSpec, context: Context) -> PrepareResult:
    """Make the dataset version and the base model that the later stages of the run read."""
    intake = Intake(Findings(judge.checks(spec)))
    with _staging(spec, context) as staging, _reported(spec, context, intake, staging) as told:
        base = models.find(spec.model, context.workspace)
        sources, pinned = remote.local((spec.sources, spec.test_sources), staging)
        data = examine(
            remote.with_benchmarks(spec, staging, pinned),
            sources,
            staging=staging,
            intake=intake,
            told=told,
            tell=_tell_rows(context),
            model=base.files,
            at_a_glance=True,
        )
        general = read_general(spec, data, staging / "general", base.files)
        if spec.augment is not None:
            from .augment.augment import augment  # asyncio, which no other row needs

            data, told["augment"] = augment(
                spec, spec.augment, data, intake.slices, staging, context.workspace
            )
        memory, foreseen = _foreseen(
            spec, base, max(data.longest, general.longest if general else 0)
        )
        rows, sides = data.rows, data.sides
        made = version.plan(
            spec.task,
            data.spool.shape,
            spec.split.seed,
            rows,
            sides,
            intake.slices,
            data.lessons,
            several=intake.several,
        )
        model = models.store(base, context.workspace, staging / "model", _tell_model(context))
        check_attempt(spec, context)
        written, tokens = _written(spec, context, made, model, data, intake, told, staging)
        if spec.few_shot is not None:
            examples = fewshot.store(context.workspace, made.digest, spec.few_shot)
            told["few_shot"] = {**spec.few_shot.wire(), "chosen": len(examples.examples)}
        resolved = (*intake.resolved.values(), *pinned, *base.resolved, *foreseen)
        result = _result(spec, made, model, data, intake, resolved, unchanged=not written)
        if general is not None:
            stored = store_general(spec, general, context.workspace, model)
            told["general"] = general.told
            resolved += general.resolved
            result = result.model_copy(update={"general": stored})
        context.reporter.update(percentage=99)
        if tokens is None:
            return result
        told["tokens"] = tokens.report()
        update = {
            "memory": memory,
            "tokens_digest": tokens.digest,
            "resolved": (*resolved, tokens.resolved()),
        }
        return result.model_copy(update=update)


def _written(
    spec: PrepareSpec,
    context: Context,
    made: version.Version,
    model: str,
    data: Examined,
    intake: Intake,
    told: dict[str, Any],
    staging: Path,
) -> tuple[bool, Tokens | None]:
    """Write the version, unless it is there (False), and its rows as tokens, both at the same time."""
    rows = (data.spool, data.rows, intake, data.lessons)
    passing, whole = version.passing(made, context.workspace, *rows), False
    with ThreadPoolExecutor(1, thread_name_prefix="tokens") as pool:
        asked = (spec, made.digest, model, context, staging / "tokens", passing)
        tokens = pool.submit(_tokenised, *asked)
        try:
            written = version.write(
                made,
                workspace=context.workspace,
                staging=staging / "dataset",
                spool=data.spool,
                rows=data.rows,
                intake=intake,
                report=told,
                lessons=data.lessons,
                passing=passing,
            )
            whole = True
        finally:
            passing.close(whole=whole)
        return written, tokens.result()


def _tokenised(
    spec: PrepareSpec, dataset: str, model: str, context: Context, staging: Path, passing: Passing
) -> Tokens | None:
    """The rows as tokens of the model, where something is to be trained."""

    def tell(share: float) -> None:
        context.reporter.update(percentage=STORED + (99 - STORED) * share)

    try:
        if spec.training is None:
            return None
        asked = Request(spec.task, dataset, model, spec.training)
        return tokenise(context.workspace, asked, staging, tell, passing)
    finally:
        passing.leave()


def _foreseen(
    spec: PrepareSpec, base: models.BaseModel, longest: int
) -> tuple[MemoryPlan | None, tuple[Resolved, ...]]:
    """How training and server will fit, and what a person reads of it; Refused, before anything is
    copied, where they cannot."""
    if spec.training is None:
        return None, ()
    folder = base.files["config.json"].parent
    memory = fit(spec.training, spec.task, folder, longest)
    if spec.serving_memory:
        check_serving(spec.serving_memory, spec.training, spec.task, folder)
    log.info("training.microBatchSize=%d (%s)", memory.micro_batch_size, memory.reason)
    told = memory_choices(memory)
    if spec.latency is not None:
        told += check_latency(spec.latency, spec.training, spec.task, folder)
    return memory, told


def _tell_rows(context: Context) -> Tell:
    def tell(share: float, so_far: Intake) -> None:
        context.reporter.update(
            percentage=share * READ, rows=so_far.rows, bad_rows=so_far.findings.bad
        )

    return tell


def _tell_model(context: Context) -> models.Tell:
    return lambda share: context.reporter.update(percentage=READ + (STORED - READ) * share)


@contextmanager
def _staging(spec: PrepareSpec, context: Context) -> Iterator[Path]:
    """A folder beside the versions, on the same file system; what an earlier attempt left goes."""
    parent = context.workspace / "datasets"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".staging-{spec.run}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = parent / f".staging-{spec.run}-{spec.attempt}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _reported(
    spec: PrepareSpec, context: Context, intake: Intake, staging: Path
) -> Iterator[dict[str, Any]]:
    """Leave report and findings in the stage's folder, above all when the data is refused."""
    told: dict[str, Any] = {}
    found = staging / FILE
    cleaned = staging / cleaning.FILE
    with intake.findings.written(found), intake.cleaned.written(cleaned):
        try:
            yield told
        except Refused as error:
            error.findings = for_status(groups(intake, spec.max_bad_rows))
            intake.findings.flush()
            intake.cleaned.flush()
            whole = {**report.of_intake(intake), **told, "refused": report.refusal(error)}
            _tell(spec, context, whole, found, cleaned)
            raise
    _tell(spec, context, told, found, cleaned)


def _tell(spec: PrepareSpec, context: Context, told: dict[str, Any], *files: Path) -> None:
    check_attempt(spec, context)
    for file in files:
        os.replace(file, context.folder(spec) / file.name)
    write_atomic(context.folder(spec) / version.REPORT, version.pretty(told))
    write_atomic(context.folder(spec) / PAGE, render(spec.run, told, {}))


def _result(
    spec: PrepareSpec,
    made: version.Version,
    model: str,
    data: Examined,
    intake: Intake,
    resolved: tuple[Resolved, ...],
    *,
    unchanged: bool,
) -> PrepareResult:
    kept = data.kept
    counts = {name: int((data.sides == side).sum()) for side, name in enumerate(SIDES)}
    log.info(
        "prepared %s: %s; %d duplicates, %d leaked, %d bad",
        made.digest,
        ", ".join(f"{count} {name}" for name, count in counts.items()),
        kept.duplicate.sum(),
        kept.leaked.sum(),
        intake.findings.bad,
    )
    return PrepareResult(
        dataset_digest=made.digest,
        model_digest=model,
        unchanged=unchanged,
        train=counts[SIDES[TRAIN]],
        validation=counts[SIDES[VALIDATION]],
        test=counts[SIDES[TEST]],
        duplicates=int(kept.duplicate.sum()),
        bad_rows=intake.findings.bad,
        cleaned=intake.cleaned.steps(),
        findings=for_status(groups(intake, spec.max_bad_rows)),
        leaked=int(kept.leaked.sum()),
        synthetic=0
        if data.rows.synthetic is None
        else int((data.rows.synthetic[data.sides >= 0] > 0).sum()),
        num_labels=len(all_names(made.labels) if made.several else made.labels),
        columns=dict(intake.columns.names) if intake.columns else {},
        resolved=resolved,
    )
