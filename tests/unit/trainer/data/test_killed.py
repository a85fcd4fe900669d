"""Killed at any moment, prepare leaves no version that looks whole and is not; done work is not redone.

The stage kills itself with SIGKILL at chosen points: at the n-th file that it opens for writing, renames
or removes. Each kill is a process of its own, forked from one that has the libraries loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from oikyo_trainer.data.version import is_whole

KILLS = 24
PATH = os.pathsep.join(filter(None, sys.path))

DRIVER = """
import os, signal, sys
from oikyo_trainer.__main__ import main
# Loaded once, not by each fork.
import oikyo_trainer.stage
from oikyo_trainer.data import prepare, tokens
from oikyo_trainer.data.insight import job, overview, slices
import pyarrow.compute, pyarrow.parquet, tokenizers
spec, workspace = sys.argv[1:]
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.symlink")

def child(last):
    count = 0
    def step(event, arguments):
        nonlocal count
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (mode and set(mode) & set("wax+")) and not (flags or 0) & (os.O_WRONLY | os.O_RDWR):
                return
        elif event not in CHANGES:
            return
        if workspace not in str(arguments[0]):
            return
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(step)
    code = main(["prepare", "--port", "0", "--spec", spec, "--workspace", workspace])
    os.write(1, f"{code} {count}\\n".encode())
    os._exit(0)

for line in sys.stdin:
    process = os.fork()
    if not process:
        child(int(line))
    _, status = os.waitpid(process, 0)
    if os.WIFSIGNALED(status):
        os.write(1, f"killed {os.WTERMSIG(status)}\\n".encode())
"""


class Stage:
    """Runs the stage again and again, each time in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, until: int) -> list[str]:
        """Run it up to its `until`-th change of a file, 0: to the end; returns what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{until}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()


@contextmanager
def stage(desk: Any) -> Iterator[Stage]:
    command = [sys.executable, "-c", DRIVER, str(desk.root / "spec.json"), str(desk.workspace)]
    process = subprocess.Popen(
        command,
        # For so few rows a second compute thread costs several times what it brings.
        env={**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Stage(process)
    finally:
        process.kill()
        process.communicate()


def contents(workspace: Path) -> dict[str, str]:
    """Every file of every dataset and model, hidden folders left out, with its digest."""
    return {
        str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest()
        for kind in ("datasets", "models")
        for folder in (workspace / kind).glob("[0-9a-f]*")
        for path in folder.rglob("*")
        if path.is_file()
    }


def versions(workspace: Path) -> list[Path]:
    return [
        folder for kind in ("datasets", "models") for folder in (workspace / kind).glob("[0-9a-f]*")
    ]


@pytest.fixture
def prepared(desk: Any) -> Any:
    """A desk whose spec is written and whose result is known."""
    rows = [{"text": f"question {i}", "label": f"topic {i % 3}"} for i in range(300)]
    rows.append({"text": "question 1", "label": "topic 2"})
    path = desk.rows("rows.jsonl", rows)
    (desk.root / "spec.json").write_text(desk.spec(path).json_line())
    desk.workspace.mkdir()
    return desk


@pytest.mark.slow
def test_whenever_it_is_killed_only_whole_versions_stand_and_the_next_run_ends_well(
    prepared: Any,
) -> None:
    workspace = prepared.workspace
    with stage(prepared) as running:
        code, changes = running.run(0)
        assert code == "0"
        reference = contents(workspace)
        assert len(reference) >= 8
        points = sorted({1 + n * int(changes) // KILLS for n in range(KILLS)})
        for point in points:
            subprocess.run(["rm", "-rf", *map(str, workspace.iterdir())], check=True)
            assert running.run(point) == ["killed", str(int(signal.SIGKILL))]
            assert all(is_whole(folder) for folder in versions(workspace)), point
            left = contents(workspace)
            assert left.items() <= reference.items(), point
            result = workspace / "runs/job-00000000/prepare/result.json"
            assert not result.exists() or left == reference, point
            assert running.run(0)[0] == "0"
            assert contents(workspace) == reference, point
            hidden = [p for k in ("datasets", "models") for p in (workspace / k).glob(".*")]
            assert hidden == [], point


def test_unchanged_input_is_not_prepared_again_and_the_log_says_so(prepared: Any) -> None:
    command = [sys.executable, "-m", "oikyo_trainer", "prepare", "--port", "0"]
    command += ["--spec", str(prepared.root / "spec.json")]
    command += ["--workspace", str(prepared.workspace)]
    environment = {**os.environ, "PYTHONPATH": PATH}

    def run() -> str:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        )
        return ended.stderr

    run()
    before = {p: p.stat().st_mtime_ns for p in prepared.workspace.rglob("*") if p.is_file()}
    assert "finished result" in run()
    assert {p: p.stat().st_mtime_ns for p in prepared.workspace.rglob("*") if p.is_file()} == before


def test_another_job_on_the_same_rows_shares_the_version(
    prepared: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = prepared.root / "rows.jsonl"
    with caplog.at_level("INFO", "oikyo.data"):
        first = prepared.prepare(path)
        before = contents(prepared.workspace)
        second = prepared.prepare(path, run="job-11111111")
    assert second == first.model_copy(update={"unchanged": True})
    assert contents(prepared.workspace) == before
    assert f"dataset {first.dataset_digest} is there already" in caplog.text
    report = prepared.workspace / "runs/job-11111111/prepare/report.json"
    assert json.loads(report.read_bytes())["rows"] == 301
