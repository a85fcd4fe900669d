"""One stage, run by the contract: find an earlier result, else work; say the last words; exit.

Called by `__main__`. The stage functions know nothing of exit codes, files of results or HTTP.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.stages import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_RETRY,
    TERMINATION_LIMIT,
    EvaluateResult,
    Failure,
    LastWords,
    PrepareResult,
    RunSpec,
    TrainResult,
)

from .errors import Refused, Retry, StageFailed
from .files import write_atomic
from .progress import Reporter

log = logging.getLogger("oikyo.stage")

Result = PrepareResult | TrainResult | EvaluateResult
EXIT_CRASHED = 1


@dataclass(frozen=True)
class Context:
    """What a stage function gets beside its spec."""

    workspace: Path
    """Root of the workspace, an absolute path."""
    reporter: Reporter
    rank: int = 0
    world_size: int = 1

    def folder(self, spec: RunSpec) -> Path:
        """The stage's own folder, made if absent; shared by all attempts of the run."""
        folder = self.workspace / layout.stage(spec.run, spec.stage)
        folder.mkdir(parents=True, exist_ok=True)
        return folder


StageFunction = Callable[[Any, Context], Result]


def run_stage(
    spec: RunSpec, work: StageFunction, *, workspace: Path, port: int, termination_log: Path | None
) -> int:
    """Run `work` under the stage contract and return the exit code."""
    context = Context(
        workspace=workspace.resolve(),
        reporter=Reporter(spec.stage, spec.attempt, spec.run),
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
    )
    if context.rank == 0:
        context.reporter.serve(port)
    words = _last_words(spec, work, context)
    if context.rank == 0:
        _say(words, spec, context, termination_log)
    return _exit_code(words)


def _last_words(spec: RunSpec, work: StageFunction, context: Context) -> LastWords:
    digest = spec.input_digest()
    if (earlier := find_result(spec, context)) is not None:
        log.info("found the finished result of the same input: nothing to do")
        return earlier.model_copy(update={"attempt": spec.attempt})
    try:
        result = work(spec, context)
    except Exception as error:
        return LastWords(
            stage=spec.stage, attempt=spec.attempt, input_digest=digest, failure=_failure(error)
        )
    return LastWords(stage=spec.stage, attempt=spec.attempt, input_digest=digest, result=result)


def find_result(spec: RunSpec, context: Context) -> LastWords | None:
    """The finished result of the same input, if an earlier attempt left one."""
    path = context.workspace / layout.stage(spec.run, spec.stage) / layout.RESULT
    try:
        words = LastWords.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    same = words.result is not None and words.input_digest == spec.input_digest()
    return words if same else None


def _failure(error: Exception) -> Failure:
    if isinstance(error, StageFailed):
        kind = "Refused" if isinstance(error, Refused) else "Retry"
        log.error("%s: %s", error.reason, error.message)
        return Failure(
            kind=kind if isinstance(error, Refused | Retry) else "Crashed",
            reason=error.reason,
            message=error.message,
            evidence=error.evidence,
            next_step=error.next_step,
        )
    log.error("crashed", exc_info=error)
    tail = "".join(traceback.format_exception(error))[-1200:]
    message = f"{type(error).__name__}: {error}"[:600]
    return Failure(kind="Crashed", reason="StageCrashed", message=message, evidence=tail)


def _say(words: LastWords, spec: RunSpec, context: Context, termination_log: Path | None) -> None:
    if words.result is not None:
        write_atomic(context.folder(spec) / layout.RESULT, words.json_line())
    if termination_log is not None:
        termination_log.write_text(shorten(words), encoding="utf-8")


def shorten(words: LastWords) -> str:
    """JSON of at most TERMINATION_LIMIT bytes: long texts are cut, never the structure."""
    line = words.json_line()
    limit = 1000
    while len(line.encode()) > TERMINATION_LIMIT and limit > 20:
        limit //= 2
        line = _cut(words, limit).json_line()
    return line


def _cut(words: LastWords, limit: int) -> LastWords:
    def cut(value: Any) -> Any:
        if isinstance(value, str):
            return value if len(value) <= max(limit, 80) else value[: max(limit, 80) - 1] + "…"
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        return [cut(item) for item in value] if isinstance(value, list) else value

    return LastWords.model_validate(cut(words.wire()))


def _exit_code(words: LastWords) -> int:
    if words.failure is None:
        return EXIT_DONE
    return {"Refused": EXIT_REFUSED, "Retry": EXIT_RETRY}.get(words.failure.kind, EXIT_CRASHED)
