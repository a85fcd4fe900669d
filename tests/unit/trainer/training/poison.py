"""The train stage with a gradient that is poisoned once: run as a script in each process of a gang."""

from __future__ import annotations

import os
import sys
from typing import Any

import oikyo_trainer.training.running as recipe


def poison(model: Any, *, at: int, times: int = 1) -> None:
    """Make a gradient of `model` NaN in its backward pass number `at`, `times` times in all."""
    weight = next(p for p in model.parameters() if p.requires_grad)
    weight.register_hook(lambda gradient: gradient * _factor(at, times))


_counts = {"backward": 0, "poisoned": 0}


def _factor(at: int, times: int) -> float:
    _counts["backward"] += 1
    if _counts["backward"] < at or _counts["poisoned"] >= times:
        return 1.0
    _counts["poisoned"] += 1
    return float("nan")


def poisoned(at: int, times: int = 1) -> Any:
    """`running._model`, whose models are poisoned."""
    _counts.update(backward=0, poisoned=0)
    make = recipe._model

    def made(setting: Any) -> Any:
        model = make(setting)
        poison(model, at=at, times=times)
        return model

    return made


if __name__ == "__main__":
    from oikyo_trainer.__main__ import main

    if os.environ["RANK"] == "1":  # one process alone: all must agree
        recipe._model = poisoned(7)
    sys.exit(main())
