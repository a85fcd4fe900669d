"""Whether two models differ on the same rows by more than chance. Pure numpy and scipy.

McNemar's exact test (McNemar 1947; Dietterich 1998) over the rows on which one model is right and the other
is not; the paired bootstrap (Efron and Tibshirani 1993, chapter 13) for the interval of a difference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
SAMPLES = 2000
SEED = 20260102
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """One metric of both models, and how far the difference would stray on other rows of this kind."""

    name: str
    one: float
    other: float
    low: float
    high: float
    higher_is_better: bool = True

    @property
    def by_chance(self) -> bool:
        """Whether no difference lies within the interval."""
        return self.low <= 0 <= self.high


@dataclass(frozen=True)
class Discordant:
    """Rows on which one of the two alone is right."""

    one: int
    other: int

    @property
    def p(self) -> float:
        """Two-sided exact probability of so uneven a count by chance."""
        total = self.one + self.other
        return float(binomtest(self.one, total).pvalue) if total else 1.0


def discordant(one: Mask, other: Mask) -> Discordant:
    return Discordant(int((one & ~other).sum()), int((other & ~one).sum()))


def difference(
    name: str, count: int, metric: Callable[[Ints], tuple[float, float]], *, higher_is_better: bool
) -> Difference:
    """`metric` gives the value of both models over chosen rows, with repetitions; `count` rows there are."""
    every = np.arange(count)
    one, other = metric(every)
    draw = np.random.Generator(np.random.PCG64(SEED))
    strays = np.empty(SAMPLES)
    for number in range(SAMPLES):
        first, second = metric(draw.integers(0, count, count))
        strays[number] = first - second
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(strays, [tail, 1 - tail])
    return Difference(name, one, other, float(low), float(high), higher_is_better)


def macro_f1(truth: Ints, guess: Ints, classes: int) -> float:
    """Mean F1 over the classes that `truth` holds; as scikit-learn's, and fast enough to resample."""
    true = np.bincount(truth, minlength=classes)
    said = np.bincount(guess, minlength=classes)
    hits = np.bincount(truth[truth == guess], minlength=classes)
    held = true > 0
    return float((2 * hits[held] / (true[held] + said[held])).mean())
