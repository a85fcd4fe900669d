"""The Trainer of rows that a head answers: with one class, with several, or with a number.

Each kind is a loss over the rows of a step, and the scores of a validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from .batches import Collator, HeadedRows
from .rows import Source
from .tokenfiles import IGNORED
from .trainers import Steady, batches_of_like_length, silence
from .validation import Classes, Numbers, Sets


def class_loss(
    outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None, *, smoothing: float = 0.0
) -> torch.Tensor:
    """Cross entropy (B, classes) -> (), as a share of the whole step's mean; smoothed while learning.

    BertForSequenceClassification and its like accept `num_items_in_batch` and take the mean of their
    micro-batch all the same, while the Trainer scales for a sum (transformers 5.23): gradients would
    grow with the ranks and with accumulation.
    """
    items = labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
    summed = torch.nn.functional.cross_entropy(
        outputs.logits.float(),
        labels,
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing if torch.is_grad_enabled() else 0.0,
    )
    return summed / items


def several_loss(
    outputs: Any,
    labels: torch.Tensor,
    num_items_in_batch: Any = None,
    *,
    members: torch.Tensor,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Binary cross entropy, a mean over the classes of a row, as a share of the step's mean.

    labels (B,) number rows of `members` (sets, classes), which holds 1 where a set has the class.
    """
    known = labels.ne(IGNORED)
    items = known.sum() if num_items_in_batch is None else num_items_in_batch
    targets = members.to(labels.device)[labels.clamp(min=0)]
    if torch.is_grad_enabled():
        targets = targets * (1 - smoothing) + smoothing / 2
    losses = torch.nn.functional.binary_cross_entropy_with_logits(
        outputs.logits.float(), targets, reduction="none"
    ).mean(1)
    return (losses * known).sum() / items


def number_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Squared error in standard deviations (B, 1) -> (), as a share of the whole step's mean."""
    known = labels.ne(IGNORED)
    items = known.sum() if num_items_in_batch is None else num_items_in_batch
    errors = (outputs.logits[:, 0].float() - labels).square()
    return (errors * known).sum() / items


def make_headed(
    *,
    model: Any,
    arguments: Any,
    tokenizer: Any,
    train_rows: Any,
    validation_rows: Any,
    callbacks: list[Any],
    source: Source,
) -> Any:
    """A Trainer for classes or numbers."""
    from transformers import Trainer

    parts = _learning(source, arguments.label_smoothing_factor)
    trainer = type("SteadyTrainer", (parts.validates, Trainer), {})(
        model=model,
        args=arguments,
        data_collator=Collator(tokenizer.pad_token_id, source.scale),
        train_dataset=HeadedRows(train_rows),
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        callbacks=callbacks,
        compute_loss_func=parts.loss,
    )
    trainer.source = source
    size = arguments.per_device_eval_batch_size
    trainer.validation_batches = batches_of_like_length(validation_rows, size)
    silence(trainer)
    return trainer


@dataclass(frozen=True)
class _Learning:
    """What a Trainer does with the answers of a head."""

    loss: Callable[..., torch.Tensor]
    validates: type[Steady]


def _learning(source: Source, smoothing: float) -> _Learning:
    if source.scale is not None:
        return _Learning(number_loss, Numbers)
    if not source.several:
        return _Learning(partial(class_loss, smoothing=smoothing), Classes)
    members = torch.from_numpy(source.members)
    return _Learning(partial(several_loss, members=members, smoothing=smoothing), Sets)
