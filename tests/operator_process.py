"""The operator as a process, as its image starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from control_plane import REPOSITORY, eventually
from kit.ports import free_port


class OperatorProcess:
    """python -m oikyo.controller, as the image starts it."""

    def __init__(self, kubeconfig: Path, log: Path, *arguments: str) -> None:
        self.port = free_port()
        self.log = log
        paths = os.pathsep.join((str(REPOSITORY / "operator"), str(REPOSITORY / "trainer_image")))
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "oikyo.controller", "--metrics-port", str(self.port)),
                *("--trainer-image", "registry.example/oikyo-trainer:test", *arguments),
            ],
            env={**os.environ, "KUBECONFIG": str(kubeconfig), "PYTHONPATH": paths},
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
        )

    def get(self, path: str) -> tuple[int, str]:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}{path}", trust_env=False, timeout=30)
        except httpx.HTTPError:
            return 0, ""
        return answer.status_code, answer.text

    def await_ready(self) -> None:
        def ready() -> bool:
            assert self._process.poll() is None, self.log.read_text()[-3000:]
            return self.get("/readyz")[0] == 200

        eventually(ready, "the operator to be ready")

    def metric(self, line: str) -> float | None:
        found = [row for row in self.get("/metrics")[1].splitlines() if row.startswith(f"{line} ")]
        return float(found[0].rsplit(" ", 1)[1]) if found else None

    @property
    def leading(self) -> bool:
        return self.metric("oikyo_operator_leader") == 1.0

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and wait; the exit code and the seconds that it took."""
        begun = time.monotonic()
        if self._process.poll() is None:
            self._process.send_signal(number)
        return self._process.wait(timeout=120), time.monotonic() - begun

    def resident_megabytes(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(row for row in status.splitlines() if row.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024


@contextmanager
def operator(
    kubeconfig: Path, folder: Path, *arguments: str, name: str = "operator"
) -> Iterator[OperatorProcess]:
    process = OperatorProcess(kubeconfig, folder / f"{name}.log", "--identity", name, *arguments)
    try:
        process.await_ready()
        yield process
    finally:
        process.end(signal.SIGKILL)
