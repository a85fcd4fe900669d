"""Gradients that are poisoned."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from accelerate import Accelerator


def poisoned(at: int, times: int = 1) -> Callable[..., None]:
    """`Accelerator.backward` whose gradients are NaN from the pass number `at` on, `times` times in all.

    Through the loss, not by a hook on a weight: FSDP and ZeRO put others in the weights' place.
    """
    backward, counts = Accelerator.backward, {"passes": 0, "poisoned": 0}

    def factor() -> float:
        counts["passes"] += 1
        if counts["passes"] < at or counts["poisoned"] >= times:
            return 1.0
        counts["poisoned"] += 1
        return float("nan")

    def poison(self: Accelerator, loss: Any, **options: Any) -> None:
        loss.register_hook(lambda gradient: gradient * factor())
        backward(self, loss, **options)

    return poison


def poison_one() -> None:
    """In a gang one process alone meets a poisoned gradient: all must agree."""
    if os.environ["RANK"] == "1":
        Accelerator.backward = poisoned(7)
