"""General rows in a training: some are measured at each validation, others are mixed into the epochs.

Replay (rehearsal) is the oldest remedy against forgetting, and a few percent go far: Scialom et al. 2022 keep
earlier tasks with 1 %, Ibrahim et al. 2024 a pre-training with 5 %. The mixed rows are part of the one order
of rows, a function of (seed, epoch): packing, gangs, folds and resumed attempts know no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from oikyo.api.general import General
from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import TrainSpec

from .rows import Tokens, open_tokens
from .tokenfiles import TokenRows


class Mixed(TokenRows):
    """Rows of text of several files, one part after the other."""

    def __init__(self, parts: Sequence[TokenRows]) -> None:
        counts = [len(part) for part in parts]
        self._parts = parts
        self._of = np.repeat(np.arange(len(parts)), counts)
        self._place = np.concatenate([np.arange(count) for count in counts])
        self._labelled = np.concatenate([part.labelled for part in parts])
        self.lengths = np.concatenate([part.lengths for part in parts])

    def take(self, rows: npt.NDArray[np.int64]) -> Mixed:
        taken = copy(self)
        taken._of, taken._place = self._of[rows], self._place[rows]
        taken._labelled, taken.lengths = self.labelled[rows], self.lengths[rows]
        return taken

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self._parts[self._of[row]][int(self._place[row])]

    def marked(self, row: int) -> tuple[Any, Any]:
        return self._parts[self._of[row]].marked(int(self._place[row]))


@dataclass(frozen=True)
class GeneralTokens:
    """The general rows of a training, as tokens."""

    asked: General
    measured: TokenRows
    """At each validation."""
    replayable: TokenRows


def open_general(workspace: Path, spec: TrainSpec) -> GeneralTokens | None:
    """What the prepare stage made of training.general; None without it."""
    asked, made = spec.training.general, spec.general
    if asked is None or made is None:
        return None
    names = {"dataset_digest": made.dataset_digest, "tokens_digest": made.tokens_digest}
    tokens = open_tokens(workspace, spec.model_copy(update=names))
    assert tokens.validation is not None  # prepare has seen to it
    most = min(asked.max_rows, len(tokens.validation))
    return GeneralTokens(asked, tokens.validation.take(np.arange(most)), tokens.train)


@dataclass(frozen=True)
class Replay:
    """How many general rows an epoch shows."""

    rows: int
    of: int
    """General rows that may be shown."""
    share: str
    epoch: int
    """All rows of an epoch."""

    def sentence(self) -> str:
        often = "" if self.rows <= self.of else f", each {self.rows / self.of:.1f} times"
        return (
            f"replay {float(self.share):.3g}: {self.rows} general rows ({self.of} different ones there"
            f"{often}) in each epoch of {self.epoch} rows"
        )

    def resolved(self) -> Resolved:
        reason = self.sentence().partition(": ")[2]
        return Resolved(name="training.general.replay", value=self.share, reason=reason)


def replayed(share: str, learned: int) -> int:
    """General rows beside `learned` rows of the task, so that they are `share` of all."""
    part = Fraction(share)
    return round(learned * part / (1 - part))


def mix(tokens: Tokens, general: GeneralTokens | None) -> tuple[Tokens, Replay | None]:
    """`tokens` with general rows after those to learn, the first by content, again where they are few."""
    if general is None:
        return tokens, None
    wanted = replayed(general.asked.replay, len(tokens.train))
    if not wanted:
        return tokens, None
    there = len(general.replayable)
    shown = general.replayable.take(np.arange(wanted) % there)
    mixed = replace(tokens, train=Mixed((tokens.train, shown)))
    return mixed, Replay(wanted, min(wanted, there), general.asked.replay, len(mixed.train))
