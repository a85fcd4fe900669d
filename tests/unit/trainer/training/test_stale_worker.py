"""Never two writers: a worker that was given up for lost and wakes up later writes nothing more."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import EXIT_RETRY
from unit.trainer.training.processes import (
    LONGEST,
    in_child,
    is_stopped,
    stage_process,
    stopped_behind,
    stopped_in,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SETTINGS: dict[str, Any] = {
    "method": "Full",
    "epochs": 20,
    "learning_rate": "3e-3",
    "checkpoints": {"every_steps": 4, "keep": 2},
}


def contents(folder: Path) -> dict[str, str]:
    """Every file of the run by its hash."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    "stop",
    [
        lambda folder: partial(stopped_in, folder / ".attempt-1"),
        lambda folder: partial(stopped_behind, 2),
    ],
    ids=["in the midst of writing", "between two checkpoints"],
)
def test_a_worker_that_wakes_up_after_its_successor_writes_nothing(
    lab: Any, stop: Callable[[Path], Callable[[], None]]
) -> None:
    first = lab.spec("TextClassification", run="cut", **SETTINGS)
    folder = lab.workspace / layout.checkpoints("cut")
    stale = stage_process(lab, first, first=stop(folder))
    stale.start()
    while not is_stopped(stale.pid):
        assert stale.is_alive(), f"it ended with {stale.exitcode} and was to be stopped"
        time.sleep(0.02)
    try:
        assert in_child(lab, lab.spec("TextClassification", run="cut", attempt=2, **SETTINGS))
        before = contents(lab.workspace / "runs")
    finally:
        os.kill(stale.pid, signal.SIGCONT)
    stale.join(LONGEST)
    assert stale.exitcode == EXIT_RETRY
    after = contents(lab.workspace / "runs")
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    # What it had open goes with it; nothing that anybody reads has changed or come.
    assert not changed, changed
    assert in_child(lab, lab.spec("TextClassification", run="cut", attempt=3, **SETTINGS))
