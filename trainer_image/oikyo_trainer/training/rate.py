"""The peak learning rate that a run began with: every later attempt goes on with it.

A checkpoint brings its schedule, so its rate is what the steps are made at, also where another version of oikyo
would choose another one. `train` asks here, so that what is told and what a rollback halves is that rate too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from oikyo.api.jobstatus import Resolved

from .divergence import Rollback
from .hyperparameters import Plan
from .trainers import SCHEDULER

CHOICE = "training.learningRate"


def began_with(checkpoint: Path | None, rollbacks: tuple[Rollback, ...]) -> float | None:
    """The peak rate before any rollback; `checkpoint` is the verified one to go on from. None: a new run."""
    if rollbacks:
        return rollbacks[0].rate
    if checkpoint is None or not (checkpoint / SCHEDULER).exists():
        return None  # DeepSpeed may keep the schedule among its own files
    return peaks_of(checkpoint)[0]  # a head that began fitted has a share of it, in a later group


def peaks_of(checkpoint: Path) -> list[float]:
    """The peak rate of each group of weights, as the checkpoint's schedule has it."""
    schedule = torch.load(checkpoint / SCHEDULER, weights_only=True)
    return [float(rate) for rate in schedule["base_lrs"]]


def keep(plan: Plan, began: float | None) -> Plan:
    """The plan at the rate that the run began with."""
    if began is None or math.isclose(began, plan.learning_rate, rel_tol=1e-9):
        return plan
    reason = f"as the training began; a new one would take {plan.learning_rate:g}"
    resolved = tuple(
        Resolved(name=CHOICE, value=f"{began:g}", reason=f"{reason}, {choice.reason}")
        if choice.name == CHOICE
        else choice
        for choice in plan.resolved
    )
    return replace(plan, learning_rate=began, resolved=resolved)
