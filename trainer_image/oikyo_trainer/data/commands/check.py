"""Check data files as the prepare stage does, and write no version.

  oikyo data check tickets.jsonl
  oikyo data check train.csv --test test.csv --model models/minilm --checks label-typo=Warn
  oikyo data check train.jsonl --against gsm8k=benchmarks/gsm8k.jsonl
  oikyo data check chats/ --json -o findings.jsonl
  oikyo data check s3://bucket/tickets/*.jsonl
  oikyo data check job.yaml --claim datasets=./data

A job says itself what to read and what to check; then data.augment is planned and the rows of training.general
are read too, and no endpoint is asked. Of the options below count --model, --examples, --json and -o.
Prints what is wrong, the worst first, each with file, line and what to do. Exit code 0: a training may
start; 64: the data would be refused. Writes nothing but FINDINGS; the rows wait in $TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from oikyo.api.checks import DataCheck
from oikyo.api.duplicates import Duplicates
from oikyo.api.leakage import Leakage
from oikyo.api.split import Split
from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED, BenchmarkSource, PrepareSpec, Source
from oikyo.api.tasks import Task

from ...errors import Refused
from .. import judge, remote
from ..checks import check_bad_rows
from ..clean.settings import add_steps, settings
from ..examine import examine
from ..findings import FILE, Findings
from ..guess import Guess, guess
from ..intake import Intake
from ..listing import Group, groups, page
from ..model_files import check_model
from . import beyond, reading
from .reading import pair, source_of, usage

EVERY = 1_000_000
"""Bad rows that are read over, so that all are told; --max-bad-rows judges them at the end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="file or folder of files; also s3:// and hf://"
    )
    parser.add_argument("--spec", type=Path, help=argparse.SUPPRESS)  # of a job, by `oikyo data`
    parser.add_argument(
        "--test", nargs="+", default=[], metavar="FILE", help="the hold-out test set"
    )
    reading.add_arguments(parser)
    parser.add_argument("--model", type=Path, metavar="DIR", help="base model: checks the lengths")
    parser.add_argument("--max-length", type=int, default=512, help="training.maxLength (512)")
    parser.add_argument("--max-bad-rows", type=int, default=0, help="data.maxBadRows (0)")
    parser.add_argument("--min-test-rows", type=int, default=20, help="data.minTestRows (20)")
    parser.add_argument(
        "--near", choices=("Ignore", "Warn", "Remove"), help="data.duplicates.near (Warn)"
    )
    parser.add_argument(
        "--similarity", metavar="SHARE", help="data.duplicates.similarity, 0.5 to 0.99 (0.8)"
    )
    parser.add_argument("--ngram", type=int, help="data.leakage.ngram, 5 to 64 (13)")
    parser.add_argument(
        "--leakage", choices=("Ignore", "Warn", "Remove"), help="data.leakage.action (Warn)"
    )
    parser.add_argument(
        "--against",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="a benchmark that training must not contain; as data.contamination",
    )
    parser.add_argument("--group-by", metavar="COLUMN", help="data.split.groupBy")
    parser.add_argument("--time-by", metavar="COLUMN", help="data.split.timeBy")
    parser.add_argument("--stratify", action="store_true", help="data.split.stratify")
    parser.add_argument(
        "--slice-by", default="", metavar="COLUMNS", help="data.sliceBy, with commas"
    )
    parser.add_argument("--seed", type=int, default=42, help="data.split.seed (42)")
    parser.add_argument(
        "--checks",
        nargs="+",
        action="extend",
        default=[],
        metavar="CODE=ACTION[:MAX]",
        help="Ignore, Warn or Fail, and the share of rows that may be found; as data.checks",
    )
    add_steps(parser, "--clean")
    parser.add_argument(
        "--examples", type=int, default=3, metavar="N", help="findings shown of each code (3)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FINDINGS", help="all findings as JSON Lines"
    )


