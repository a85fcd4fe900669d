"""What happens around the optimizer steps: when to log, validate, save and stop, and who is told.

Three callbacks for transformers' Trainer, which calls them in this order:
Rhythm decides (the same on every rank), Telling reports, Committing makes checkpoints count.
"""

from __future__ import annotations

import errno
import logging
import math
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import TrainerCallback

from oikyo.api.stages import WORKSPACE_FULL, Failure
from oikyo.api.tasks import LOWER_IS_BETTER

from ..progress import Reporter
from .checkpoint import Checkpoints, Saved
from .curve import read
from .distributed import World
from .divergence import check_finite
from .forgetting import excess_at
from .fullvolume import TRY_AGAIN_SECONDS, Ending, free_bytes, is_full, told
from .history import History
from .hyperparameters import Plan
from .stragglers import Stragglers
from .throughput import Speed
from .writebehind import WriteBehind

log = logging.getLogger("oikyo.train")

LOG_SECONDS = 1.0
"""Steps are logged at most this often, beside the ones that are logged anyway."""
PRINT_SECONDS = 10.0
"""A logged step makes a line of the process's log at most this often; a validation always does."""
POINTS_OF_A_RUN = 100
"""Logged steps that a curve has at least, however fast the steps are."""
SECONDS_BETWEEN_AGREEMENTS = 0.5

State = Any  # transformers.TrainerState
Control = Any  # transformers.TrainerControl


