"""Numbers as what a model learns: how they are read, and the scale on which they are learned.

A head that begins at random says numbers around 0; a target of 3,000,000 would take it an epoch to reach.
So it learns how many standard deviations a number is from the mean of the training rows, and whoever
reads its answers takes them back. The scale stands in the model's config.json.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MEAN, STD = "target_mean", "target_std"
"""Where a released config.json has the scale."""
LARGEST = 1e30
"""Magnitude up to which a number is one to learn: its square must be a number too."""
DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of the numbers that a model learned."""

    mean: float
    std: float

    def learned(self, numbers: Any) -> Floats:
        """Numbers as the head says them."""
        return np.asarray((np.asarray(numbers, dtype=np.float64) - self.mean) / self.std)

    def told(self, said: Any) -> Floats:
        """What the head said, in the units of the data."""
        return np.asarray(np.asarray(said, dtype=np.float64) * self.std + self.mean)


def scale_of(numbers: Floats) -> Scale:
    """The scale of these numbers; summed exactly, so that it is the same on every machine."""
    count = max(1, len(numbers))
    mean = math.fsum(numbers) / count
    return Scale(mean, math.sqrt(math.fsum((numbers - mean) ** 2) / count))


def scale_in(config: Any) -> Scale | None:
    """The scale of a model that learned numbers; None: it is none. Any: configurations differ."""
    mean, std = getattr(config, MEAN, None), getattr(config, STD, None)
    return None if mean is None or std is None else Scale(float(mean), float(std))


def put_in(config: Any, scale: Scale) -> None:
    """Write the scale into a config, which is saved with the model."""
    setattr(config, MEAN, scale.mean)
    setattr(config, STD, scale.std)


def number_in(value: Any) -> float:
    """The finite number that `value` is or says; ValueError with the reason when it is none.

    A comma is refused: whether it parts thousands or decimals is nowhere said.
    """
    if isinstance(value, str):
        value = value.strip()
        if not DECIMAL.fullmatch(value):
            hint = "; write a decimal point and no separators" if "," in value else ""
            raise ValueError(f"is no number{hint}")
    elif isinstance(value, bool) or not hasattr(value, "__float__"):
        raise ValueError(f"is of type {type(value).__name__}; expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("is not finite")
    if abs(number) > LARGEST:
        raise ValueError(f"is beyond {LARGEST:g}, too large to learn")
    return number + 0.0  # -0.0 is 0


def text_of(number: float) -> str:
    """The number as text that reads back to it: 3 for 3.0."""
    return repr(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)


def unlike(numbers: Iterable[float]) -> bool:
    """Whether any two of the numbers differ."""
    every = iter(numbers)
    first = next(every, None)
    return any(number != first for number in every)


def scale_stored(manifest: dict[str, Any]) -> Scale | None:
    """The scale that the manifest of a dataset has; None: its rows have no numbers. Any: JSON."""
    told = manifest.get("scale")
    return Scale(float(told["mean"]), float(told["std"])) if told else None