def run(arguments: argparse.Namespace) -> int:
    if bool(arguments.files) == bool(arguments.spec):
        raise usage("what to check is not said; name a FILE or a JOB.yaml")
    with tempfile.TemporaryDirectory(prefix="oikyo-") as scratch:
        asked = _of_job if arguments.spec else _of_files
        return _run(arguments, *asked(arguments, Path(scratch)), Path(scratch))


def _of_job(arguments: argparse.Namespace, staging: Path) -> tuple[Guess, PrepareSpec]:
    """What the prepare stage of a job would be told, its sources fetched."""
    spec = PrepareSpec.model_validate_json(arguments.spec.read_bytes())
    (sources, tests), pinned = remote.local((spec.sources, spec.test_sources), staging)
    spec = spec.model_copy(update={"sources": sources, "test_sources": tests})
    guessed = Guess(spec.task, "the job says so", spec.fields, spec.objective)
    return guessed, remote.with_benchmarks(spec, staging, pinned)


def _of_files(arguments: argparse.Namespace, staging: Path) -> tuple[Guess, PrepareSpec]:
    said = reading.said(arguments)
    named = tuple(source_of(name, said.format) for name in arguments.files)
    tests = tuple(source_of(name, said.format) for name in arguments.test)
    (sources, tests), pinned = remote.local((named, tests), staging)
    guessed = guess(sources[0], said)
    spec = _spec(arguments, sources, tests, guessed)
    return guessed, remote.with_benchmarks(spec, staging, pinned)


def _run(arguments: argparse.Namespace, guessed: Guess, spec: PrepareSpec, staging: Path) -> int:
    intake = Intake(Findings(judge.checks(spec)))
    told: dict[str, Any] = {}
    refused = _examine(arguments, spec, staging, intake, told)
    found = groups(intake, spec.max_bad_rows)
    if arguments.json:
        report = _report(guessed, intake, told, found, refused)
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return EXIT_REFUSED if refused else EXIT_DONE
    if refused is None or intake.rows:
        print(page(guessed, intake, told, found, arguments.examples), end="")
    print("".join(f"{line}\n" for line in beyond.lines(spec, told)), end="")
    if refused is None and _model(arguments, spec) is None:
        print("lengths were not checked: name the base model with --model DIR")
    if refused is not None:
        sys.stdout.flush()
        raise refused
    print("nothing refuses a training on this data")
    return EXIT_DONE


def _examine(
    arguments: argparse.Namespace,
    spec: PrepareSpec,
    staging: Path,
    intake: Intake,
    told: dict[str, Any],
) -> Refused | None:
    """Why the data would be refused, if it would; `intake` and `told` have all that was found."""
    folder = _model(arguments, spec)
    files = None if folder is None else check_model(folder.resolve(), str(folder))
    try:
        with intake.findings.written(staging / FILE):
            data = examine(
                spec.model_copy(update={"max_bad_rows": EVERY}),
                (spec.sources, spec.test_sources),
                staging=staging,
                intake=intake,
                told=told,
                tell=_tell,
                model=files,
            )
            check_bad_rows(intake.findings, spec.max_bad_rows)
            beyond.check(spec, data, staging, files, told)
    except Refused as error:
        return error
    finally:
        if arguments.output is not None:
            shutil.copyfile(staging / FILE, arguments.output)
    return None


def _model(arguments: argparse.Namespace, spec: PrepareSpec) -> Path | None:
    """The folder of the base model, where it is on this machine."""
    given: Path | None = arguments.model or (Path(spec.model.path) if spec.model.path else None)
    if given is not None and not given.is_dir():
        raise Refused("InvalidModel", f"{given} is no folder", next_step="Name one with --model")
    return given


def _tell(share: float, intake: Intake) -> None:
    if sys.stderr.isatty():
        end = "\r" if share < 1 else "\r\033[K"
        print(f"{share:4.0%} read, {intake.rows} rows", end=end, file=sys.stderr, flush=True)


def _checks(given: list[str]) -> tuple[DataCheck, ...]:
    return tuple(_check(*pair(item, "--checks", "CODE=ACTION[:MAX]")) for item in given)


