"""Stages as local processes: start them, see how they are, stop them.

Everything that matters is in `.oikyo/attempts`; an `oikyo` that died is followed by one that finds
its processes still running, or ended with last words, or gone.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote

from pydantic import ValidationError

from oikyo.api.stages import (
    ADDRESS_VARIABLE,
    EXIT_DONE,
    EXIT_REFUSED,
    EXIT_RETRY,
    LastWords,
    StageProgress,
)
from oikyo.controller.conditions import parse, timestamp
from oikyo.controller.observed import StagePlan, StageRun, Worker, WorkerState

from .home import Home, write_atomic
from .launch import Plain, Warm, signal_group, signal_one
from .records import SPEC, WORDS, ProcessRecord, birth_of, load_records, memory_kills

LOOPBACK = "127.0.0.1"
"""Where stages and servers listen unless told otherwise: a desktop's neighbours are strangers."""
GRACE = timedelta(seconds=60)
"""From the request to end until the process is killed: time to write a checkpoint."""
EXIT_OF_KIND = {"Refused": EXIT_REFUSED, "Retry": EXIT_RETRY, "Crashed": 1}
WARM_STAGES = frozenset({"train", "evaluate"})


class Processes:
    """The stage processes of one home."""

    def __init__(self, home: Home, *, warm: bool = True, environment: Mapping[str, str]) -> None:
        self._home = home
        self._environment = dict(environment)
        self._plain = Plain()
        self._warm: Warm | None = None
        self._want_warm = warm
        self._progress: dict[int, StageProgress] = {}

    # ------------------------------------------------------------------ start

    def start(self, plan: StagePlan) -> None:
        """Start one attempt of one stage."""
        spec = plan.spec
        folder = self._home.attempts(spec.run) / f"{spec.stage}-{spec.attempt}"
        log = self._home.log(spec.run, spec.stage, spec.attempt)
        log.parent.mkdir(parents=True, exist_ok=True)
        self._home.workspace.mkdir(parents=True, exist_ok=True)
        (folder / WORDS).unlink(missing_ok=True)
        write_atomic(folder / SPEC, spec.json_line() + "\n")
        port, gang, kills = free_port(), plan.nodes * plan.processes, memory_kills()
        arguments = self._arguments(spec.stage, folder, port)
        pid = self._launch(spec.stage, arguments, gang, log)
        ProcessRecord(
            run=spec.run,
            stage=spec.stage,
            attempt=spec.attempt,
            spec_digest=spec.input_digest(),
            pid=pid,
            birth=birth_of(pid) or "",
            port=port,
            started=timestamp(datetime.now(UTC)),
            gang=gang > 1,
            kills=kills,
        ).save(self._home)

    def _arguments(self, stage: str, folder: Path, port: int) -> list[str]:
        return [
            stage,
            *("--spec", str(folder / SPEC)),
            *("--workspace", str(self._home.workspace)),
            *("--port", str(port)),
            *("--termination-log", str(folder / WORDS)),
        ]

    def _launch(self, stage: str, arguments: list[str], gang: int, log: Path) -> int:
        if gang == 1 and self._want_warm:
            if stage in WARM_STAGES and self._warm is not None:
                pid = self._warm.start(arguments, log)
                if pid is not None:
                    return pid
            elif self._warm is None:
                # Imports while this stage runs, so that the next one need not.
                self._warm = Warm(self._home.root / "logs" / "warm.log", self._environment)
        python = [sys.executable, "-m"]
        if gang > 1:
            python += ["torch.distributed.run", "--standalone", f"--nproc-per-node={gang}", "-m"]
        return self._plain.start([*python, "oikyo_trainer", *arguments], log, self._environment)

    # ---------------------------------------------------------------- observe

    def observe(self, run: str) -> tuple[StageRun, ...]:
        """Every attempt of a run, as it is now."""
        return tuple(self._observe(record) for record in load_records(self._home, run))

    def _observe(self, record: ProcessRecord) -> StageRun:
        if record.finished is None:
            record = self._settle(record)
        said = record.words(self._home) if record.finished is not None else None
        words = said if said and said.spoken else None
        ended_well = (
            record.exit_code == EXIT_DONE and words is not None and words.result is not None
        )
        state: WorkerState = "Running"
        if record.finished is not None:
            state = "Succeeded" if ended_well else "Failed"
        reason, message = _why(record, words) if state == "Failed" else ("", "")
        worker = Worker(
            name=f"process {record.pid}",
            rank=0,
            state=state,
            exit_code=record.exit_code,
            reason=reason,
            message=message,
            words=words,
            checkpoint_step=said.checkpoint_step if said else None,
            log=f"less {quote(str(self._home.log(record.run, record.stage, record.attempt)))}",
        )
        return StageRun(
            stage=record.stage,
            attempt=record.attempt,
            state=state,
            workers=(worker,),
            progress=self._poll(record) if record.finished is None else None,
            words=words,
            started=parse(record.started),
            finished=parse(record.finished) if record.finished else None,
            spec_digest=record.spec_digest,
        )

    def _settle(self, record: ProcessRecord) -> ProcessRecord:
        """Write down that a process has ended, once."""
        code = self._plain.exit_code(record.pid)
        if code is None and self._warm is not None:
            code = self._warm.exit_code(record.pid)
        if code is None and record.birth and birth_of(record.pid) == record.birth:
            return self._enforce(record)
        words = record.words(self._home)
        if words is not None and words.spoken and (code is None or record.gang):
            # torchrun turns every rank's failure into 1; and nobody reaped the child of a dead oikyo.
            failure = words.failure
            code = EXIT_DONE if failure is None else EXIT_OF_KIND[failure.kind]
        if code is not None and code < 0:
            code = 128 - code
        silent = words is None or words.failure is None
        killed = code == 128 + signal.SIGKILL or (record.gang and code not in (None, EXIT_DONE))
        starved = silent and killed and memory_kills() > record.kills
        ended = record.model_copy(
            update={
                "finished": timestamp(datetime.now(UTC)),
                "exit_code": code,
                "starved": starved,
            }
        )
        ended.save(self._home)
        return ended

    def _enforce(self, record: ProcessRecord) -> ProcessRecord:
        """Kill what was asked to end long ago and still runs."""
        if record.stopped is not None and datetime.now(UTC) > parse(record.stopped) + GRACE:
            signal_group(record.pid, signal.SIGKILL)
        return record

    def _poll(self, record: ProcessRecord) -> StageProgress | None:
        """What the process says of its progress; what it said last while it is too busy to answer."""
        connection = http.client.HTTPConnection("127.0.0.1", record.port, timeout=0.5)
        try:
            connection.request("GET", "/progress")
            progress = StageProgress.model_validate_json(connection.getresponse().read())
            if (progress.stage, progress.attempt) == record.key:
                self._progress[record.pid] = progress
        except (OSError, http.client.HTTPException, ValidationError):
            pass  # not listening yet, or just ended: the process itself is what counts
        finally:
            connection.close()
        return self._progress.get(record.pid)

    # ------------------------------------------------------------------- stop

    def stop(self, run: str, keys: frozenset[tuple[str, int]], *, kill: bool = False) -> None:
        """Ask these attempts to end, once; `kill` does not ask."""
        for record in load_records(self._home, run):
            if record.key not in keys or record.finished is not None:
                continue
            if kill:
                signal_group(record.pid, signal.SIGKILL)
            elif record.stopped is None:
                record.model_copy(update={"stopped": timestamp(datetime.now(UTC))}).save(self._home)
                signal_one(record.pid, signal.SIGTERM)

    def remove(self, run: str, keys: frozenset[tuple[str, int]]) -> None:
        """Forget ended attempts; their logs stay."""
        for record in load_records(self._home, run):
            if record.key in keys and record.finished is not None:
                record.remove(self._home)

    def close(self) -> None:
        if self._warm is not None:
            self._warm.close()


def _why(record: ProcessRecord, words: LastWords | None) -> tuple[str, str]:
    """The platform's word and sentence for a process that failed."""
    code = record.exit_code
    if code is None:
        return "ProcessLost", "the process ended while no oikyo was watching it"
    if words is not None and words.failure is not None:
        return "Error", ""
    if record.starved:
        return "OOMKilled", "the kernel killed the process because memory ran out: see dmesg"
    if record.stopped is not None:
        return "Terminated", "the process was asked to end"
    if code <= 128:
        return "Error", f"the process ended with exit code {code} and no last words"
    name = signal.Signals(code - 128).name
    if code == 128 + signal.SIGKILL:
        return "Killed", f"killed by {name}; most often because memory ran out: see dmesg"
    return "Error", f"killed by {name}"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stage_environment(threads: int | None = None) -> dict[str, str]:
    """The environment of a stage: this one, quiet, with the trainer's own log unbuffered."""
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "true",
        ADDRESS_VARIABLE: LOOPBACK,
    }
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment
