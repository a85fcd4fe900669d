"""Real processes, started and ended by the kit."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from kit.errors import KitError
from kit.processes import Servers, end, start_of


def test_a_server_is_started_stopped_and_started_again(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    first = servers.start("sleeper", ["sleep", "60"])
    assert first.alive
    servers.stop(["sleeper"])
    assert not first.alive
    second = servers.restart("sleeper")
    assert second.alive
    assert second.pid != first.pid
    servers.stop(["sleeper"])


def test_a_deaf_server_is_killed_after_the_grace(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    deaf = servers.start(
        "deaf", ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    )
    while "ready" not in servers.log("deaf").read_text():
        assert deaf.alive
    servers.stop(["deaf"], grace_seconds=0.2)
    assert not deaf.alive


def test_a_pid_that_now_belongs_to_another_process_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    time.sleep(0.05)  # a start is told apart by the kernel's clock tick
    try:
        servers = Servers(tmp_path)
        servers.start("mine", ["sleep", "60"])
        servers.stop(["mine"])
        record = tmp_path / "mine.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "pid": stranger.pid}))
        servers.stop(["mine"])
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_ending_what_has_ended_is_no_error() -> None:
    short = subprocess.Popen(["true"])
    began = start_of(short.pid) or "gone"
    short.wait()
    end([(short.pid, began)], grace_seconds=0)


def test_a_server_that_ended_is_reported_with_its_last_words(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    died = servers.start("short", ["sh", "-c", "echo no such port; exit 3"])
    os.waitpid(died.pid, 0)
    with pytest.raises(KitError, match=r"short ended; .* no such port"):
        servers.check("short")


def test_an_unknown_server_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no server named etcd was started"):
        Servers(tmp_path).get("etcd")
