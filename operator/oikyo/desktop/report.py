"""The report of a job: one HTML file that needs no network, made from the objects and the workspace."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from oikyo.api import workspace as layout
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import StageStatus
from oikyo.api.modelversion import ModelVersion
from oikyo.controller import reasons
from oikyo.controller.conditions import find, parse
from oikyo.controller.resolve import run_id

from . import curves, figures
from .home import Home, read_json_lines, write_atomic
from .jobs import ending
from .objects import Store

LARGE, SMALL = (720, 260), (340, 180)
"""Sizes of the charts in pixels of a page 720 wide; one line needs less room."""
SPLITS = ("train", "validation", "test")
BAD_ROWS = 20
"""Bad rows that are listed."""


def write_report(job: FineTuneJob, home: Home, output: Path | None = None) -> Path:
    """Write the report and return where."""
    path = output or home.report(job.metadata.name)
    write_atomic(path, render(job, home))
    return path


def render(job: FineTuneJob, home: Home) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("oikyo.desktop"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(short=figures.short, duration=figures.duration)
    version = Store(home).get(ModelVersion, job.status.model_version or "")
    condition = find(job.status.conditions, "Succeeded")
    return environment.get_template("report.html.j2").render(
        job=job,
        status=job.status,
        verdict=_verdict(job),
        sentence=condition.message if condition is not None else "",
        metrics=_metrics(job),
        charts=_charts(home.workspace / layout.stage(run_id(job), "train") / layout.HISTORY),
        data=_data(job, home),
        stages=[_timing(stage) for stage in job.status.stages],
        notes=_trained(job, home).get("notes", []),
        curve=_trained(job, home).get("curve", ""),
        version=version,
        folder=str(home.workspace / version.spec.storage.path) if version else "",
        oikyo_version=_own_version(),
    )


def _own_version() -> str:
    try:
        return metadata.version("oikyo")
    except metadata.PackageNotFoundError:
        return "from a source tree"


def _verdict(job: FineTuneJob) -> str:
    words = {"": job.status.phase or "Pending", reasons.ACCEPTED: "Accepted"}
    return words.get(ending(job), "Rejected" if ending(job) == reasons.GATE_FAILED else "Failed")


@dataclass(frozen=True)
class MetricRow:
    name: str
    value: str
    base: str
    change: str
    better: bool | None


def _metrics(job: FineTuneJob) -> list[MetricRow]:
    rows = []
    for metric in job.status.metrics:
        base = figures.value_of(job.status.baseline, metric.name)
        change, better = figures.change(metric.name, metric.value, base)
        rows.append(MetricRow(metric.name, metric.value, base, change, better))
    return rows


@dataclass(frozen=True)
class Chart:
    title: str
    lines: tuple[tuple[str, str], ...]
    """CSS class and name of each line, for the legend."""
    svg: Markup


def _charts(history: Path) -> list[Chart]:
    """Loss, learning rate, gradient norm and speed over the steps, as far as they were logged."""
    lines = read_json_lines(history)

    def points(key: str) -> list[curves.Point]:
        return [
            (line["step"], line[key]) for line in lines if isinstance(line.get(key), int | float)
        ]

    loss, seen = points("loss"), points("eval_loss")
    return [
        chart
        for chart in (
            _chart(
                "Loss",
                curves.Line("every step", loss, "faint"),
                curves.Line("training, smoothed", curves.smooth(loss), "a"),
                curves.Line("validation", seen, "b", dots=True),
            ),
            _chart(
                "General loss",
                curves.Line("general rows", points("eval_general_loss"), "b", dots=True),
            ),
            _chart("Learning rate", curves.Line("learning rate", points("learning_rate"))),
            _chart("Gradient norm", curves.Line("gradient norm", points("grad_norm"))),
            _chart(
                "Tokens per second", curves.Line("tokens per second", points("tokens_per_second"))
            ),
        )
        if chart.svg
    ]


def _chart(title: str, *lines: curves.Line) -> Chart:
    legend = (
        tuple((line.style, line.name) for line in lines if line.points) if len(lines) > 1 else ()
    )
    # Markup: the SVG is made by this package and escapes its only texts.
    return Chart(
        title, legend, Markup(curves.chart(lines, "step", SMALL if len(lines) == 1 else LARGE))
    )


def _data(job: FineTuneJob, home: Home) -> dict[str, Any] | None:  # JSON of the prepare stage
    """report.json of the data set, with what the page needs beside it."""
    if job.status.dataset is None or job.status.dataset.digest is None:
        return None
    folder = home.workspace / layout.dataset(job.status.dataset.digest)
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    told = report.get("splits", {})
    splits = {name: told[name] for name in SPLITS if name in told}
    bad = report.get("bad_rows", {})
    return {
        "splits": splits,
        "sources": report.get("sources", []),
        "columns": report.get("columns", {}),
        "dropped": _dropped(report),
        "conflicts": report.get("conflicts", {}).get("inputs", 0),
        "bad": bad.get("listed", [])[:BAD_ROWS],
        "bad_count": bad.get("count", 0),
        "notes": report.get("notes", []),
        "labels": _labels(splits),
        "lengths": _lengths(splits),
    }


def _dropped(report: dict[str, Any]) -> list[tuple[str, int]]:
    """Why rows were left out, and how many."""
    told = [(f"bad: {code}", n) for code, n in report.get("bad_rows", {}).get("codes", {}).items()]
    told += [
        (f"cleaning: {one['step']}", one["dropped"])
        for one in report.get("cleaned", [])
        if one["step"] not in ("duplicates", "leaked")
    ]
    names = (("duplicates", "stands twice"), ("leaked", "also stands in the test sources"))
    told += [(why, report.get(key, {}).get("count", 0)) for key, why in names]
    return [(why, count) for why, count in told if count]


def _labels(splits: dict[str, Any]) -> list[tuple[str, list[int], float]]:
    """Label, rows on each side, and its share of the largest label."""
    sides = [side.get("labels", {}) for side in splits.values()]
    rows = {name: [side.get(name, 0) for side in sides] for name in (sides[0] if sides else {})}
    largest = max((sum(counts) for counts in rows.values()), default=1) or 1
    ordered = sorted(rows.items(), key=lambda item: (-sum(item[1]), item[0]))
    return [(name, counts, sum(counts) / largest * 100) for name, counts in ordered]


def _lengths(splits: dict[str, Any]) -> list[tuple[str, int, float]]:
    """Buckets of the length in characters: end, rows of all splits, share of the fullest bucket."""
    buckets: dict[int, int] = {}
    for side in splits.values():
        for bucket in side.get("characters", {}).get("histogram", []):
            buckets[bucket["up_to"]] = buckets.get(bucket["up_to"], 0) + bucket["rows"]
    used = [end for end, count in buckets.items() if count]
    if not used:
        return []
    most = max(buckets.values())
    shown = [end for end in sorted(buckets) if min(used) <= end <= max(used)]
    return [(f"up to {end}", buckets[end], buckets[end] / most * 100) for end in shown]


def _timing(stage: StageStatus) -> tuple[StageStatus, float | None]:
    if stage.started is None or stage.finished is None:
        return stage, None
    return stage, (parse(stage.finished) - parse(stage.started)).total_seconds()


def _trained(job: FineTuneJob, home: Home) -> dict[str, Any]:  # JSON of the train stage
    """What the training said: notes, and what its curves show."""
    path = home.workspace / layout.stage(run_id(job), "train") / layout.RESULT
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return words.get("result") or {}
