"""A training whose numbers are no numbers any more: back to the last good checkpoint, with half the rate.

`Telling` raises Diverged in all processes at the same step; `train` asks Rollbacks what comes next. What
was done stands in rollbacks.json of the run, so that every later attempt keeps the smaller rate.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter
from transformers import TrainerCallback

from oikyo.api.jobstatus import Resolved

from ..errors import Refused
from ..files import write_atomic
from .distributed import World
from .hyperparameters import Plan

log = logging.getLogger("oikyo.train")

NAME = "rollbacks.json"
MOST = 3
"""Rollbacks of one run; what still diverges at an eighth of its rate is no matter of the rate."""
FACTOR = 0.5


class Diverged(Exception):
    """A number of the training is NaN or infinite; nothing of it is saved."""

    def __init__(self, name: str, value: float, step: int) -> None:
        super().__init__(f"{name} is {value} at step {step}")
        self.name, self.value, self.step = name, value, step


class Rollback(BaseModel):
    """One return to a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    step: int
    """Where the training diverged."""
    what: str
    """The number that was none, for example `grad_norm is nan`."""
    back_to: int
    """The checkpoint's step; 0: the beginning."""
    rate: float
    """Peak learning rate before."""
    attempt: int

    def sentence(self, number: int) -> str:
        """What happened and what was done, for people."""
        where = f"the checkpoint of step {self.back_to}" if self.back_to else "the beginning"
        return (
            f"diverged at step {self.step} ({self.what}): rolled back to {where}, learning rate "
            f"{self.rate:g} -> {self.rate * FACTOR:g} ({number} of at most {MOST} times)"
        )


_FILE = TypeAdapter(tuple[Rollback, ...])


class Rollbacks:
    """The rollbacks of a run, over all its attempts."""

    def __init__(self, folder: Path, before_commit: Callable[[], None] = lambda: None) -> None:
        self._path = folder / NAME
        self._before_commit = before_commit
        self.done: tuple[Rollback, ...] = ()
        if self._path.exists():
            self.done = _FILE.validate_json(self._path.read_bytes())

    def add(self, rollback: Rollback, *, write: bool) -> str:
        """Keep it, for later attempts where this process is the one to `write`; returns its sentence."""
        self.done = (*self.done, rollback)
        if write:
            self._before_commit()
            write_atomic(self._path, _FILE.dump_json(self.done, indent=1).decode())
        return rollback.sentence(len(self.done))

    def sentences(self) -> tuple[str, ...]:
        return tuple(one.sentence(number) for number, one in enumerate(self.done, 1))


def slowed(plan: Plan, rollbacks: int) -> Plan:
    """The plan at the rate that so many rollbacks left."""
    if not rollbacks:
        return plan
    rate = plan.learning_rate * FACTOR**rollbacks
    times = "once" if rollbacks == 1 else f"{rollbacks} times"
    resolved = tuple(
        Resolved(
            name=choice.name,
            value=f"{rate:g}",
            reason=f"{choice.reason}; halved {times}, because the training diverged",
        )
        if choice.name == "training.learningRate"
        else choice
        for choice in plan.resolved
    )
    return replace(plan, learning_rate=rate, resolved=resolved)


def refuse(diverged: Diverged, plan: Plan, rollbacks: int) -> None:
    """End the run once its rollbacks are used up."""
    if rollbacks < MOST:
        return
    raise Refused(
        "Diverged",
        f"{diverged}: training has diverged, {rollbacks} rollbacks with half the learning rate each "
        "did not help",
        evidence=f"learning rate {plan.learning_rate:g}, step {diverged.step} of {plan.total_steps}",
        next_step="Lower the learning rate: write training.learningRate: "
        f'"{plan.learning_rate / 10:g}". Where that diverges too, look for rows that are no text.',
    )


def check_finite(
    values: Mapping[str, float], step: int, world: World, device: torch.device
) -> None:
    """Raise Diverged, in every process or in none, where a value of any of them is no number."""
    bad = [(name, value) for name, value in values.items() if not math.isfinite(value)]
    if world.size > 1:
        flag = torch.tensor(float(bool(bad)), device=device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        if flag.item() and not bad:
            bad = [("a value of another process", math.nan)]
    if bad:
        raise Diverged(*bad[0], step)


class SmallerRate(TrainerCallback):
    """A checkpoint brings the rate that it was saved with: the plan's rate is put in its place."""

    def __init__(self, rate: float) -> None:
        self._rate = rate

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        **_: Any,
    ) -> None:
        scheduler = getattr(lr_scheduler, "scheduler", lr_scheduler)  # as accelerate wraps it
        # Of all by as much: a head that began fitted has a share of the rate, in a later group.
        smaller = self._rate / scheduler.base_lrs[0]
        for place, group in enumerate(optimizer.param_groups):
            scheduler.base_lrs[place] *= smaller
            group["initial_lr"] = scheduler.base_lrs[place]
            group["lr"] *= smaller
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]  # what is logged
        log.info("learning_rate=%g after rollbacks", self._rate)
