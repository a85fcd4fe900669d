"""Killed at random moments, over and over: no torn checkpoint counts, and the bits at the end are the same.

OIKYO_KILLS says how many times; the suite's few are the same code as the hundred of bench/README.md.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo_trainer.training.checkpoint import Damaged, verify

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = int(os.environ.get("OIKYO_KILLS", "20"))
SETTINGS: dict[str, Any] = {
    "method": "Full",
    "epochs": 20,
    "learning_rate": "3e-3",
    "checkpoints": {"every_steps": 2, "keep": 2},
}
STEPS = 240


def in_child(lab: Any, spec: Any, seconds: float | None) -> bool:
    """Train in a forked process; SIGKILL it after `seconds`. Whether it came to its end by itself."""
    child = os.fork()
    if not child:
        try:
            lab.train(spec)
            os._exit(0)
        except BaseException:
            os._exit(1)
    if seconds is None:
        return os.waitpid(child, 0)[1] == 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        gone, status = os.waitpid(child, os.WNOHANG)
        if gone:
            return status == 0
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def newest(folder: Path) -> int:
    """Step of the newest checkpoint; every one that has a manifest must verify."""
    steps = [0]
    for path in folder.glob("checkpoint-*"):
        if (path / layout.MANIFEST).exists():
            try:
                steps.append(verify(path).step)
            except Damaged as torn:
                pytest.fail(f"{path.name} counts and is torn: {torn}")
    return max(steps)


def test_kills_lose_no_checkpoint_and_change_no_bit(lab: Any) -> None:
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    begun = time.monotonic()
    assert in_child(lab, lab.spec("TextClassification", run="whole", **SETTINGS), None)
    length = time.monotonic() - begun
    dice, folder = random.Random(5), lab.workspace / layout.checkpoints("cut")
    attempt = kills = reached = 0
    while kills < KILLS:
        attempt += 1
        spec = lab.spec("TextClassification", run="cut", attempt=attempt, **SETTINGS)
        # From before the first step to a good way into the run; it must not end too soon.
        if in_child(lab, spec, dice.uniform(0, length * 0.4)):
            break
        kills += 1
        assert newest(folder) >= reached, "a checkpoint that counted is gone"
        reached = newest(folder)
    last = lab.spec("TextClassification", run="cut", attempt=attempt + 1, **SETTINGS)
    assert in_child(lab, last, None)
    assert kills >= min(KILLS, 5)
    whole, cut = (
        load_file(lab.workspace / layout.stage(run, "train") / "model/model.safetensors")
        for run in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
