"""The stage contract: results, exit codes, last words, signals, fencing."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oikyo.api.stages import (
    EXIT_REFUSED,
    EXIT_RETRY,
    OUT_OF_MEMORY,
    TERMINATION_LIMIT,
    Failure,
    LastWords,
    PrepareResult,
    PrepareSpec,
    Source,
)
from oikyo_trainer.__main__ import importing, main
from oikyo_trainer.context import Context
from oikyo_trainer.errors import Refused, Retry, Stale
from oikyo_trainer.progress import Reporter
from oikyo_trainer.stage import check_attempt, claim_attempt, find_result, run_stage
from oikyo_trainer.words import failure_of, say, shorten

DIGEST = "sha256:" + "0" * 64
RESULT = PrepareResult(dataset_digest=DIGEST, model_digest=DIGEST, train=1, validation=1, test=1)
FOLDER = Path("runs/job-00000000/prepare")


def a_spec(attempt: int = 1, **more: Any) -> PrepareSpec:
    given = {"run": "job-00000000", "attempt": attempt, "task": "TextClassification"}
    model, sources = Source(uri="file:///m"), (Source(uri="file:///rows.csv"),)
    return PrepareSpec(**{**given, "model": model, "sources": sources, **more})


def run(
    workspace: Path,
    work: Callable[[PrepareSpec, Context], PrepareResult],
    spec: PrepareSpec | None = None,
) -> tuple[int, LastWords | None]:
    log = workspace.parent / "termination-log"
    code = run_stage(spec or a_spec(), work, workspace=workspace, port=0, termination_log=log)
    body = log.read_bytes()
    return code, LastWords.model_validate_json(body) if body else None


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    return tmp_path / "w"


def fine(spec: PrepareSpec, context: Context) -> PrepareResult:
    return RESULT


def failing(error: BaseException) -> Callable[[PrepareSpec, Context], PrepareResult]:
    def work(spec: PrepareSpec, context: Context) -> PrepareResult:
        raise error

    return work


def test_a_result_is_written_and_told(workspace: Path) -> None:
    code, words = run(workspace, fine)
    assert code == 0
    assert words is not None
    assert words.result == RESULT
    written = LastWords.model_validate_json((workspace / FOLDER / "result.json").read_bytes())
    assert written == words


def test_the_second_run_finds_the_result_and_does_nothing(workspace: Path) -> None:
    run(workspace, fine)
    before = (workspace / FOLDER / "result.json").stat().st_mtime_ns
    code, words = run(workspace, failing(AssertionError("worked twice")), a_spec(attempt=2))
    assert code == 0
    assert words is not None
    assert (words.attempt, words.result) == (2, RESULT)
    assert (workspace / FOLDER / "result.json").stat().st_mtime_ns == before


def test_other_input_does_not_find_the_result(workspace: Path) -> None:
    run(workspace, fine)
    code, _ = run(workspace, failing(Retry("Later", "not now")), a_spec(max_bad_rows=3))
    assert code == EXIT_RETRY


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"stage": "prepare"}', b"\xff"])
def test_a_damaged_result_is_not_found(workspace: Path, body: bytes) -> None:
    (workspace / FOLDER).mkdir(parents=True)
    (workspace / FOLDER / "result.json").write_bytes(body)
    context = Context(workspace, Reporter("prepare", 1, "job-00000000"))
    assert find_result(a_spec(), context) is None
    assert run(workspace, fine)[0] == 0


@pytest.mark.parametrize(
    ("error", "code", "kind", "reason"),
    [
        (Refused("InvalidData", "mend it"), 64, "Refused", "InvalidData"),
        (Retry("HubUnavailable", "later"), 75, "Retry", "HubUnavailable"),
        (ValueError("a bug"), 1, "Crashed", "StageCrashed"),
        (KeyboardInterrupt(), 75, "Retry", "Stopped"),
        (OSError(28, "No space left on device", "/w/x"), 75, "Retry", "WorkspaceFull"),
        (OSError(122, "Disk quota exceeded", "/w/x"), 75, "Retry", "WorkspaceFull"),
        (OSError(30, "Read-only file system", "/w/x"), 75, "Retry", "WorkspaceUnwritable"),
        (PermissionError(13, "Permission denied", "/w/x"), 75, "Retry", "WorkspaceUnwritable"),
        (OSError(5, "Input/output error"), 75, "Retry", "WorkspaceFault"),
        (FileNotFoundError(2, "No such file"), 1, "Crashed", "StageCrashed"),
    ],
)
def test_every_end_has_its_exit_code_and_words(
    workspace: Path, error: BaseException, code: int, kind: str, reason: str
) -> None:
    found, words = run(workspace, failing(error))
    assert found == code
    assert words is not None
    assert words.failure is not None
    assert (words.failure.kind, words.failure.reason) == (kind, reason)
    assert not (workspace / FOLDER / "result.json").exists()


def test_a_workspace_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("a file")
    code, words = run(tmp_path / "w", fine)
    assert code == EXIT_RETRY
    assert words is not None
    assert words.failure is not None
    assert words.failure.reason == "WorkspaceUnwritable"


def test_sigterm_ends_the_stage_with_words(workspace: Path) -> None:
    slept = threading.Event()

    def work(spec: PrepareSpec, context: Context) -> PrepareResult:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        time.sleep(60)
        slept.set()
        return RESULT

    before = signal.getsignal(signal.SIGTERM)
    code, words = run(workspace, work)
    assert not slept.is_set(), "the stage went on to its end"
    assert code == EXIT_RETRY
    assert words is not None
    assert words.failure is not None
    assert (words.failure.reason, words.failure.message) == ("Stopped", "stopped")
    assert words.failure.evidence == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_library_that_swallows_exceptions_cannot_swallow_the_stop(workspace: Path) -> None:
    def work(spec: PrepareSpec, context: Context) -> PrepareResult:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Exception:
            return RESULT
        return RESULT

    assert run(workspace, work)[0] == EXIT_RETRY


def test_a_lower_attempt_does_not_work(workspace: Path) -> None:
    context = Context(workspace, Reporter("prepare", 2, "job-00000000"))
    claim_attempt(a_spec(attempt=2), context)
    code, words = run(workspace, failing(AssertionError("worked")), a_spec(attempt=1))
    assert code == EXIT_RETRY
    assert words is not None
    assert words.failure is not None
    assert words.failure.reason == "StaleAttempt"
    assert "attempt 1 of prepare was replaced by attempt 2" in words.failure.message
    assert (workspace / FOLDER / "attempt").read_text() == "2\n"


def test_an_attempt_that_is_replaced_while_it_works_writes_no_result(workspace: Path) -> None:
    def work(spec: PrepareSpec, context: Context) -> PrepareResult:
        claim_attempt(a_spec(attempt=5), context)
        return RESULT

    assert run(workspace, work)[0] == EXIT_RETRY
    assert not (workspace / FOLDER / "result.json").exists()


def test_the_highest_of_many_claims_wins(workspace: Path) -> None:
    context = Context(workspace, Reporter("prepare", 1, "job-00000000"))
    lost: list[int] = []

    def claim(attempt: int) -> None:
        try:
            claim_attempt(a_spec(attempt=attempt), context)
        except Stale:
            lost.append(attempt)

    threads = [threading.Thread(target=claim, args=(n,)) for n in (3, 9, 1, 7, 5, 8, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 9 not in lost
    assert (workspace / FOLDER / "attempt").read_text() == "9\n"
    check_attempt(a_spec(attempt=9), context)
    with pytest.raises(Stale):
        check_attempt(a_spec(attempt=8), context)


def test_a_failing_rank_leaves_words_and_a_finished_one_does_not(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run(workspace, fine) == (0, None)
    assert not (workspace / FOLDER).exists()
    code, words = run(workspace, failing(Refused("InvalidData", "mend it")))
    assert code == EXIT_REFUSED
    assert words is not None
    assert words.failure is not None
    assert words.failure.message == "mend it"


def the_words(reason: str, kind: str) -> LastWords:
    failure = Failure.model_validate({"kind": kind, "reason": reason, "message": reason})
    return LastWords(stage="train", failure=failure)


@pytest.mark.parametrize(
    ("order", "kept"),
    [
        (["Crashed First", "Crashed Second"], "First"),
        (["Crashed Peer", "Refused Cause"], "Cause"),
        (["Refused Cause", "Crashed Peer"], "Cause"),
        (["Refused Cause", "Retry Stopped"], "Cause"),
        (["Retry Stopped", "Crashed Cause"], "Cause"),
    ],
)
def test_of_several_processes_the_cause_is_kept(
    tmp_path: Path, order: list[str], kept: str
) -> None:
    for item in order:
        kind, reason = item.split()
        say(the_words(reason, kind), tmp_path / "log")
    found = LastWords.model_validate_json((tmp_path / "log").read_bytes())
    assert found.failure is not None
    assert found.failure.reason == kept


def test_long_words_fit_and_stay_json() -> None:
    failure = Failure(kind="Refused", reason="R", message="m" * 9000, evidence="ä" * 9000)
    columns = {f"column {i}": "c" * 300 for i in range(40)}
    for words in (
        LastWords(stage="prepare", failure=failure),
        LastWords(stage="prepare", result=RESULT.model_copy(update={"columns": columns})),
    ):
        line = shorten(words)
        assert len(line.encode()) <= TERMINATION_LIMIT
        assert LastWords.model_validate_json(line).stage == "prepare"
    assert LastWords.model_validate_json(shorten(words)).result is not None


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{", "Invalid JSON"),
        ("{}", "run is {}: Field required"),
        ('{"run": "r", "taks": "x"}', "taks is 'x': Extra inputs are not permitted"),
    ],
)
def test_a_wrong_spec_is_refused_with_the_field(
    tmp_path: Path, body: str | None, sentence: str
) -> None:
    if body is not None:
        (tmp_path / "spec.json").write_text(body)
    log = tmp_path / "log"
    arguments = ["--spec", str(tmp_path / "spec.json"), "--workspace", str(tmp_path / "w")]
    assert main(["prepare", *arguments, "--termination-log", str(log)]) == EXIT_REFUSED
    failure = json.loads(log.read_bytes())["failure"]
    assert failure["reason"] == "InvalidSpec"
    assert sentence in failure["message"]


def test_the_command_line_runs_a_stage(tmp_path: Path) -> None:
    absent = Source(uri="file:///absent", path=str(tmp_path / "absent"))
    (tmp_path / "spec.json").write_text(a_spec(model=absent).json_line())
    command = [sys.executable, "-m", "oikyo_trainer", "prepare", "--port", "0"]
    command += ["--spec", str(tmp_path / "spec.json"), "--workspace", str(tmp_path)]
    command += ["--termination-log", str(tmp_path / "log")]
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True)
    assert done.returncode == EXIT_REFUSED, done.stderr
    assert b"file:///absent does not exist" in (tmp_path / "log").read_bytes()


def test_memory_that_is_refused_is_said_in_words_that_the_controller_knows() -> None:
    import torch

    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)
    failure = failure_of(refused.value)
    assert (failure.kind, failure.reason) == ("Retry", OUT_OF_MEMORY)
    assert failure_of(MemoryError()).reason == OUT_OF_MEMORY
    assert failure_of(RuntimeError("shapes differ")).kind == "Crashed"


def test_who_ran_out_of_memory_is_heard_above_those_that_lost_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [
        LastWords(stage="train", failure=failure_of(error))
        for error in (MemoryError(), RuntimeError("Connection closed by peer"))
    ]
    for first, second in (words, words[::-1]):
        log.write_bytes(b"")
        say(first, log)
        say(second, log)
        told = LastWords.model_validate_json(log.read_bytes()).failure
        assert told is not None
        assert told.reason == OUT_OF_MEMORY


def test_a_prepare_stage_that_ends_as_it_stands_has_said_all(tmp_path: Path) -> None:
    """Its code, its log up to the last line, and its last words."""
    spec = tmp_path / "spec.json"
    source = Source(uri="file:///gone", path="/gone")
    run = PrepareSpec(run="job-00000000", task="TextGeneration", model=source, sources=(source,))
    spec.write_text(run.json_line(), encoding="utf-8")
    log = tmp_path / "log"
    command = [sys.executable, "-m", "oikyo_trainer", "prepare", "--spec", str(spec), "--port", "0"]
    command += ["--workspace", str(tmp_path / "space"), "--termination-log", str(log)]
    (tmp_path / "space").mkdir()
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    words = LastWords.model_validate_json(log.read_bytes())
    assert made.returncode == EXIT_REFUSED
    assert words.failure is not None
    assert words.failure.message in made.stderr
    assert made.stderr.endswith("\n")


def test_importing_keeps_the_collector_out_and_leaves_it_as_it_was() -> None:
    def failing() -> None:
        with importing():
            assert not gc.isenabled()
            raise ImportError

    try:
        with pytest.raises(ImportError):
            failing()
        assert gc.isenabled()
        assert gc.get_freeze_count()
        gc.disable()
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()