def _check(code: str, setting: str) -> DataCheck:
    action, _, most = setting.partition(":")
    try:
        return DataCheck.model_validate({"code": code, "action": action, "max": most or None})
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise usage(f"--checks {code}={setting}: {message}") from None


def _split(arguments: argparse.Namespace, task: Task) -> Split:
    columns = {"group_by": arguments.group_by, "time_by": arguments.time_by}
    for name, column in columns.items():
        if column is not None and not 0 < len(column) <= 256:
            option = name.replace("_", "-")
            raise usage(f"--{option} names no column; write 1 to 256 characters")
    if arguments.stratify and task != "TextClassification":
        raise usage(f"--stratify gives each class its share, and {task} has no classes")
    ways = [name for name, given in (*columns.items(), ("", arguments.stratify)) if given]
    if len(ways) > 1:
        raise usage("--group-by, --time-by and --stratify divide rows in three ways; write one")
    return Split(seed=arguments.seed, stratify=arguments.stratify, **columns)


def _duplicates(near: str | None, similarity: str | None) -> Duplicates:
    given = {"near": near, "similarity": similarity}
    try:
        return Duplicates.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError:
        message = f"--similarity is {similarity!r}; write a share from 0.5 to 0.99, for example 0.8"
        raise usage(message) from None


def _leakage(ngram: int | None, action: str | None) -> Leakage:
    given = {"ngram": ngram, "action": action}
    try:
        return Leakage.model_validate({k: v for k, v in given.items() if v is not None})
    except ValidationError:
        raise usage(f"--ngram is {ngram}; write a number of words from 5 to 64") from None


def _benchmarks(given: list[str]) -> tuple[BenchmarkSource, ...]:
    pairs = [pair(item, "--against", "NAME=FILE") for item in given]
    return tuple(BenchmarkSource(name=name, **source_of(file).model_dump()) for name, file in pairs)


def _spec(
    arguments: argparse.Namespace,
    sources: tuple[Source, ...],
    tests: tuple[Source, ...],
    guessed: Guess,
) -> PrepareSpec:
    return PrepareSpec(
        run="check",
        task=guessed.task,
        objective=guessed.objective,
        model=Source(uri=str(arguments.model or "")),
        sources=sources,
        test_sources=tests,
        fields=guessed.fields,
        split=_split(arguments, guessed.task),
        max_bad_rows=arguments.max_bad_rows,
        min_test_rows=arguments.min_test_rows,
        checks=_checks(arguments.checks),
        slice_by=tuple(name for name in arguments.slice_by.split(",") if name),
        clean=settings(arguments.clean, "--clean"),
        duplicates=_duplicates(arguments.near, arguments.similarity),
        leakage=_leakage(arguments.ngram, arguments.leakage),
        contamination=_benchmarks(arguments.against),
        max_length=arguments.max_length,
    )


def _report(
    guessed: Guess,
    intake: Intake,
    told: dict[str, Any],
    found: list[Group],
    refused: Refused | None,
) -> dict[str, Any]:
    why = None
    if refused is not None:
        why = {"reason": refused.reason, "message": refused.message, "nextStep": refused.next_step}
    return {
        "task": guessed.task,
        "objective": guessed.objective,
        "taskReason": guessed.reason,
        "rows": intake.rows,
        "files": [vars(file) for file in intake.files],
        "resolved": [item.model_dump() for item in intake.resolved.values()],
        "findings": [group.report() for group in found],
        "duplicates": told.get("duplicates", {}).get("count", 0),
        "leaked": told.get("leaked", {}).get("count", 0),
        "cleaned": intake.cleaned.report(),
        "nearDuplicates": told.get("near_duplicates"),
        "ngramLeaks": told.get("ngram_leaks"),
        "validationLeaks": told.get("validation_leaks"),
        "contamination": told.get("contamination", []),
        "splits": {name: side["rows"] for name, side in told.get("splits", {}).items()},
        "augment": told.get("augment"),
        "general": told.get("general"),
        "refused": why,
    }
