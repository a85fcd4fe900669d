"""The learning rate of a head that begins fitted: a share of what the method learns with.

Such a head is near its best when the vectors or factors beside it have not begun, and their rate would lose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.nn import Parameter

SHARE = 1 / 40
"""Of the learning rate; measured on validation rows (docs/reference/methods.md)."""


def slow(optimizer: Any, head: Sequence[Parameter]) -> None:
    """Part the weights of `head` from the others of their groups, with SHARE of the rate.

    The first group stays one of the others: its rate is the one that is logged.
    """
    ours = {id(weight) for weight in head}
    others, slower = [], []
    for group in optimizer.param_groups:
        kept = [weight for weight in group["params"] if id(weight) not in ours]
        taken = [weight for weight in group["params"] if id(weight) in ours]
        others.append({**group, "params": kept})
        slower.append({**group, "params": taken, "lr": group["lr"] * SHARE})
    optimizer.param_groups[:] = [group for group in (*others, *slower) if group["params"]]
