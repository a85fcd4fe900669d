"""Stage processes: started, watched, stopped, and found again by an oikyo that was not there.

The stage is a stand-in that speaks the contract: the real one cannot be told to crash on demand.
The real stages run in tests/desktop.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oikyo.api.stages import PrepareSpec, Source
from oikyo.controller.observed import StagePlan, StageRun
from oikyo.desktop import processes
from oikyo.desktop.home import Home
from oikyo.desktop.launch import Warm
from oikyo.desktop.processes import Processes
from oikyo.desktop.records import birth_of, load_records, memory_kills

STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
spec = json.loads(Path(sys.argv[sys.argv.index("--spec") + 1]).read_text())
log = Path(sys.argv[sys.argv.index("--termination-log") + 1])
digest = "sha256:" + "0" * 64
def say(**words):
    log.write_text(json.dumps({"stage": "prepare", "attempt": spec["attempt"], **words}))
def stop(*_):
    say(failure={"kind": "Retry", "reason": "Stopped", "message": "stopped"})
    sys.exit(75)
act = spec["model"]["uri"]
print("acting:", act, flush=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN if act == "deaf" else stop)
if act == "done":
    say(result={"stage": "prepare", "dataset_digest": digest, "model_digest": digest,
                "train": 8, "validation": 1, "test": 1})
elif act == "refuse":
    say(failure={"kind": "Refused", "reason": "InvalidData", "message": "line 7 is not JSON"})
    sys.exit(64)
elif act == "vanish":
    os.kill(os.getpid(), signal.SIGKILL)
else:
    Path(spec["sources"][0]["path"]).touch()
    time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def make(tmp_path: Path, home: Home) -> Callable[[], Processes]:
    package = tmp_path / "lib/oikyo_trainer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAND_IN, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    return lambda: Processes(home, warm=False, environment=environment)


def plan(act: str, tmp_path: Path, attempt: int = 1) -> StagePlan:
    up = Source(uri="up", path=str(tmp_path / "up"))
    spec = PrepareSpec(
        run="r", attempt=attempt, task="TextClassification", model=Source(uri=act), sources=(up,)
    )
    return StagePlan(spec)


def until(look: Callable[[], StageRun], state: str) -> StageRun:
    """Look until the run is in this state; fails after a minute."""
    deadline = time.monotonic() + 60
    while (run := look()).state != state:
        assert time.monotonic() < deadline, run
        time.sleep(0.02)
    return run


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_stage_that_ends_well_has_a_result(
    home: Home, make: Callable[[], Processes], tmp_path: Path
) -> None:
    hands = make()
    hands.start(plan("done", tmp_path))
    run = until(lambda: hands.observe("r")[0], "Succeeded")
    assert run.words is not None
    assert run.words.result is not None
    assert run.workers[0].exit_code == 0
    assert "acting: done" in home.log("r", "prepare", 1).read_text(encoding="utf-8")


def test_a_refusal_keeps_its_sentence_and_its_exit_code(
    make: Callable[[], Processes], tmp_path: Path
) -> None:
    hands = make()
    hands.start(plan("refuse", tmp_path))
    run = until(lambda: hands.observe("r")[0], "Failed")
    assert run.workers[0].exit_code == 64
    assert run.words is not None
    assert run.words.failure is not None
    assert run.words.failure.message == "line 7 is not JSON"


def test_a_killed_stage_is_told_as_the_shell_tells_it(
    make: Callable[[], Processes], tmp_path: Path
) -> None:
    hands = make()
    hands.start(plan("vanish", tmp_path))
    worker = until(lambda: hands.observe("r")[0], "Failed").workers[0]
    assert (worker.exit_code, worker.reason) == (137, "Killed")
    assert "memory" in worker.message


def test_a_stage_is_asked_to_end_and_says_its_last_words(
    make: Callable[[], Processes], tmp_path: Path
) -> None:
    hands = make()
    hands.start(plan("wait", tmp_path))
    wait_for(tmp_path / "up")
    hands.stop("r", frozenset({("prepare", 1)}))
    run = until(lambda: hands.observe("r")[0], "Failed")
    assert run.words is not None
    assert run.words.failure is not None
    assert run.words.failure.reason == "Stopped"


def test_a_stage_that_does_not_listen_is_killed_after_the_grace(
    make: Callable[[], Processes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", processes.GRACE * 0)
    hands = make()
    hands.start(plan("deaf", tmp_path))
    wait_for(tmp_path / "up")
    hands.stop("r", frozenset({("prepare", 1)}))
    worker = until(lambda: hands.observe("r")[0], "Failed").workers[0]
    assert (worker.exit_code, worker.reason) == (137, "Terminated")


def test_another_oikyo_finds_a_stage_that_still_runs(
    home: Home, make: Callable[[], Processes], tmp_path: Path
) -> None:
    make().start(plan("wait", tmp_path))
    wait_for(tmp_path / "up")
    other = make()
    assert other.observe("r")[0].state == "Running"
    (record,) = load_records(home, "r")
    os.kill(record.pid, signal.SIGTERM)
    os.waitpid(record.pid, 0)
    run = until(lambda: other.observe("r")[0], "Failed")
    assert run.workers[0].exit_code == 75


def test_a_stage_that_vanished_unwatched_is_lost_not_running(
    home: Home, make: Callable[[], Processes], tmp_path: Path
) -> None:
    make().start(plan("vanish", tmp_path))
    (record,) = load_records(home, "r")
    os.waitpid(record.pid, 0)
    worker = make().observe("r")[0].workers[0]
    assert (worker.state, worker.reason, worker.exit_code) == ("Failed", "ProcessLost", None)


def test_another_process_with_the_same_number_is_not_ours(
    home: Home, make: Callable[[], Processes], tmp_path: Path
) -> None:
    make().start(plan("done", tmp_path))
    (record,) = load_records(home, "r")
    os.waitpid(record.pid, 0)
    (record.folder(home) / "words.json").unlink()
    record.model_copy(update={"pid": os.getpid(), "birth": "1"}).save(home)
    assert make().observe("r")[0].state == "Failed"


def test_an_ended_attempt_is_forgotten_and_a_running_one_is_not(
    home: Home, make: Callable[[], Processes], tmp_path: Path
) -> None:
    hands = make()
    hands.start(plan("done", tmp_path))
    until(lambda: hands.observe("r")[0], "Succeeded")
    hands.start(plan("wait", tmp_path, attempt=2))
    hands.remove("r", frozenset({("prepare", 1), ("prepare", 2)}))
    assert [record.attempt for record in load_records(home, "r")] == [2]
    assert home.log("r", "prepare", 1).exists()
    hands.stop("r", frozenset({("prepare", 2)}), kill=True)
    until(lambda: hands.observe("r")[0], "Failed")


def test_a_living_process_has_a_birth_and_a_dead_one_has_none() -> None:
    assert birth_of(os.getpid()) == birth_of(os.getpid())
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert birth_of(child) is None
    os.waitpid(child, 0)


@pytest.mark.parametrize(("kills", "reason"), [(3, "Killed"), (2, "OOMKilled")])
def test_a_process_that_the_kernel_killed_for_memory_is_told_from_one_that_was_killed(
    home: Home,
    make: Callable[[], Processes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kills: int,
    reason: str,
) -> None:
    counts = iter((kills, 3, 3, 3))  # what /proc/vmstat says at the start and at the end
    monkeypatch.setattr("oikyo.desktop.processes.memory_kills", lambda: next(counts))
    hands = make()
    hands.start(plan("sleep", tmp_path))
    wait_for(tmp_path / "up")
    os.kill(load_records(home, "r")[0].pid, signal.SIGKILL)
    run = until(lambda: hands.observe("r")[0], "Failed")
    assert run.workers[0].reason == reason


def test_the_count_of_memory_kills_is_the_kernels(tmp_path: Path) -> None:
    path = tmp_path / "vmstat"
    path.write_text("nr_free_pages 5\noom_kill 7\noom_reaper 1\n")
    assert memory_kills(path) == 7
    assert memory_kills(tmp_path / "none") == 0


def test_a_warm_process_that_holds_the_gpu_ends_and_stages_start_the_plain_way() -> None:
    # Importing bitsandbytes takes the GPU where there is one; a fork could not use it.
    taken = (
        "from oikyo_trainer import warm; warm.preload = lambda: None; "
        "warm.holds_gpu = lambda: True; warm.main()"
    )
    ended = subprocess.run([sys.executable, "-c", taken], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stdout == "", "it must not say that it is ready"
    assert "the plain way" in ended.stderr


@pytest.mark.timeout(60)
def test_no_stage_waits_for_a_warm_process_that_has_ended(tmp_path: Path) -> None:
    warm = Warm(tmp_path / "warm.log", {"PYTHONHOME": str(tmp_path)})  # where no Python can start
    for stage in ("train", "train", "evaluate"):
        assert warm.start([stage], tmp_path / f"{stage}.log") is None
    warm.close()
