"""A real server in a process of its own, on a loopback port, over a released tiny version."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from oikyo.api.stages import ServeSpec
from oikyo_trainer.evaluation.record import RecordLineage, VersionRecord
from oikyo_trainer.evaluation.release import release

ROOT = Path(__file__).parents[4]
START_SECONDS = 300


def released(
    workspace: Path,
    model: Path,
    task: str,
    *,
    verdict: str = "Accepted",
    name: str = "words",
    base_digest: str = "sha256:" + "2" * 64,
) -> VersionRecord:
    """A version in the workspace, made by the code that makes every version."""
    lineage = RecordLineage(
        job="job",
        job_uid="uid",
        run="run",
        attempt=1,
        input_digest="sha256:" + "1" * 64,
        base="hf://org/base",
        base_digest=base_digest,
        dataset_digest="sha256:" + "3" * 64,
    )
    draft = VersionRecord.model_validate(
        {
            "model": name,
            "task": task,
            "verdict": verdict,
            "max_length": 64,
            "metrics": (),
            "baseline": (),
            "baseline_method": "nothing",
            "gates": (),
            "rows": 1,
            "lineage": lineage,
            "created": "2026-11-23T21:00:00Z",
        }
    )
    return release(workspace, model, draft, min_version=1)


class ServerProcess:
    """Starts at once; `client` is ready when `wait_ready` has returned."""

    def __init__(self, workspace: Path, record: VersionRecord, **limits: Any) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        spec = ServeSpec.model_validate(
            {
                "model_name": record.model,
                "version": record.version,
                "task": record.task,
                "path": f"versions/{record.model}/{record.version}",
                "port": self.port,
                **limits,
            }
        )
        self.spec_path = workspace / f"serve-{self.port}.json"
        self.spec_path.write_text(json.dumps(spec.wire()))
        self.log_path = workspace / f"serve-{self.port}.log"
        self.words_path = workspace / f"serve-{self.port}.words"
        self.process = self._start(workspace)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=120)

    def _start(self, workspace: Path) -> subprocess.Popen[bytes]:
        code = (
            "import logging, sys; from pathlib import Path; from oikyo.api.stages import ServeSpec;"
            "from oikyo_trainer.serving.server import serve; logging.basicConfig(level='INFO');"
            "spec = ServeSpec.model_validate_json(Path(sys.argv[1]).read_bytes());"
            "sys.exit(serve(spec, Path(sys.argv[2]), Path(sys.argv[3])))"
        )
        paths = [str(self.spec_path), str(workspace), str(self.words_path)]
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", code, *paths],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ
                | {"PYTHONPATH": f"{ROOT}/operator:{ROOT}/trainer_image", "OMP_NUM_THREADS": "1"},
            )

    def wait_ready(self) -> ServerProcess:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log_path.read_text()
            try:
                if self.client.get("/health/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"not ready in {START_SECONDS} s: {self.log_path.read_text()}")

    def exit_code(self, seconds: float = 120) -> int:
        return self.process.wait(seconds)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a series over the labels that are not given."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = self.client.get("/metrics").text.splitlines()
        found = [line for line in lines if line.startswith((name + "{", name + " "))]
        return sum(float(x.rsplit(" ", 1)[1]) for x in found if all(w in x for w in wanted))

    def stop(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)


def copy_model(source: Path, target: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(source, target))