class Rhythm(TrainerCallback):
    """Decides at the end of each step. A clock or a signal of one rank moves all ranks or none."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        *,
        validates: bool,
        patience: int | None,
        select_by: str = "loss",
        seconds_between_saves: float = math.inf,
        bound: float | None = None,
    ) -> None:
        self._plan = plan
        self._world = world
        self._validates = validates
        self._patience = patience
        self._select_by = select_by
        self._seconds_between_saves = seconds_between_saves
        self._bound = bound
        self._logged = self._agreed = self._saved = time.monotonic()
        self._next_agreement = 0
        self._overdue = False
        """Whether the gang agreed that the last checkpoint is too long ago."""
        self.stop_requested = False
        """Set by the signal handler of this process."""
        self.stopped = False
        """Whether the gang agreed to stop before the end."""
        self.stopped_early = ""
        """The sentence of early stopping, once it has happened."""

    def on_step_end(self, args: Any, state: State, control: Control, **_: Any) -> None:
        step = state.global_step
        due = step % self._plan.every_steps == 0 or step >= self._plan.total_steps
        slow = self._agree(args.device, step)
        dense = step % max(1, self._plan.total_steps // POINTS_OF_A_RUN) == 0
        if slow or dense or due or self.stopped:
            control.should_log = True
            self._logged = time.monotonic()
        if self.stopped:
            # No validation now: the grace period is short. The next attempt makes up for it.
            control.should_save = control.should_training_stop = True
        elif due:
            control.should_save = True
            control.should_evaluate = self._validates
        elif self._overdue:
            # What is saved was looked at: a checkpoint of weights that are none helps nobody.
            control.should_save = control.should_log = True

    def on_save(self, args: Any, state: State, control: Control, **_: Any) -> None:
        self._saved, self._overdue = time.monotonic(), False

    def save_again_in(self, seconds: float) -> None:
        """Let all ranks save once more after so long; asked by rank 0, from any of its threads."""
        self._saved = min(self._saved, time.monotonic() - self._seconds_between_saves + seconds)

    def _agree(self, device: torch.device, step: int) -> bool:
        """Share what only one rank may know; returns whether a log is due. Skips most fast steps."""
        if step < self._next_agreement:
            return False
        now = time.monotonic()
        taken = max(1e-4, (now - self._agreed) / max(1, step - self._next_agreement + 1))
        since = now - self._saved
        known = [float(self.stop_requested), now - self._logged, taken, since]
        if self._world.size > 1:
            shared = torch.tensor(known, device=device)
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
            known = shared.tolist()
        stride = max(1, int(SECONDS_BETWEEN_AGREEMENTS / known[2]))
        self._agreed, self._next_agreement = now, step + min(stride, 100)
        self.stopped = known[0] > 0
        self._overdue = known[3] >= self._seconds_between_saves
        return known[1] >= LOG_SECONDS

    def on_evaluate(self, args: Any, state: State, control: Control, **_: Any) -> None:
        if self._patience is None:
            return
        lower = self._select_by in LOWER_IS_BETTER
        key, sign = f"eval_{self._select_by}", 1 if lower else -1
        seen = [
            (excess_at(state, e["step"], self._bound), sign * e[key], e["step"])
            for e in state.log_history
            if key in e
        ]
        best, best_step = min(seen)[1:]
        waited = sum(1 for *_, step in seen if step > best_step)
        if waited >= self._patience:
            control.should_training_stop = True
            moved = "fallen below" if lower else "risen above"
            self.stopped_early = (
                f"stopped early at step {state.global_step}: the validation {self._select_by} has not "
                f"{moved} {sign * best:.4g} of step {best_step} in {waited} validations"
            )
            log.info("%s", self.stopped_early)


class Telling(TrainerCallback):
    """Tells progress, keeps the history, and raises Diverged where a number is none."""

    def __init__(
        self, plan: Plan, world: World, reporter: Reporter, history: History, speed: Speed
    ) -> None:
        self._plan = plan
        self._world = world
        self._reporter = reporter
        self._history = history
        self.speed = speed
        self._stragglers = Stragglers(world, reporter)
        self._started = self._since = time.monotonic()
        self._printed = 0.0
        self._first_step = 0
        self.newest: dict[str, float] = {}
        """The newest value of everything that was told."""

    def on_train_begin(self, args: Any, state: State, control: Control, **_: Any) -> None:
        self._started = self._since = time.monotonic()
        self._first_step = state.global_step
        self._stragglers.begin()

    def on_log(
        self,
        args: Any,
        state: State,
        control: Control,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        values = {name: float(logs[name]) for name in VALUES if name in logs}
        check_finite(values, state.global_step, self._world, args.device)
        values |= self.speed.take(args.device, time.monotonic() - self._since)
        self._since = time.monotonic()
        self._stragglers.hear(values, args.device)
        self._tell(state.global_step, values)

    def on_evaluate(
        self,
        args: Any,
        state: State,
        control: Control,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        told = metrics or {}
        values = {name: float(told[name]) for name in told if name.startswith("eval_")}
        check_finite(values, state.global_step, self._world, args.device)
        self._tell(state.global_step, values)
        self._since = time.monotonic()

    def on_save(self, args: Any, state: State, control: Control, **_: Any) -> None:
        self._since = time.monotonic()

    def _tell(self, step: int, values: dict[str, float]) -> None:
        self.newest |= values
        if not self._world.is_first:
            return
        self._history.add(step, **values)
        total, done = self._plan.total_steps, step - self._first_step
        elapsed = time.monotonic() - self._started
        self._reporter.update(
            step=step,
            total_steps=total,
            percentage=100 * step / total,
            remaining_seconds=elapsed / done * (total - step) if done > 0 else None,
            peak_memory_bytes=peak_memory_bytes(),
            **values,
        )
        if "eval_loss" in values and (reading := read(self._history.lines())) is not None:
            self._reporter.notice(reading.kind, reading.sentence)
        if "eval_loss" in values or time.monotonic() - self._printed >= PRINT_SECONDS:
            self._printed = time.monotonic()
            told = " ".join(f"{name}={value:.5g}" for name, value in values.items())
            log.info("step=%d/%d %s", step, total, told)


VALUES = ("loss", "grad_norm", "learning_rate")


class Committing(TrainerCallback):
    """Makes a saved checkpoint count, when every rank has written its part."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        checkpoints: Checkpoints,
        rhythm: Rhythm,
        reporter: Reporter,
        train_rows: int,
        remember: Callable[[int], None] = lambda step: None,
        select_by: str = "loss",
        bound: float | None = None,
    ) -> None:
        self._plan = plan
        self._world = world
        self._bound = bound
        self._checkpoints = checkpoints
        self._rhythm = rhythm
        self._reporter = reporter
        self._train_rows = train_rows
        self._select_by = select_by
        self.save_started = time.monotonic()
        self._remember = remember
        self.behind: WriteBehind | None = None
        self.committed = 0
        """Newest step whose checkpoint counts, of this attempt; the other ranks hear it a save later."""
        self.unwritten: OSError | None = None
        """Why this process could not write its part of the checkpoint at hand."""
        self.trouble: Failure | None = None
        """Why the last checkpoint was given up, until one is written again."""
        self.stalls = 0.0
        """Seconds that the steps waited for checkpoints, all together."""
        self.saves = 0

    def on_save(self, args: Any, state: State, control: Control, **_: Any) -> None:
        failed, committed = self._agree(args.device)
        step = state.global_step
        if not self._world.is_first:
            # The first process has waited for its earlier checkpoint before it came here.
            if committed > self.committed:
                self._remember(committed)
                self.committed = committed
            return
        if failed:
            self.give_up(step, self.unwritten or OSError(errno.ENOSPC, "no room for a part"))
            return
        saved = Saved(
            step=step,
            epoch=float(state.epoch or 0.0),
            rows_seen=self._rows_seen(step),
            final=control.should_training_stop and not self._rhythm.stopped,
            eval_loss=validated_at(state, step, "loss"),
            ranking=ranking_at(state, step, self._select_by),
            excess=excess_at(state, step, self._bound),
        )
        commit = partial(self._commit, saved, self.save_started)
        if self.behind is None:
            self._now(step, commit)
        else:
            self.behind.submit(commit, partial(self.give_up, step))
        self.stalls += time.monotonic() - self.save_started
        self.saves += 1

    def _agree(self, device: torch.device) -> tuple[bool, int]:
        """Wait for all ranks: whether one had no room for its part, and the newest step that counts."""
        known = [int(self.unwritten is not None), self.committed]
        if self._world.size > 1:
            shared = torch.tensor(known, dtype=torch.long, device=device)
            torch.distributed.all_reduce(shared, op=torch.distributed.ReduceOp.MAX)
            known = shared.tolist()
        return known[0] > 0, known[1]

    def give_up(self, step: int, fault: BaseException) -> bool:
        """Live without this checkpoint where only room was missing; False: another fault."""
        if not is_full(fault):
            return False
        folder = self._checkpoints.folder
        needed = self._checkpoints.bytes_of_last() or (self.behind.size() if self.behind else 0)
        self._checkpoints.give_up(step)
        self.unwritten = None
        kept = self._checkpoints.newest_step()
        self.trouble = told(folder, step, needed=needed, free=free_bytes(folder), kept=kept)
        log.warning("%s", self.trouble.message)
        self._reporter.tell(WORKSPACE_FULL, self.trouble)
        self._rhythm.save_again_in(TRY_AGAIN_SECONDS)
        return True

    def _now(self, step: int, commit: Callable[[], None]) -> None:
        try:
            commit()
        except OSError as fault:
            if not self.give_up(step, fault):
                raise

    def ending(self) -> Ending:
        """Where the checkpoints stand, once nothing is being written."""
        if self.behind is not None:
            self.behind.wait()
        return Ending(self.committed, self.trouble, self._rhythm.stop_requested)

    def _commit(self, saved: Saved, started: float) -> None:
        """Make the checkpoint count; on the writing thread where there is one."""
        self._checkpoints.commit(saved)
        self._remember(saved.step)
        self.committed = saved.step
        if self.trouble is not None:
            log.info("there is room again")
            self.trouble = None
            self._reporter.tell(WORKSPACE_FULL, None)
        seconds = time.monotonic() - started
        self._reporter.update(checkpoint_step=saved.step, checkpoint_seconds=seconds)
        log.info("checkpoint step=%d seconds=%.2f", saved.step, seconds)

    def on_evaluate(self, args: Any, state: State, control: Control, **_: Any) -> None:
        """A validation that an earlier attempt had no time for belongs to that checkpoint."""
        step = state.global_step
        if self._world.is_first and not control.should_save:
            if self.behind is not None:
                self.behind.wait()
            if not self._checkpoints.path(step).exists():
                return
            loss = validated_at(state, step, "loss")
            if loss is not None:
                ranking = ranking_at(state, step, self._select_by)
                excess = excess_at(state, step, self._bound)
                stops = control.should_training_stop  # early; no later step may be the best one
                self._checkpoints.set_eval_loss(step, loss, ranking, excess, final=stops)

    def _rows_seen(self, step: int) -> int:
        epochs, steps = divmod(step, self._plan.steps_per_epoch)
        return epochs * self._train_rows + min(steps * self._plan.batch, self._train_rows)


def validated_at(state: State, step: int, metric: str) -> float | None:
    """The `metric` of the validation at `step`, if there was one."""
    key = f"eval_{metric}"
    for entry in reversed(state.log_history):
        if entry.get("step") == step and key in entry:
            return float(entry[key])
    return None


def ranking_at(state: State, step: int, select_by: str) -> float | None:
    """What a checkpoint is ranked by where that is not its loss: less is better."""
    value = None if select_by == "loss" else validated_at(state, step, select_by)
    return value if value is None or select_by in LOWER_IS_BETTER else -value


def peak_memory_bytes() -> int:
    """Most memory that this process has held: of the GPU where there is one, else resident."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts KiB
