"""Starting stage processes: as plain children, or as forks of a warm one that has imported the trainer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import IO


class Plain:
    """A new Python for each process."""

    def __init__(self) -> None:
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, command: list[str], log: Path, environment: dict[str, str]) -> int:
        """Start `command` in a session of its own, so that Ctrl-C in the terminal does not reach it."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        self._children[child.pid] = child
        return child.pid

    def exit_code(self, pid: int) -> int | None:
        """Of a child of this process that has ended."""
        child = self._children.get(pid)
        return child.poll() if child is not None else None


class Warm:
    """The fork server `oikyo_trainer.warm`, as seen from here."""

    def __init__(self, log: Path, environment: dict[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "oikyo_trainer.warm"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                text=True,
                start_new_session=True,
            )
        self._answers: Queue[int | None] = Queue()
        """0: ready; a process id: forked; None: the server has ended."""
        self._exits: dict[int, int] = {}
        self._ready = False
        self._ended = False
        threading.Thread(target=self._listen, daemon=True, name="warm").start()

    def _listen(self) -> None:
        for line in self._pipe(self._server.stdout):
            answer = json.loads(line)
            if "exit" in answer:
                self._exits[answer["pid"]] = answer["exit"]
            else:
                self._answers.put(answer.get("pid", 0))
        self._answers.put(None)

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe

    def start(self, arguments: list[str], log: Path) -> int | None:
        """Fork a stage; waits for the imports, which began earlier than any new process could.

        None when there is no server any more: start it the plain way.
        """
        if not self._ready and not self._ended:
            self._ready = self._answer() == 0
        if self._ended:
            return None
        log.touch()
        try:
            requests = self._pipe(self._server.stdin)
            requests.write(json.dumps({"argv": arguments, "log": str(log)}) + "\n")
            requests.flush()
        except OSError:
            return None
        return self._answer()

    def _answer(self) -> int | None:
        answer = self._answers.get()
        self._ended = answer is None
        return answer

    def exit_code(self, pid: int) -> int | None:
        return self._exits.get(pid)

    def close(self) -> None:
        """End the server; stages that still run go on."""
        with suppress(OSError):
            self._pipe(self._server.stdin).close()
        try:
            self._server.wait(timeout=1)
        except subprocess.TimeoutExpired:
            # Still importing: nothing has been forked yet.
            self._server.kill()
            self._server.wait()
        self._pipe(self._server.stdout).close()


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a process and all that it started; one that has just ended is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def signal_one(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
