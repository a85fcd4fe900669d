"""The train stage with gradients that are poisoned: run as a script in each process of a gang."""

from __future__ import annotations

import os
import sys
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


if __name__ == "__main__":
    from oikyo_trainer.__main__ import main

    if os.environ["RANK"] == "1":  # one process alone: all must agree
        Accelerator.backward = poisoned(7)  # type: ignore[method-assign]
    sys.exit(main())
