"""How a job ended: the verdict, the numbers, where things are, what to do next; and the exit code."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelversion import ModelVersion
from oikyo.controller import reasons
from oikyo.controller.conditions import find
from oikyo.controller.policies.forgetting import forgot, next_step
from oikyo.controller.resolve import run_id
from oikyo.desktop.figures import change, short, value_of
from oikyo.desktop.home import Home
from oikyo.desktop.jobs import ending
from oikyo.desktop.objects import Store
from oikyo.desktop.report import write_report

from . import exits

CODES = {
    "": exits.SUSPENDED,
    reasons.ACCEPTED: exits.ACCEPTED,
    reasons.GATE_FAILED: exits.REJECTED,
    reasons.INPUT_REFUSED: exits.REFUSED,
}


def exit_code(job: FineTuneJob) -> int:
    return CODES.get(ending(job), exits.FAILED)


def show_ending(job: FineTuneJob, home: Home, *, again: bool = False) -> None:
    """Print the end of a run; writes the report of a job that was judged."""
    console = Console(highlight=False)
    code = exit_code(job)
    if code == exits.SUSPENDED:
        console.print("suspended; run the same command to go on")
    elif code in (exits.ACCEPTED, exits.REJECTED):
        _judged(console, job, home, again=again)
    else:
        _failed(job, home)


def _judged(console: Console, job: FineTuneJob, home: Home, *, again: bool) -> None:
    accepted = exit_code(job) == exits.ACCEPTED
    name = job.metadata.name
    console.print()
    console.print(
        Text(
            "accepted" if accepted else "rejected", style="bold green" if accepted else "bold red"
        ),
        Text(f"{name}{' (finished earlier)' if again else ''}: {_sentence(job)}"),
    )
    console.print(_gates(job))
    console.print(_metrics(job))
    version = Store(home).get(ModelVersion, job.status.model_version or "")
    if version is not None:
        console.print(
            f"version  {near(home.workspace / version.spec.storage.path)}", soft_wrap=True
        )
    console.print(f"report   {near(write_report(job, home))}", soft_wrap=True)
    if accepted:
        console.print(f"next     oikyo serve {job.model_name}")
    else:
        console.print(f"next     {_next(job)}", soft_wrap=True)


def _next(job: FineTuneJob) -> str:
    """What a rejected job may try; what was forgotten has levers of its own."""
    if forgot(job.status.gates):
        return next_step(job.spec.training)
    return (
        "read the report, then change data or training in a job with a new name, or run it with "
        "--again"
    )


def _sentence(job: FineTuneJob) -> str:
    condition = find(job.status.conditions, "Succeeded")
    return condition.message if condition is not None else ""


def _gates(job: FineTuneJob) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("gate", "value", "threshold", "base", ""):
        table.add_column(column)
    for gate in job.status.gates:
        verdict = Text("pass", style="green") if gate.passed else Text("fail", style="red")
        row = (short(gate.value), short(gate.threshold), short(gate.baseline))
        table.add_row(f"{gate.metric} {gate.rule}", *row, verdict)
    return table


def _metrics(job: FineTuneJob) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("metric", "tuned", "base", "change"):
        table.add_column(column)
    for metric in job.status.metrics:
        base = value_of(job.status.baseline, metric.name)
        step, better = change(metric.name, metric.value, base)
        style = "" if better is None else "green" if better else "red"
        table.add_row(metric.name, short(metric.value), short(base), Text(step, style=style))
    return table


def _failed(job: FineTuneJob, home: Home) -> None:
    """One block on standard error: what, where it shows, what was tried, what to do."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    diagnosis = job.status.diagnosis
    cause = diagnosis.cause if diagnosis is not None else _sentence(job)
    first, *rest = cause.splitlines() or ["failed"]
    console.print(Text("error: ", style="bold red") + Text(first))
    lines = rest
    log = newest_log(job, home)
    if diagnosis is not None:
        if diagnosis.evidence not in ("", "spec"):
            lines += diagnosis.evidence.rstrip().splitlines()
        lines += _findings(job, diagnosis.evidence)
        if diagnosis.next_step:
            lines.append(f"next: {diagnosis.next_step}")
    if log is not None:
        lines.append(f"log: {near(log)}")
    for line in lines:
        console.print(f"       {line}")


def _findings(job: FineTuneJob, said: str) -> list[str]:
    """What was found in the data beside what is `said` already."""
    found = job.status.dataset.findings if job.status.dataset else ()
    return [
        f"{one.severity.lower()}: {one.code}: {one.count} rows; {one.example}"
        for one in found
        if one.severity != "Info" and one.example not in said
    ]


def newest_log(job: FineTuneJob, home: Home) -> Path | None:
    """The log of the last stage that began."""
    if not job.status.stages:
        return None
    last = job.status.stages[-1]
    log = home.log(run_id(job), last.name, last.attempt)
    return log if log.exists() else None


def near(path: Path) -> str:
    """A path as short as it can be from here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
