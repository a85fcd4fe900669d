"""Killed at random moments, over and over: no torn checkpoint counts, and the bits at the end are the same.

OIKYO_KILLS says how many times; the suite's few are the same code as the hundred of bench/README.md.
"""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo_trainer.training.checkpoint import Damaged, verify
from unit.trainer.training.processes import in_child, killed_after

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KILLS = int(os.environ.get("OIKYO_KILLS", "20"))
SETTINGS: dict[str, Any] = {
    "method": "Full",
    "epochs": max(10, KILLS // 2),
    "learning_rate": "3e-3",
    "checkpoints": {"every_steps": 2, "keep": 2},
}


def random_moment(folder: Path, after: int, dice: random.Random) -> Any:
    """At some moment of the start, or soon after the next checkpoint began to be written."""
    early, wait = dice.random() < 0.25, dice.uniform(0.001, 0.06)
    return partial(killed_after, 10 * wait) if early else partial(killed_after, wait, folder, after)


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

    assert in_child(lab, lab.spec("TextClassification", run="whole", **SETTINGS))
    dice, folder = random.Random(5), lab.workspace / layout.checkpoints("cut")
    reached = 0
    for attempt in range(1, KILLS + 1):
        spec = lab.spec("TextClassification", run="cut", attempt=attempt, **SETTINGS)
        assert not in_child(lab, spec, random_moment(folder, reached, dice)), "it ended too soon"
        assert newest(folder) >= reached, "a checkpoint that counted is gone"
        reached = newest(folder)
    assert in_child(lab, lab.spec("TextClassification", run="cut", attempt=KILLS + 1, **SETTINGS))
    whole, cut = (
        load_file(lab.workspace / layout.stage(run, "train") / "model/model.safetensors")
        for run in ("whole", "cut")
    )
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
