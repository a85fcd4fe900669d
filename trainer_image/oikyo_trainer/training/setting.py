"""What is the same for every step of one training, and what was foreseen and chosen for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import TrainSpec

from ..attempt import check_attempt
from ..context import Context
from ..planning.road import expected
from .distributed import World
from .hyperparameters import Plan
from .model import Base
from .replay import GeneralTokens, Replay
from .rows import Source

log = logging.getLogger("oikyo.train")


@dataclass(frozen=True)
class Setting:
    """What is the same for every step of the recipe."""

    spec: TrainSpec
    context: Context
    world: World
    source: Source
    base: Base
    plan: Plan
    folder: Path
    general: GeneralTokens | None = None
    """What the base knew, of training.general."""
    replay: Replay | None = None
    """How much of it an epoch shows; None: nothing."""

    def check_attempt(self) -> None:
        """Raise Stale when a newer attempt has begun; called right before each commit."""
        check_attempt(self.spec, self.context)


def foreseen(setting: Setting, *, copies: bool = False) -> int | None:
    """Bytes that this process will need at most, by the formulas of `planning`.

    `copies`: whether it copies its checkpoints before it writes them.
    """
    spec, plan, folder = setting.spec, setting.plan, setting.base.folder
    return expected(spec, plan, folder, processes=setting.world.size, copies=copies)


def log_choices(world: World, choices: tuple[Resolved, ...]) -> None:
    for choice in choices if world.is_first else ():
        log.info("%s=%s (%s)", choice.name, choice.value, choice.reason)
