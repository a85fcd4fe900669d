"""A job as one picture for the terminal: stages, progress, the curve so far, and why it waits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import Progress, StageStatus
from oikyo.api.stages import RUN_STAGES
from oikyo.controller.conditions import STAGE_CONDITION, find, parse
from oikyo.desktop.figures import duration, short, value_of
from oikyo.following.place import Point

from .progress import MARKS, facts

BARS = "".join(chr(0x2581 + height) for height in range(8))
"""Lower one eighth block to full block."""
WIDTH = 48
"""Characters of a curve, where there is room."""
NARROW = 64
"""Columns below which bars and states, which marks say too, leave their room to the words."""
CURVES = (
    ("loss", "loss"),
    ("eval_loss", "validation loss"),
    ("eval_general_loss", "general loss"),
)
"""What of a training is drawn, and what it is called."""
DRAWN = tuple(name for name, _ in CURVES)
TOLD = (
    ("learning_rate", "learning rate", 1.0, ""),
    ("grad_norm", "gradient norm", 1.0, ""),
    ("tokens_per_second", "", 1.0, " tokens/s"),
    ("flops_utilization", "utilization", 100.0, " %"),
    ("padding_share", "padding", 100.0, " %"),
    ("peak_memory_bytes", "peak", 1e-9, " GB"),
    ("checkpoint_step", "checkpoint at step", 1.0, ""),
)
"""Metric, words before it, factor, words behind it; of a running training."""


def portrait(job: FineTuneJob, curve: Sequence[Point], now: datetime, width: int = 80) -> Group:
    """Everything that the status says, as far as a person who waits wants it, in `width` columns."""
    status = job.status
    parts: list[RenderableType] = [_title(job, now), _stages(job, now, narrow=width < NARROW)]
    drawn = (_curve(curve, name, words, width) for name, words in CURVES)
    parts += [line for line in drawn if line is not None]
    if (told := _told(status.progress)) is not None:
        parts.append(Text(told, style="dim"))
    for stage in status.stages:
        if stage.message:
            parts.append(Text(f"{stage.name}: {stage.message}", style="yellow"))
    if status.diagnosis is not None:
        parts.append(Text(status.diagnosis.cause, style="bold red"))
        parts.append(Text(f"next: {status.diagnosis.next_step}"))
    elif (end := find(status.conditions, "Succeeded")) is not None and end.status != "Unknown":
        parts.append(Text(end.message, style="bold green" if end.status == "True" else "bold red"))
    return Group(*parts)


def _title(job: FineTuneJob, now: datetime) -> Text:
    status = job.status
    title = Text(job.metadata.name, style="bold")
    title.append(f"  {job.spec.task} from {job.spec.model.base}  ", style="not bold")
    title.append(status.phase or "Pending", style="bold cyan")
    if status.start_time:
        end = parse(status.completion_time) if status.completion_time else now
        title.append(f"  {duration((end - parse(status.start_time)).total_seconds())}")
    return title


def _stages(job: FineTuneJob, now: datetime, *, narrow: bool) -> Table:
    table = Table.grid(padding=(0, 2))
    for _ in range(3 if narrow else 4):
        table.add_column(no_wrap=True)
    table.add_column()  # the one that is broken into lines, so that none of the others shrinks
    found = {stage.name: stage for stage in job.status.stages}
    for name in RUN_STAGES:
        *begin, picture, words = _row(job, name, found.get(name), now)
        table.add_row(*begin, *(() if narrow else (picture,)), words)
    return table


def _row(
    job: FineTuneJob, name: str, stage: StageStatus | None, now: datetime
) -> tuple[RenderableType, ...]:
    if stage is None:
        return Text("\N{MIDDLE DOT}", style="dim"), Text(name, style="dim"), "", "", ""
    mark, colour = MARKS.get(stage.state, ("\N{MIDDLE DOT}", "dim"))
    attempt = f" #{stage.attempt}" if stage.attempt > 1 else ""
    begin = (Text(mark, style=colour), Text(name + attempt), _taken(stage, now))
    progress = job.status.progress
    if stage.state == "Running" and progress is not None and progress.stage == name:
        bar = ProgressBar(total=100, completed=progress.progress_percentage, width=24)
        share = f"{progress.progress_percentage:3d} %"
        return (*begin, bar, "  ".join((share, *facts(progress))))
    told = find(job.status.conditions, STAGE_CONDITION[name])
    message = told.message if told is not None and stage.state != "Running" else ""
    return (*begin, Text(stage.state, style=colour), message)


def _taken(stage: StageStatus, now: datetime) -> str:
    if stage.started is None:
        return ""
    end = parse(stage.finished) if stage.finished else now
    return duration((end - parse(stage.started)).total_seconds())


def _curve(curve: Sequence[Point], name: str, words: str, width: int) -> Text | None:
    values = [float(point[name]) for point in curve if name in point]
    if len(values) < 2:
        return None
    line = Text(f"{words:>15} ", style="dim")
    told = f"  {values[0]:.4g} -> {values[-1]:.4g}, least {min(values):.4g}"
    line.append(spark(values, max(8, min(WIDTH, width - len(line) - len(told)))), style="cyan")
    return line.append(told)


def spark(values: Sequence[float], width: int = WIDTH) -> str:
    """The values as a row of bars, highest for the largest; neighbours are averaged to fit `width`."""
    count = min(width, len(values))
    edges = [round(index * len(values) / count) for index in range(count + 1)]
    means = [sum(values[low:high]) / (high - low) for low, high in pairwise(edges)]
    low, high = min(means), max(means)
    step = (high - low) / (len(BARS) - 1) or 1.0
    return "".join(BARS[round((mean - low) / step)] for mean in means)


def _told(progress: Progress | None) -> str | None:
    if progress is None or progress.stage != "train":
        return None
    told = []
    for name, before, factor, behind in TOLD:
        if value := value_of(progress.metrics, name):
            number = short(str(float(value) * factor))
            told.append(f"{before} {number}{behind}".strip())
    return "   ".join(told) or None


def one_line(job: FineTuneJob) -> str:
    """For logs and pipes."""
    status, progress = job.status, job.status.progress
    parts: list[str] = [status.phase or "Pending"]
    if progress is not None and progress.stage:
        parts += [f"{progress.stage} {progress.progress_percentage} %", *facts(progress)]
    return "  ".join(parts)


def now() -> datetime:
    return datetime.now(UTC)
