"""Preference learning: rows of answers that are compared, and the Trainer whose loss compares them.

A row becomes two sequences: chosen and rejected (DPO, ORPO), or an answer with a vote and the answer of
another row (KTO, for its estimate of the divergence). The base's log-probabilities are computed once,
before the first step, by the very model that is trained: no second copy is held.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from .batches import GroupedSampler, named
from .distributed import World
from .loss import loss_of
from .objectives import dpo_loss, kto_loss, orpo_loss
from .probe import Choice, choose
from .rows import Source, Tokens
from .tokenfiles import IGNORED, TokenRows, open_votes
from .trainers import Steady, batches_of_like_length, silence
from .validation import from_all

Tensors = dict[str, torch.Tensor]
Marked = tuple[Any, Any]  # tokens, and which of them are the answer's
PADDED = "compared answers are padded to the longest of their batch"


@dataclass(frozen=True)
class Compared:
    """One row: two sequences, and whether the first is wanted (always, but for KTO's votes)."""

    pair: tuple[Marked, Marked]
    desirable: bool = True
    learned: bool = True
    """False: a silent row of the sampler's."""


class ComparedRows:
    """The rows of a split with their number, by which the reference is found."""

    def __init__(self, rows: TokenRows, desirable: Any) -> None:
        self._rows = rows
        self._desirable = desirable
        self.lengths = rows.lengths.reshape(-1, 2).sum(axis=1)

    def __len__(self) -> int:
        return len(self._desirable)

    def take(self, rows: npt.NDArray[np.int64]) -> ComparedRows:
        """These rows in this order; the tokens are not copied."""
        pairs = np.stack([2 * rows, 2 * rows + 1], axis=1).ravel()
        return ComparedRows(self._rows.take(pairs), self._desirable[rows])

    def __getitem__(self, number: int) -> dict[str, Any]:
        index, learned = named(number)
        pair = self._rows.marked(2 * index), self._rows.marked(2 * index + 1)
        row = Compared(pair, bool(self._desirable[index]), learned)
        return {"row": row, "number": index, "input_ids": pair[0][0]}


@dataclass(frozen=True)
class ComparedTokens:
    """Both splits."""

    train: ComparedRows
    validation: ComparedRows | None

    @property
    def lengths(self) -> Any:
        return self.train.lengths


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


@dataclass(frozen=True)
class ComparedCollator:
    """B rows -> (2B, T) tokens: all first sequences, then all second ones, padded on the right."""

    pad_token_id: int

    def __call__(self, items: Sequence[dict[str, Any]]) -> Tensors:
        rows = [item["row"] for item in items]
        parts = [row.pair[side] for side in (0, 1) for row in rows]
        shape = (len(parts), max(len(ids) for ids, _ in parts))
        batch = {
            "input_ids": torch.full(shape, self.pad_token_id, dtype=torch.long),
            "attention_mask": torch.zeros(shape, dtype=torch.long),
            "labels": torch.full(shape, IGNORED, dtype=torch.long),
            "desirable": torch.tensor([row.desirable for row in rows]),
            "learned": torch.tensor([row.learned for row in rows]),
            "numbers": torch.tensor([item["number"] for item in items]),
        }
        for place, (ids, answer) in enumerate(parts):
            tokens, length = torch.tensor(ids), len(ids)
            batch["input_ids"][place, :length] = tokens
            batch["attention_mask"][place, :length] = 1
            batch["labels"][place, :length] = torch.where(torch.tensor(answer), tokens, IGNORED)
        return batch | _answers(batch["labels"])


def _answers(labels: torch.Tensor) -> Tensors:
    """Where the answers' tokens are predicted in the flattened (2B, T), the tokens, their sequences.

    Found on the host: a device that is asked for places where something holds is waited for.
    """
    wanted = labels[:, 1:].ne(IGNORED)
    owners, places = wanted.nonzero(as_tuple=True)
    positions = owners * labels.shape[1] + places
    return {"positions": positions, "targets": labels[:, 1:][wanted], "owners": owners}


def answer_log_probabilities(
    model: Any, batch: Tensors, *, fused: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of the answers' log-probabilities, and their tokens: both (2B,), float32."""
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    losses = loss_of(model, inputs, batch["positions"], batch["targets"], fused=fused, each=True)
    sums = torch.zeros(len(batch["labels"]), device=losses.device)
    return sums.index_add(0, batch["owners"], -losses), batch["labels"][:, 1:].ne(IGNORED).sum(1)


class Preferring(Steady):
    """Mixed into transformers' Trainer; one item of a batch is one comparison."""

    loss_is_scaled_for_ga = True
    training_spec: TrainingSpec
    choice: Choice
    references: dict[bool, torch.Tensor]
    """(rows, 2) log-probabilities under the base, of the training (True) and validation rows.

    They stay on the device: to fetch some at each step would wait for it.
    """
    order: GroupedSampler

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row", "number", "input_ids"]

    def _count(self, inputs: Tensors) -> None:
        self.counter.add(inputs["attention_mask"], inputs["labels"][:, 1:].ne(IGNORED))

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.long, device=device)
        for batch in batch_samples:
            total += batch["learned"].sum()
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        return total

    def compute_loss(
        self,
        model: Any,
        inputs: Tensors,
        return_outputs: bool = False,
        num_items_in_batch: Any = 1,
    ) -> torch.Tensor:
        losses = self._losses(model, inputs, self.references[model.training])
        # DDP and DeepSpeed take means over processes: the sum over all is wanted.
        return (losses * inputs["learned"]).sum() * self.world.size / num_items_in_batch

    def _losses(self, model: Any, inputs: Tensors, known: torch.Tensor) -> torch.Tensor:
        """(B,) losses of the objective."""
        spec = self.training_spec
        beta = float(spec.preference.beta)
        sums, tokens = answer_log_probabilities(model, inputs, fused=self.choice.fused)
        first, second = sums.chunk(2)
        if not model.training:
            self._measure(inputs, sums, tokens)
        if spec.objective == "ORPO":
            counts = tokens.chunk(2)
            return orpo_loss(first / counts[0], second / counts[1], beta)
        reference = known.to(sums.device)[inputs["numbers"]]
        if spec.objective == "DPO":
            return dpo_loss(first, second, reference, beta)
        gain, other = first - reference[:, 0], (second - reference[:, 1]).detach()
        divergence = self._divergence(other, inputs["learned"])
        losses = kto_loss(gain, inputs["desirable"], divergence, beta)
        liked = float(spec.preference.desirable_weight)
        disliked = float(spec.preference.undesirable_weight)
        return losses * torch.where(inputs["desirable"], liked, disliked)

    def _measure(self, inputs: Tensors, sums: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keep what the validation's metrics are made of: (B, 3) first sum, second sum, its vote."""
        first, second = sums.chunk(2)
        if self.training_spec.objective == "KTO":  # votes are told by the token
            first = first / tokens.chunk(2)[0].clamp(min=1)
        rows = torch.stack((first, second, inputs["desirable"].to(first.dtype)), 1)
        self._measured.append(rows.double().cpu().numpy())

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

    def _divergence(self, other: torch.Tensor, learned: torch.Tensor) -> torch.Tensor:
        """Mean over the learned rows of all processes' micro-batch, never below 0."""
        counted = learned.to(other.dtype)
        total = torch.stack([(other * counted).sum(), counted.sum()])
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        return (total[0] / total[1]).clamp(min=0)

    def _validation_loss(self) -> float:
        """Mean loss over all rows of the split; every process computes its share."""
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        model.eval()
        total = torch.zeros(2, device=self.args.device)
        batches = self.validation_batches
        with torch.no_grad():
            for first in range(0, len(batches), self.world.size):
                mine = first + self.world.rank
                rows = batches[min(mine, len(batches) - 1)]
                batch = self._prepare_inputs(
                    self.data_collator([self.eval_dataset[row] for row in rows])
                )
                losses = self._losses(model, batch, self.references[False])
                if mine < len(batches):
                    total += torch.stack((losses.sum(), losses.new_tensor(len(rows))))
                else:
                    self._measured.pop()  # another process counts these rows
        if self.world.size > 1:
            torch.distributed.all_reduce(total)
        loss, count = total.tolist()
        return float(loss / max(count, 1))


def make_preferring(
    training: TrainingSpec,
    world: World,
    *,
    model: Any,
    arguments: Any,
    tokenizer: Any,
    train_rows: ComparedRows,
    validation_rows: ComparedRows | None,
    callbacks: list[Any],
) -> tuple[Any, tuple[Resolved, ...]]:
    """The Trainer for training.objective DPO, ORPO or KTO, and how its loss was chosen."""
    from transformers import Trainer

    model.to(arguments.device)
    choice = choose(
        model, tokenizer.pad_token_id, sharded=False, bf16=arguments.bf16, why_padded=PADDED
    )
    collate = ComparedCollator(tokenizer.pad_token_id)
    trainer: Any = type("PreferringTrainer", (Preferring, Trainer), {})(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    silence(trainer)
    trainer.training_spec, trainer.world, trainer.choice = training, world, choice
    size = arguments.per_device_eval_batch_size
    trainer.validation_batches = batches_of_like_length(validation_rows, size)
    trainer.references = {
        learned: reference(trainer, rows, collate, size, world)
        for learned, rows in ((True, train_rows), (False, validation_rows))
        if rows is not None and training.objective != "ORPO"
    }
    for learned in (True, False):
        trainer.references.setdefault(learned, torch.zeros(0, 2))
    return trainer, tuple(choice.resolved())


@torch.no_grad()
def reference(
    trainer: Any, rows: ComparedRows, collate: ComparedCollator, size: int, world: World
) -> torch.Tensor:
    """(rows, 2) log-probabilities under the base, computed before anything is learned."""
    model, device = trainer.model, trainer.args.device
    model.eval()
    found = torch.zeros(len(rows), 2, device=device)
    off = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    with off, torch.autocast(device.type, torch.bfloat16, enabled=trainer.args.bf16):
        for numbers in batches_of_like_length(rows, size)[world.rank :: world.size]:
            batch = {k: v.to(device) for k, v in collate([rows[n] for n in numbers]).items()}
            sums, _ = answer_log_probabilities(model, batch, fused=trainer.choice.fused)
            found[batch["numbers"]] = torch.stack(sums.chunk(2), dim=1)
    if world.size > 1:
        torch.distributed.all_reduce(found)
    return found
