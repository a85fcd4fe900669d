"""Preference learning: rows of answers that are compared, and the Trainer whose loss compares them.

A row becomes two sequences: chosen and rejected (DPO, ORPO), or an answer with a vote and the answer of
another row (KTO, for its estimate of the divergence). They are dealt and laid out as the rows of Supervised
are, the two of a row together. The base's log-probabilities are computed once, before the first step, by
the very model that is trained: no second copy is held. Legend: B rows of a micro-batch.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from oikyo.api.jobstatus import Resolved
from oikyo.api.training import TrainingSpec

from ..errors import Refused
from .distributed import World
from .hyperparameters import Plan
from .loss import loss_of
from .microbatch import MicroBatch
from .objectives import dpo_loss, kto_loss, orpo_loss
from .rows import Source, Tokens
from .supervised import WholeSteps, make_whole_steps
from .tokenfiles import TokenRows, open_votes
from .validation import from_all


class ComparedRows:
    """The rows of a split, each of two sequences: 2n and 2n + 1 are those of row n."""

    def __init__(self, sequences: TokenRows, desirable: Any) -> None:
        self._sequences = sequences
        self.desirable = desirable
        """Whether the first sequence of each row is wanted: always, but for KTO's votes."""
        self.lengths = sequences.lengths.reshape(-1, 2).sum(axis=1)
        self.labelled = np.ones(len(desirable), dtype=np.int64)
        """The loss is a mean over rows, however long their answers are."""

    def __len__(self) -> int:
        return len(self.desirable)

    def take(self, rows: npt.NDArray[np.int64]) -> ComparedRows:
        """These rows in this order; the tokens are not copied."""
        pairs = np.stack([2 * rows, 2 * rows + 1], axis=1).ravel()
        return ComparedRows(self._sequences.take(pairs), self.desirable[rows])

    def __getitem__(self, sequence: int) -> dict[str, Any]:
        return self._sequences[sequence]


@dataclass(frozen=True)
class ComparedTokens:
    """Both splits."""

    train: ComparedRows
    validation: ComparedRows | None


def compare(tokens: Tokens, folder: Path, source: Source, training: TrainingSpec) -> ComparedTokens:
    """The rows of both splits in pairs of sequences; refuses rows of another objective."""
    wanted = "unpaired" if training.objective == "KTO" else "preference"
    if source.shape != wanted:
        raise Refused(
            "WrongShape",
            f"training.objective is {training.objective}, and the prepared rows are of shape "
            f"{source.shape}; it learns from rows of shape {wanted}",
            next_step="Name the columns in data.fields, or write training.objective: Supervised.",
        )
    train = ComparedRows(tokens.train, open_votes(folder, "train"))
    if tokens.validation is None:
        return ComparedTokens(train, None)
    return ComparedTokens(train, ComparedRows(tokens.validation, open_votes(folder, "validation")))


