"""The last words of a stage: a failure put into the contract's form, and the termination log.

Every process of a pod may have words, the log has room for one: a result beats a failure, a refusal
beats a crash, anything beats "stopped", and among equals the first to speak is the cause.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import traceback
from pathlib import Path
from typing import Any

from oikyo.api.stages import (
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_RETRY,
    OUT_OF_MEMORY,
    TERMINATION_LIMIT,
    Failure,
    LastWords,
    RunSpec,
)

from .errors import Refused, Retry, StageFailed, Stopped, storage_fault

log = logging.getLogger("oikyo.stage")

EXIT_CRASHED = 1
STOPPED = "Stopped"
SHORTEST = 80
"""Characters that a shortened text keeps, as long as that fits."""


class Speaker:
    """Says the words of one stage process; a training's newest checkpoint is in all of them."""

    def __init__(self, spec: RunSpec, log_path: Path | None) -> None:
        self._path = log_path
        self._words = LastWords(
            stage=spec.stage, attempt=spec.attempt, input_digest=spec.input_digest()
        )

    def open(self) -> None:
        open_log(self._path)

    def remember(self, step: int) -> None:
        """Write down the step of a committed checkpoint: words that stay if the process is killed."""
        self._words = self._words.model_copy(update={"checkpoint_step": step})
        say(self._words, self._path)

    def say(self, words: LastWords) -> None:
        """Say how the stage ended."""
        step = self._words.checkpoint_step
        say(words.model_copy(update={"checkpoint_step": step}), self._path)

    def end(self, error: StageFailed) -> None:
        """End the process at once with these words; for when the main thread is stuck."""
        words = self._words.model_copy(update={"failure": failure_of(error)})
        say(words, self._path)
        os._exit(exit_code(words))


def failure_of(error: BaseException, workspace: Path | None = None) -> Failure:
    """Say `error` in the words of the contract; `workspace` is looked at where the storage failed."""
    if isinstance(error, Stopped | KeyboardInterrupt):
        log.info("stopped")
        return Failure(
            kind="Retry",
            reason=STOPPED,
            message="stopped",
            evidence=str(error),
            next_step="Nothing: the stage is run again and goes on where it was",
        )
    if not isinstance(error, StageFailed) and (fault := storage_fault(error, workspace)):
        error = fault
    if out_of_memory(error):
        error = Retry(
            OUT_OF_MEMORY,
            f"memory ran out: {str(error).splitlines()[0] if str(error) else 'MemoryError'}"[:400],
            evidence="".join(traceback.format_exception(error))[-1200:],
            next_step="Nothing: a training goes on from its checkpoint with less memory",
        )
    if isinstance(error, StageFailed):
        return _told(error)
    log.error("crashed", exc_info=error)
    tail = "".join(traceback.format_exception(error))[-1200:]
    message = f"{type(error).__name__}: {error}"[:600]
    return Failure(kind="Crashed", reason="StageCrashed", message=message, evidence=tail)


REFUSED_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory")
"""What torch says in a RuntimeError when it gets none; torch is not imported here to ask for its type."""


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that no more memory was to be had, of the host or of a GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(said in text for said in REFUSED_MEMORY)


def _told(error: StageFailed) -> Failure:
    log.error("%s: %s", error.reason, error.message)
    return Failure(
        kind="Refused"
        if isinstance(error, Refused)
        else "Retry"
        if isinstance(error, Retry)
        else "Crashed",
        reason=error.reason,
        message=error.message,
        evidence=error.evidence,
        next_step=error.next_step,
        findings=error.findings,
    )


def exit_code(words: LastWords) -> int:
    if words.failure is None:
        return EXIT_DONE
    return {"Refused": EXIT_REFUSED, "Retry": EXIT_RETRY}.get(words.failure.kind, EXIT_CRASHED)


def open_log(path: Path | None) -> None:
    """Empty the log of an earlier process: only what this run says may stand in it."""
    if path is not None:
        with contextlib.suppress(OSError):
            path.write_bytes(b"")


def say(words: LastWords, path: Path | None) -> None:
    """Leave the last words in the log, unless words of more weight are there already."""
    if path is None:
        return
    try:
        with path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            earlier = _earlier(file.read())
            interim = not words.spoken and _weight(earlier) <= 1 and not _behind(words, earlier)
            if interim or _weight(words) > _weight(earlier):
                file.truncate(0)
                file.write(shorten(words).encode())
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        # The exit code still says the kind; a stage must not crash over its own epitaph.
        log.warning("the termination log %s could not be written: %s", path, error)


def _earlier(body: bytes) -> LastWords | None:
    try:
        return LastWords.model_validate_json(body)
    except ValueError:
        return None


def _behind(words: LastWords, earlier: LastWords | None) -> bool:
    """Whether another process of the pod has told of a newer checkpoint."""
    known = earlier.checkpoint_step if earlier else None
    return known is not None and known > (words.checkpoint_step or 0)


def _weight(words: LastWords | None) -> int:
    if words is None:
        return 0
    if words.result is not None:
        return 6
    failure = words.failure
    if failure is None:
        return 1
    if failure.reason == STOPPED:
        return 2
    if failure.reason == OUT_OF_MEMORY:
        return 5  # the other processes of a gang crash because this one is gone
    return {"Retry": 3, "Crashed": 4, "Refused": 5}[failure.kind]


def shorten(words: LastWords) -> str:
    """JSON of at most TERMINATION_LIMIT bytes: long texts are cut, then long lists; never the form."""
    line = words.json_line()
    for text, items in (
        (500, 64),
        (250, 32),
        (120, 16),
        (SHORTEST, 8),
        (SHORTEST, 2),
        (24, 0),
    ):
        if len(line.encode()) <= TERMINATION_LIMIT:
            break
        line = LastWords.model_validate(_cut(words.wire(), text, items)).json_line()
    return line


def _cut(value: Any, text: int, items: int) -> Any:  # any JSON value
    if isinstance(value, str):
        # A digest or a date stays whole: cut, it would name something else.
        return value if len(value) <= max(text, SHORTEST) else value[: text - 1] + "…"
    if isinstance(value, dict):
        return {key: _cut(item, text, items) for key, item in value.items()}
    return [_cut(item, text, items) for item in value[:items]] if isinstance(value, list) else value
