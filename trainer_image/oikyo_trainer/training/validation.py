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
from .rows import Source
from .tokenfiles import IGNORED
from .trainers import Steady

Array = npt.NDArray[Any]


def from_all(world: World, parts: list[Array]) -> Array:
    """The rows that all processes measured, one below the other."""
    every = [parts] * world.size
    if world.size > 1:
        torch.distributed.all_gather_object(every, parts)
    return np.concatenate([part for measured in every for part in measured])


class Answers(Steady):
    """Scores of the validation rows, by what the head says of each."""

    source: Source
    _answers: list[Array]
    _truth: list[Array]

    def _scores(self, answers: Array, truth: Array) -> dict[str, float]:
        """Scores of what the head said (rows, outputs), and the labels of the rows."""
        raise NotImplementedError

    def _validation(self) -> dict[str, float]:
        self._answers, self._truth = [], []
        loss = self._validation_loss()
        answers, truth = (from_all(self.world, part) for part in (self._answers, self._truth))
        scores = self._scores(answers, truth)
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


# scikit-learn and scipy are imported where they are used: nothing else of a training needs them.


class Classes(Answers):
    """Accuracy and F1."""

    def _scores(self, answers: Array, truth: Array) -> dict[str, float]:
        from ..evaluation.class_scores import class_scores

        return class_scores(answers, truth)


class Sets(Answers):
    """Accuracy and F1 of rows that may have several labels."""

    def _scores(self, answers: Array, truth: Array) -> dict[str, float]:
        from ..evaluation.class_scores import set_scores

        return set_scores(answers > 0, self.source.members[truth] > 0)


class Numbers(Answers):
    """Errors and correlations, in the units of the data."""

    def _scores(self, answers: Array, truth: Array) -> dict[str, float]:
        from ..evaluation.number_scores import number_scores

        scale = self.source.scale
        assert scale is not None
        return number_scores(scale.told(answers[:, 0]), scale.told(truth))
