"""How a running job looks: a live table in a terminal, a line for each step of the story elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import Progress
from oikyo.api.stages import RUN_STAGES, StageProgress
from oikyo.controller.conditions import STAGE_CONDITION, find
from oikyo.controller.observed import Observed, StageRun
from oikyo.desktop.figures import duration
from oikyo.desktop.loop import Stop, Watch

MARKS = {
    "Succeeded": ("\N{CHECK MARK}", "green"),
    "Failed": ("\N{MULTIPLICATION X}", "red"),
    "Running": ("\N{BLACK RIGHT-POINTING TRIANGLE}", "cyan"),
}
LINE_SECONDS = 10
"""Least seconds between two plain lines about one stage."""


@contextmanager
def watching(job: FineTuneJob, stop: Stop) -> Iterator[Watch]:
    """Show the job while the block runs."""
    console = Console()
    if not console.is_terminal:
        yield Lines(console)
        return
    console.print(f"[bold]{job.metadata.name}[/]  {job.spec.task} from {job.spec.model.base}")
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        yield lambda current, seen: live.update(picture(current, seen, stop))


def picture(job: FineTuneJob, seen: Observed, stop: Stop) -> Group:
    """The live table of the stages."""
    table = Table.grid(padding=(0, 2))
    for _ in range(5):
        table.add_column(no_wrap=True)
    for stage in RUN_STAGES:
        runs = [run for run in seen.runs if run.stage == stage]
        table.add_row(*_row(job, stage, runs[-1] if runs else None))
    note = Text(_note(job, seen, stop), style="dim")
    return Group(table, note)


def _row(job: FineTuneJob, stage: str, run: StageRun | None) -> tuple[Text | ProgressBar, ...]:
    if run is None:
        empty = Text("")
        return Text("\N{MIDDLE DOT}", style="dim"), Text(stage, style="dim"), empty, empty, empty
    mark, colour = MARKS.get(run.state, ("\N{MIDDLE DOT}", "dim"))
    told = find(job.status.conditions, STAGE_CONDITION[stage])
    if run.state != "Running":
        message = told.message if told is not None and run.state == "Succeeded" else ""
        return (
            Text(mark, style=colour),
            Text(stage),
            Text(_taken(run)),
            Text(message[:100]),
            Text(""),
        )
    progress = run.progress or StageProgress.model_validate({"stage": stage})
    bar = ProgressBar(total=100, completed=progress.progress_percentage, width=24)
    share = f"{progress.progress_percentage:3d} %"
    return (
        Text(mark, style=colour),
        Text(stage),
        Text(_taken(run)),
        bar,
        Text("  ".join(part for part in (share, *facts(progress)) if part)),
    )


def facts(progress: StageProgress | Progress) -> list[str]:
    """Step, losses and the time left, as far as they are known."""
    values = {metric.name: metric.value for metric in progress.metrics}
    told = []
    if progress.step is not None and progress.total_steps:
        told.append(f"step {progress.step}/{progress.total_steps}")
    names = (
        ("loss", "loss"),
        ("eval_loss", "validation loss"),
        ("eval_general_loss", "general loss"),
    )
    told += [f"{words} {values[name]}" for name, words in names if name in values]
    if progress.estimated_remaining_seconds is not None and progress.progress_percentage < 100:
        told.append(f"{duration(progress.estimated_remaining_seconds)} left")
    return told


def _taken(run: StageRun) -> str:
    if run.started is None:
        return ""
    return duration(((run.finished or datetime.now(UTC)) - run.started).total_seconds())


def _note(job: FineTuneJob, seen: Observed, stop: Stop) -> str:
    if not stop.asked:
        trouble = _trouble(seen)
        return f"{trouble}\nCtrl-C suspends" if trouble else "Ctrl-C suspends"
    if any(run.state == "Running" for run in seen.runs):
        return "suspending: a checkpoint is being saved (Ctrl-C again ends at once, without one)"
    return ""


def _trouble(seen: Observed) -> str:
    """What the running stage lives with, and what would mend it."""
    told = (run.progress.trouble for run in seen.runs if run.state == "Running" and run.progress)
    return next((f"{one.message}. {one.next_step}" for one in told if one), "")


class Lines:
    """Plain lines for logs and pipes: each change once, progress now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[tuple[str, int], str] = {}
        self._last_line: dict[str, datetime] = {}
        self._trouble = ""

    def __call__(self, job: FineTuneJob, seen: Observed) -> None:
        for run in seen.runs:
            if self._told.get((run.stage, run.attempt)) != run.state:
                self._told[run.stage, run.attempt] = run.state
                self._print(f"{run.stage} {_state(job, run)}")
                self._last_line[run.stage] = datetime.now(UTC)
            elif run.state == "Running" and run.progress is not None:
                self._advance(run, run.progress)
        if (trouble := _trouble(seen)) != self._trouble:
            self._trouble = trouble
            self._print(trouble or "the trouble is over")

    def _advance(self, run: StageRun, progress: StageProgress) -> None:
        now = datetime.now(UTC)
        if (now - self._last_line[run.stage]).total_seconds() >= LINE_SECONDS:
            self._last_line[run.stage] = now
            self._print(
                f"{run.stage} {progress.progress_percentage} %  " + "  ".join(facts(progress))
            )

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _state(job: FineTuneJob, run: StageRun) -> str:
    attempt = f" (attempt {run.attempt})" if run.attempt > 1 else ""
    if run.state == "Running":
        return f"started{attempt}"
    if run.state == "Failed":
        failure = run.words.failure if run.words is not None else None
        worker = run.workers[0] if run.workers else None
        why = failure.message if failure else worker.message if worker else ""
        if failure is not None and failure.reason == "Stopped":
            return f"{why}{attempt}"  # as it was asked to, for example by Ctrl-C
        return f"failed{attempt}: {why}"
    told = find(job.status.conditions, STAGE_CONDITION[run.stage])
    return f"done in {_taken(run)}: {told.message if told else ''}"
