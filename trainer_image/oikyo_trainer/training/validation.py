"""What a validation measures beside its loss: the metrics that training.selectBy may name.

Mixed into the Trainers; each process measures its batches, and all get the same numbers. The scores
are those of the evaluate stage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .distributed import World
from .tokenfiles import IGNORED
from .trainers import Steady

Array = npt.NDArray[Any]


def from_all(world: World, parts: list[Array]) -> Array:
    """The rows that all processes measured, one below the other."""
    every = [parts] * world.size
    if world.size > 1:
        torch.distributed.all_gather_object(every, parts)
    return np.concatenate([part for measured in every for part in measured])


class Classes(Steady):
    """Accuracy and F1 of the validation rows."""

    members: Array | None
    """(sets, classes): which classes each set holds, where rows may have several; None: one each."""
    _answers: list[Array]
    _truth: list[Array]

    def _validation(self) -> dict[str, float]:
        # scikit-learn, which nothing else needs
        from ..evaluation.class_scores import class_scores, set_scores

        self._answers, self._truth = [], []
        loss = self._validation_loss()
        answers, truth = (from_all(self.world, part) for part in (self._answers, self._truth))
        if self.members is None:
            scores = class_scores(answers, truth)
        else:
            scores = set_scores(answers > 0, self.members[truth] > 0)
        return {"eval_loss": loss, **{f"eval_{name}": value for name, value in scores.items()}}

    def _summed_loss(self, model: Any, inputs: dict[str, Any], items: torch.Tensor) -> torch.Tensor:
        labels = inputs["labels"]
        loss, outputs = self.compute_loss(
            model, inputs, return_outputs=True, num_items_in_batch=items
        )
        known = labels.ne(IGNORED)
        self._answers.append(outputs.logits[known].float().cpu().numpy())
        self._truth.append(labels[known].cpu().numpy())
        summed: torch.Tensor = loss
        return summed
