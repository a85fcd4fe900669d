"""A worker that computes longer than the others is found and named: all of them wait for it at every step.

What a rank does before it has to wait, fetching its rows and going forward, is its own time; the rest
of a step is as long as the slowest makes it. Where a forward pass gathers weights (FSDP, ZeRO3) the
ranks wait within it, and nobody is called slow.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from oikyo.api.stages import SLOW_WORKER, Failure

from ..progress import Reporter
from .distributed import World

FACTOR = 1.5
"""So many times the median of the others is more than the noise between equal machines."""
LEAST_SECONDS = 0.005
"""A smaller difference in a step is not worth a word."""
LASTS_SECONDS = 20.0
"""A pause is no slow worker; nor is one good moment the end of it."""
OWN = ("step_data_seconds", "step_forward_seconds")


@dataclass(frozen=True)
class Slow:
    """The slowest rank against the others, seconds of a step."""

    rank: int
    seconds: float
    others: float


def slow_rank(seconds: Sequence[float], before: int | None = None) -> Slow | None:
    """The rank that stands out among the own times of a step, by rank; None when none does.

    Of several that do it is the one that did `before`, else the slowest.
    """
    ranks = sorted(range(len(seconds)), key=lambda rank: (rank != before, -seconds[rank]))
    for rank in ranks if len(seconds) > 1 else ():
        others = statistics.median([*seconds[:rank], *seconds[rank + 1 :]])
        if seconds[rank] >= FACTOR * others and seconds[rank] - others >= LEAST_SECONDS:
            return Slow(rank, seconds[rank], others)
    return None


class Stragglers:
    """Every rank tells its own time at each logged step; the first one tells the world."""

    def __init__(
        self, world: World, reporter: Reporter, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._world = world
        self._reporter = reporter
        self._clock = clock
        self._names: list[str] = []
        self._found: Slow | None = None
        self._since = clock()
        self._told: int | None = None

    def begin(self) -> None:
        """Learn where the others run; all ranks together."""
        if self._world.size > 1:
            names: list[Any] = [None] * self._world.size
            torch.distributed.all_gather_object(names, socket.gethostname())
            self._names = names

    def hear(self, values: dict[str, float], device: torch.device) -> None:
        """Compare the times of a logged step, which every rank calls with its own."""
        if self._world.size < 2:
            return
        own = torch.zeros(self._world.size, device=device)
        own[self._world.rank] = sum(values.get(name, 0.0) for name in OWN)
        torch.distributed.all_reduce(own)
        if self._world.is_first:
            self.judge(own.tolist())

    def judge(self, seconds: Sequence[float]) -> None:
        """Tell of a rank once it has been the slow one for long, and once it no longer is."""
        before = self._found.rank if self._found is not None else None
        found, now = slow_rank(seconds, before), self._clock()
        if (found.rank if found is not None else None) != before:
            self._since = now
        self._found = found
        if now - self._since < LASTS_SECONDS:
            return
        rank = found.rank if found is not None else None
        if rank != self._told:
            self._told = rank
            self._reporter.tell(SLOW_WORKER, self._trouble(found) if found else None)

    def _trouble(self, slow: Slow) -> Failure:
        name = self._names[slow.rank] if self._names else "?"
        lost = slow.seconds - slow.others
        return Failure(
            kind="Retry",
            reason=SLOW_WORKER,
            message=f"worker {slow.rank} ({name}) is slow: {slow.seconds:.3f} s of a step until it has to "
            f"wait, {slow.others:.3f} s is the median of the others; every step takes about "
            f"{lost:.3f} s longer for it",
            evidence=f"step times of {self._world.size} workers",
            next_step="Look at the node of that pod: kubectl describe pod, kubectl top node. The "
            "training goes on; if the pod is deleted, the next attempt goes on from the newest "
            "checkpoint, on another node where there is one.",
        )
