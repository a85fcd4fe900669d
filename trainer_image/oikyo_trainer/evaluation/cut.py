"""What of a row too long for training is kept: its beginning, its end, both, or nothing of it.

Special tokens that the tokenizer puts around a text stay. Pure numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from oikyo.api.training import LossOn, TrainingSpec, Truncation

from .ragged import Marks, Places, spread


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


def kept(lengths: Places, reading: Reading, *, heads: Places, tail: int = 0) -> Marks:
    """Which tokens stay of rows of these lengths, the first `heads` and last `tail` of them always.

    All of a row that fits; none where it is dropped. The tokens of all rows, one after the other.
    """
    mask = np.ones(int(lengths.sum()), dtype=np.bool_)
    long = np.flatnonzero(lengths > reading.max_length)
    if not len(long):
        return mask
    starts, lengths, heads = (np.cumsum(lengths) - lengths)[long], lengths[long], heads[long]
    mask[spread(starts, lengths)] = False
    if reading.truncation == "Drop":
        return mask
    room = np.maximum(0, reading.max_length - heads - tail)
    first = {"End": room, "Start": 0 * room, "Middle": room - room // 2}[reading.truncation]
    front = np.minimum(heads + first, reading.max_length)
    again = lengths - tail - (room - first)
    mask[spread(starts, front)] = True
    mask[spread(starts + again, np.minimum(reading.max_length - front, lengths - again))] = True
    return mask
