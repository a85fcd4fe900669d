"""One stage, run by the contract: find an earlier result, else work; say the last words; exit.

Called by `__main__`. The stage functions know nothing of exit codes, files of results or HTTP.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from oikyo.api import workspace as layout
from oikyo.api.stages import (
    EvaluateResult,
    LastWords,
    PrepareResult,
    RunSpec,
    TrainResult,
)

from .attempt import check_attempt, claim_attempt
from .context import Context
from .errors import Stale, Stopped
from .files import write_atomic
from .progress import Reporter
from .words import Speaker, exit_code, failure_of, shorten

__all__ = [
    "Context",
    "check_attempt",
    "claim_attempt",
    "find_result",
    "run_stage",
    "shorten",
]

log = logging.getLogger("oikyo.stage")

Result = PrepareResult | TrainResult | EvaluateResult
# Any: each stage function takes its own kind of spec, chosen by the discriminator in `__main__`.
StageFunction = Callable[[Any, Context], Result]


def run_stage(
    spec: RunSpec,
    work: StageFunction,
    *,
    workspace: Path,
    port: int,
    termination_log: Path | None,
) -> int:
    """Run `work` under the stage contract and return the exit code."""
    speaker = Speaker(spec, termination_log)
    context = Context(
        workspace=workspace.resolve(),
        reporter=Reporter(spec.stage, spec.attempt, spec.run),
        rank=int(os.environ.get("RANK", "0")),
        world_size=int(os.environ.get("WORLD_SIZE", "1")),
        remember=speaker.remember,
        end=speaker.end,
    )
    if os.environ.get("LOCAL_RANK", "0") == "0":
        speaker.open()
    if context.rank == 0:
        context.reporter.serve(port)
    try:
        words = _run(spec, work, context)
    finally:
        context.reporter.close()
    # A result is rank 0's to tell; a failure is told by whoever had it, in the log of its own pod.
    if context.rank == 0 or words.failure is not None:
        speaker.say(words)
    return exit_code(words)


def _run(spec: RunSpec, work: StageFunction, context: Context) -> LastWords:
    words = LastWords(stage=spec.stage, attempt=spec.attempt, input_digest=spec.input_digest())
    try:
        with _stoppable():
            if (earlier := find_result(spec, context)) is not None:
                log.info("found the finished result of the same input: nothing to do")
                return earlier.model_copy(update={"attempt": spec.attempt})
            if context.rank == 0:
                claim_attempt(spec, context)
            words = words.model_copy(update={"result": work(spec, context)})
            if context.rank == 0:
                check_attempt(spec, context)
                write_atomic(context.folder(spec) / layout.RESULT, words.json_line())
            return words
    except (Exception, Stopped, KeyboardInterrupt) as error:
        failure = failure_of(_stale(spec, context) or error, context.workspace)
        return words.model_copy(update={"result": None, "failure": failure})


def _stale(spec: RunSpec, context: Context) -> Stale | None:
    """Whatever a worker met that was replaced meanwhile, that is the reason."""
    try:
        check_attempt(spec, context)
    except Stale as stale:
        return stale
    except OSError:
        return None
    return None


def find_result(spec: RunSpec, context: Context) -> LastWords | None:
    """The finished result of the same input, if an earlier attempt left one."""
    path = context.workspace / layout.stage(spec.run, spec.stage) / layout.RESULT
    try:
        words = LastWords.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    same = words.result is not None and words.input_digest == spec.input_digest()
    return words if same else None


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT end the stage at the next bytecode, with words; a second one changes nothing.

    A stage that must finish something first (a checkpoint) sets its own handler while it does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    told = False

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            raise Stopped(signal.Signals(number).name)

    earlier = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
