"""What of a row too long for training is kept: its beginning, its end, both, or nothing of it.

Special tokens that the tokenizer puts around a text stay. Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from oikyo.api.training import LossOn, TrainingSpec, Truncation

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """How rows become tokens and labels."""

    max_length: int
    truncation: Truncation = "End"
    loss_on: LossOn = "Answers"

    @classmethod
    def of(cls, training: TrainingSpec, context: int) -> Reading:
        """As the spec says, for a model that attends to `context` tokens."""
        return cls(min(training.max_length, context), training.truncation, training.loss_on)

    def for_all(self, context: int) -> Reading:
        """For rows that must all be read: one that a training would drop loses its end."""
        kind: Truncation = "End" if self.truncation == "Drop" else self.truncation
        return replace(self, max_length=min(self.max_length, context), truncation=kind)


def kept(length: int, reading: Reading, *, head: int = 0, tail: int = 0) -> Places:
    """Positions that stay of `length` tokens, the first `head` and last `tail` of them always.

    All of them where they fit; none where the row is dropped.
    """
    if length <= reading.max_length:
        return np.arange(length)
    if reading.truncation == "Drop":
        return np.arange(0)
    room = max(0, reading.max_length - head - tail)
    first = {"End": room, "Start": 0, "Middle": room - room // 2}[reading.truncation]
    behind = length - tail - (room - first)
    places = np.concatenate([np.arange(head + first), np.arange(behind, length)])
    return places[: reading.max_length]
