"""Preference learning: rows of answers that are compared, and the Trainer whose loss compares them.

A row becomes two sequences: chosen and rejected (DPO, ORPO), or an answer with a vote and the answer of
another row (KTO, for its estimate of the divergence). They are dealt and laid out as the rows of Supervised
are, the two of a row together. The base's log-probabilities are computed once, before the first step, by
the very model that is trained: no second copy is held. Legend: B rows of a micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
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

    def __init__(
        self, sequences: TokenRows, desirable: Any, sides: tuple[int, ...] = (0, 1)
    ) -> None:
        """`sides`: which of a row's two it learns from, and is as long as."""
        self._sequences, self._sides = sequences, sides
        self.desirable = desirable
        """Whether the first sequence of each row is wanted: always, but for KTO's votes."""
        self.lengths = sequences.lengths.reshape(-1, 2)[:, sides].sum(axis=1)
        self.labelled = np.ones(len(desirable), dtype=np.int64)
        """The loss is a mean over rows, however long their answers are."""

    def __len__(self) -> int:
        return len(self.desirable)

    def take(self, rows: npt.NDArray[np.int64]) -> ComparedRows:
        """These rows in this order; the tokens are not copied."""
        pairs = np.stack([2 * rows, 2 * rows + 1], axis=1).ravel()
        return ComparedRows(self._sequences.take(pairs), self.desirable[rows], self._sides)

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
    sides = kind_of(training).sides
    train = ComparedRows(tokens.train, open_votes(folder, "train"), sides)
    if tokens.validation is None:
        return ComparedTokens(train, None)
    votes = open_votes(folder, "validation")
    return ComparedTokens(train, ComparedRows(tokens.validation, votes, sides))


def answer_log_probabilities(
    model: Any, part: MicroBatch, *, fused: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the answers' log-probabilities, and their tokens: both (2, B), float32; 0 of what is not there."""
    losses = loss_of(model, part.inputs, part.positions, part.targets, fused=fused, each=True)
    found = torch.stack((-losses, torch.ones_like(losses)))
    none = torch.zeros(2, 2 * len(part.numbers), device=losses.device)
    sums, tokens = none.index_add(1, part.owners, found).unflatten(1, (2, -1))
    return sums, tokens


class Preferring(WholeSteps):
    """Mixed into transformers' Trainer: learns which of two answers is preferred."""

    sequences = 2
    sides: tuple[int, ...] = (0, 1)
    training_spec: TrainingSpec
    desirable: dict[bool, torch.Tensor]
    """(rows,) whether the first sequence is wanted, of the training (True) and validation rows."""
    references: dict[bool, torch.Tensor]
    """(rows, 2) log-probabilities under the base.

    Both stay on the device: to fetch some at each step would wait for it.
    """

    def _summed(self, model: Any, part: MicroBatch) -> torch.Tensor:
        sums, tokens = answer_log_probabilities(model, part, fused=self.choice.fused)
        if not model.training:
            self._measure(part, sums, tokens)
        return (self._losses(part, sums, tokens, model.training) * (part.numbers >= 0)).sum()

    def _losses(
        self, part: MicroBatch, sums: torch.Tensor, tokens: torch.Tensor, learned: bool
    ) -> torch.Tensor:
        """(B,) losses of the objective; of a row that does not count it is any number."""
        beta = float(self.training_spec.preference.beta)
        if self.training_spec.objective == "ORPO":
            first, second = sums / tokens.clamp(min=1)
            return orpo_loss(first, second, beta)
        return dpo_loss(sums[0], sums[1], self.references[learned][part.numbers], beta)

    def _measure(self, part: MicroBatch, sums: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keep what the validation's metrics are made of: how much likelier each row's first answer is."""
        self._measured.append((sums[0] - sums[1])[part.numbers >= 0].double().cpu().numpy())

    def _validation(self) -> dict[str, float]:
        self._measured: list[Any] = []
        loss = self._validation_loss()
        gaps = from_all(self.world, self._measured)
        return {
            "eval_loss": loss,
            "eval_preference_accuracy": float((gaps > 0).mean()),
            "eval_preference_margin": float(gaps.mean()),
        }


class Voting(Preferring):
    """Learns from votes: an answer by how far it is from the base, against how far the answers of others are.

    That is estimated of the whole step, before anything of it is learned, by the answers of other rows.
    """

    sides = (0,)
    others = (1,)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        model.train()
        self._divergence = self._estimated(model, inputs.others)
        return super().training_step(model, inputs, num_items_in_batch)

    @torch.no_grad()
    def _estimated(self, model: Any, others: Iterable[MicroBatch]) -> torch.Tensor:
        """KL(tuned, base), never below 0: a mean over the counted rows of all processes."""
        total = torch.zeros(2, device=self.args.device)
        for part in others:
            part = part.to(self.args.device)
            sums, _ = answer_log_probabilities(model, part, fused=self.choice.fused)
            gain = sums[0] - self.references[model.training][part.numbers, 1]
            counted = part.numbers >= 0
            total += torch.stack([(gain * counted).sum(), counted.sum()])
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        return (total[0] / total[1]).clamp(min=0)

    def _losses(
        self, part: MicroBatch, sums: torch.Tensor, tokens: torch.Tensor, learned: bool
    ) -> torch.Tensor:
        spec = self.training_spec.preference
        gain = sums[0] - self.references[learned][part.numbers, 0]
        desirable = self.desirable[learned][part.numbers]
        weights = torch.where(
            desirable, float(spec.desirable_weight), float(spec.undesirable_weight)
        )
        return weights * kto_loss(gain, desirable, self._divergence, float(spec.beta))

    def _loss_over(self, rows: ComparedRows) -> float:
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        model.eval()
        layout = replace(self.choice.layout, sides=self.others)
        self._divergence = self._estimated(model, self.dealt(rows, layout))
        return super()._loss_over(rows)

    def _measure(self, part: MicroBatch, sums: torch.Tensor, tokens: torch.Tensor) -> None:
        """(B, 2): log-probability of a token of the answer, for answers differ in length; its vote."""
        rows = torch.stack(
            (sums[0] / tokens[0].clamp(min=1), self.desirable[False][part.numbers]), 1
        )
        self._measured.append(rows[part.numbers >= 0].double().cpu().numpy())

    def _validation(self) -> dict[str, float]:
        self._measured = []
        loss = self._validation_loss()
        rows = from_all(self.world, self._measured)
        wanted = rows[:, 1] > 0
        both = wanted.any() and not wanted.all()
        margin = rows[wanted, 0].mean() - rows[~wanted, 0].mean() if both else 0.0
        return {"eval_loss": loss, "eval_preference_margin": float(margin)}


def kind_of(training: TrainingSpec) -> type[Preferring]:
    """How the objective learns."""
    return Voting if training.objective == "KTO" else Preferring


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
    trainer, resolved = make_whole_steps(kind_of(training), training, plan, world, **parts)
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
        for part in trainer.dealt(rows, replace(trainer.choice.layout, sides=(0, 1))):
            sums, _ = answer_log_probabilities(model, part, fused=trainer.choice.fused)
            found[part.numbers] += sums.T  # nothing where a row does not count
    if trainer.world.size > 1:
        torch.distributed.all_reduce(found)
    return found
