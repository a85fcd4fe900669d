"""A wrong clock for a node's containers: the library that moves it, and the runc that loads it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kit.clocks import INSIDE, build, wrapper

WAITS = """
import datetime, queue, threading, time
begun = time.monotonic()
time.sleep(0.05)
threading.Event().wait(0.05)
try:
    queue.Queue().get(timeout=0.05)
except queue.Empty:
    pass
assert 0.15 <= time.monotonic() - begun < 60
print(time.time(), datetime.datetime.now(datetime.UTC).timestamp())
"""


@pytest.mark.tools
@pytest.mark.parametrize("seconds", [3600, -3600])
def test_the_wall_clock_moves_and_waits_last_as_long_as_before(
    tmp_path: Path, seconds: int
) -> None:
    build(tmp_path / "clock.so", seconds)
    environment = {"LD_PRELOAD": str(tmp_path / "clock.so")}
    done = subprocess.run(
        [sys.executable, "-c", WAITS], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for told in done.stdout.split():
        assert float(told) - time.time() == pytest.approx(seconds, abs=60)


def test_a_container_that_is_made_gets_the_clock_and_other_commands_pass(tmp_path: Path) -> None:
    real, wrapped, bundle = tmp_path / "real", tmp_path / "runc", tmp_path / "bundle"
    real.write_text('#!/bin/sh\necho "$@"\n')
    wrapped.write_text(wrapper(real, tmp_path / "clock.so"))
    for program in (real, wrapped):
        program.chmod(0o755)
    bundle.mkdir()
    config = bundle / "config.json"
    before = {"process": {"env": ["HOME=/tmp"]}, "mounts": []}
    config.write_text(json.dumps(before))

    def said(*arguments: str | Path) -> str:
        done = subprocess.run([wrapped, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert said("--root", "/r", "kill", "--all", "x", "9") == "--root /r kill --all x 9"
    assert json.loads(config.read_text()) == before
    made = f"--root /r create --bundle {bundle} x"
    assert said("--root", "/r", "create", "--bundle", bundle, "x") == made
    spec = json.loads(config.read_text())
    assert spec["process"]["env"] == ["HOME=/tmp", f"LD_PRELOAD={INSIDE}"]
    assert [mount["source"] for mount in spec["mounts"]] == [str(tmp_path / "clock.so")]
