"""What a training has forgotten: the loss of general rows against what it was before the first step.

Pure. The validation at step 0 is the base's; the entries travel in the Trainer's state, so that a resumed
attempt knows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from oikyo.api.general import GENERAL_LOSS
from oikyo.api.tasks import LOWER_IS_BETTER

EVAL_GENERAL_LOSS = f"eval_{GENERAL_LOSS}"
Entries = Sequence[dict[str, Any]]  # of the Trainer's log history, or of history.jsonl


def before(entries: Entries) -> float | None:
    """The base's general loss; None where it was not measured."""
    return next((float(e[EVAL_GENERAL_LOSS]) for e in entries if EVAL_GENERAL_LOSS in e), None)


def excess_at(state: Any, step: int, bound: float | None) -> float:
    """How far the general loss of `step` stands above its bound; 0 within, or where nothing is asked."""
    base = before(state.log_history)
    at = [e for e in state.log_history if e.get("step") == step and EVAL_GENERAL_LOSS in e]
    if bound is None or base is None or not at:
        return 0.0
    return max(0.0, float(at[-1][EVAL_GENERAL_LOSS]) - base - bound)


def choice(lines: Entries, best_step: int, bound: float, select_by: str) -> Iterator[str]:
    """What the bound made of the choice of the checkpoint, in one sentence."""
    base = before(lines)
    found = {e["step"]: e for e in lines if EVAL_GENERAL_LOSS in e and e["step"] > 0}
    if base is None or best_step not in found:
        return
    rise = {step: float(line[EVAL_GENERAL_LOSS]) - base for step, line in found.items()}
    told = (
        f"step {best_step}, general loss {rise[best_step]:+.4g} against step 0 (bound +{bound:g})"
    )
    if rise[best_step] > bound:
        yield f"best checkpoint: none keeps to the bound, the least rise is that of {told}"
        return
    sign = 1 if select_by in LOWER_IS_BETTER else -1
    other = min(found, key=lambda step: (sign * float(found[step][f"eval_{select_by}"]), step))
    if other == best_step:
        yield f"best checkpoint: {told}"
        return
    last = max(found)
    yield (
        f"best checkpoint: {told}, of {last}; by its {select_by} alone it would have been step {other} with "
        f"{rise[other]:+.4g}"
    )