def answer_log_probabilities(
    model: Any, part: MicroBatch, *, fused: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the answers' log-probabilities, and their tokens: both (2, B), float32."""
    losses = loss_of(model, part.inputs, part.positions, part.targets, fused=fused, each=True)
    found = torch.stack((-losses, torch.ones_like(losses)))
    none = torch.zeros(2, 2 * len(part.numbers), device=losses.device)
    sums, tokens = none.index_add(1, part.owners, found).unflatten(1, (2, -1))
    return sums, tokens


class Preferring(WholeSteps):
    """Mixed into transformers' Trainer: learns comparisons."""

    sequences = 2
    training_spec: TrainingSpec
    desirable: dict[bool, torch.Tensor]
    """(rows,) whether the first sequence is wanted, of the training (True) and validation rows."""
    references: dict[bool, torch.Tensor]
    """(rows, 2) log-probabilities under the base.

    Both stay on the device: to fetch some at each step would wait for it.
    """

    def _summed(self, model: Any, part: MicroBatch) -> torch.Tensor:
        return (self._losses(model, part) * (part.numbers >= 0)).sum()

    def _losses(self, model: Any, part: MicroBatch) -> torch.Tensor:
        """(B,) losses of the objective; of a row that does not count it is any number."""
        spec = self.training_spec
        beta = float(spec.preference.beta)
        sums, tokens = answer_log_probabilities(model, part, fused=self.choice.fused)
        desirable = self.desirable[model.training][part.numbers]
        if not model.training:
            self._measure(part, sums, tokens, desirable)
        if spec.objective == "ORPO":
            first, second = sums / tokens.clamp(min=1)
            return orpo_loss(first, second, beta)
        reference = self.references[model.training][part.numbers]
        first, second = sums
        if spec.objective == "DPO":
            return dpo_loss(first, second, reference, beta)
        gain, other = first - reference[:, 0], (second - reference[:, 1]).detach()
        losses = kto_loss(gain, desirable, self._divergence(other, part.numbers >= 0), beta)
        liked = float(spec.preference.desirable_weight)
        disliked = float(spec.preference.undesirable_weight)
        return losses * torch.where(desirable, liked, disliked)

    def _measure(
        self, part: MicroBatch, sums: torch.Tensor, tokens: torch.Tensor, desirable: torch.Tensor
    ) -> None:
        """Keep what the validation's metrics are made of: (B, 3) first sum, second sum, its vote."""
        first, second = sums
        if self.training_spec.objective == "KTO":  # votes are told by the token
            first = first / tokens[0].clamp(min=1)
        rows = torch.stack((first, second, desirable.to(first.dtype)), 1)
        self._measured.append(rows[part.numbers >= 0].double().cpu().numpy())

    def _validation(self) -> dict[str, float]:
        self._measured: list[Any] = []
        loss = self._validation_loss()
        rows = from_all(self.world, self._measured)
        if self.training_spec.objective == "KTO":
            wanted = rows[:, 2] > 0
            both = wanted.any() and not wanted.all()
            margin = rows[wanted, 0].mean() - rows[~wanted, 0].mean() if both else 0.0
            return {"eval_loss": loss, "eval_preference_margin": float(margin)}
        gaps = rows[:, 0] - rows[:, 1]
        return {
            "eval_loss": loss,
            "eval_preference_accuracy": float((gaps > 0).mean()),
            "eval_preference_margin": float(gaps.mean()),
        }

    def _divergence(self, other: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Mean over the counted rows of a micro-batch of all processes, never below 0."""
        total = torch.stack([(other * counted).sum(), counted.sum().to(other.dtype)])
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        return (total[0] / total[1].clamp(min=1)).clamp(min=0)


def make_preferring(
    training: TrainingSpec,
    plan: Plan,
    world: World,
    *,
    train_rows: ComparedRows,
    validation_rows: ComparedRows | None,
    **parts: Any,
) -> tuple[Any, tuple[Resolved, ...]]:
    """The Trainer for training.objective DPO, ORPO or KTO, and how its rows and loss were chosen."""
    parts |= {"train_rows": train_rows, "validation_rows": validation_rows}
    trainer, resolved = make_whole_steps(Preferring, training, plan, world, **parts)
    trainer.training_spec, trainer.desirable, trainer.references = training, {}, {}
    for learned, rows in ((True, train_rows), (False, validation_rows)):
        if rows is not None:
            votes = torch.tensor(np.asarray(rows.desirable, dtype=np.bool_))
            trainer.desirable[learned] = votes.to(trainer.args.device)
            if training.objective != "ORPO":
                trainer.references[learned] = reference(trainer, rows)
    return trainer, resolved


@torch.no_grad()
def reference(trainer: Any, rows: ComparedRows) -> torch.Tensor:
    """(rows, 2) log-probabilities under the base, computed before anything is learned."""
    model, device = trainer.model, trainer.args.device
    model.eval()
    found = torch.zeros(len(rows), 2, device=device)
    off = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    with off, torch.autocast(device.type, torch.bfloat16, enabled=trainer.args.bf16):
        for part in trainer.dealt(rows):
            sums, _ = answer_log_probabilities(model, part, fused=trainer.choice.fused)
            found[part.numbers] += sums.T  # nothing where a row does not count
    if trainer.world.size > 1:
        torch.distributed.all_reduce(found)
    return found
