"""From report.json (with its section `insight`) to one HTML page."""

from __future__ import annotations

from typing import Any

import jinja2

from ..insight.table import ROWS
from . import advice
from .advice import Report, slices_of

PAGE = "report.html"
"""Beside report.json in the folder of the prepare stage."""
CLASSES = 100
"""Classes that the page lists."""
SLICED = ("small-slice", "outcome-skew")
"""Checks whose findings stand in the section of the slices."""
SUSPECTED = ("probable-label-error", "outlier")
"""The same in the sections of the statistics."""
EXAMPLES = 10
"""Rows of each finding that the page lists."""
DROPPED = (
    ("duplicates", "stands twice"),
    ("leaked", "also on the test or validation side"),
    ("contaminated", "item of a benchmark"),
)
SPLITS = ("train", "validation", "test")


def render(name: str, report: Report, manifest: Report) -> str:
    """The page; `manifest` is that of a version, or empty for a file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("oikyo_trainer.data.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    splits = {side: report["splits"][side] for side in SPLITS if side in report.get("splits", {})}
    found = advice.advice(report)
    insight, groups = report.get("insight"), slices_of(report)
    return environment.get_template("data.html.j2").render(
        name=name,
        report=report,
        manifest=manifest,
        insight=insight,
        looked_at=ROWS,
        slices=groups,
        splits=splits,
        verdict=_verdict(found),
        advice=found,
        tones=advice.TONES,
        sentence=advice.sentence,
        told_below=(*(SLICED if groups else ()), *(SUSPECTED if insight else ())),
        dropped=_dropped(report),
        cleaned=_cleaned(report),
        findings=report.get("findings", []),
        classes=_classes(splits),
        numbers=_numbers(splits),
        lengths=_lengths(splits),
        shown=EXAMPLES,
        most=CLASSES,
    )


def _verdict(found: list[advice.Advice]) -> tuple[str, str]:
    """A word and its CSS class."""
    severities = {one.severity for one in found}
    if "Error" in severities:
        return "Mend first", "bad"
    if "Warning" in severities:
        return "Worth a look", "warn"
    return "Within the limits" if found else "Nothing found", "good"


def _dropped(report: Report) -> list[tuple[str, int, list[str]]]:
    """Why rows are left out, how many, and where the first stand."""
    bad = report.get("bad_rows", {})
    places: dict[str, list[str]] = {}
    for row in bad.get("listed", []):
        places.setdefault(row["code"], []).append(f"{row['file']}:{row['line']}")
    told = [(code, count, places.get(code, [])) for code, count in bad.get("codes", {}).items()]
    for key, why in DROPPED:
        part = report.get(key, {})
        told.append((why, part.get("count", 0), part.get("examples", [])))
    for step in _cleaned(report):
        first = [
            f"{row['file']}:{row['line']}" for row in step["examples"] if row["action"] == "dropped"
        ]
        told.append((f"cleaning: {step['step']}", step["dropped"], first))
    return [(why, count, where[:3]) for why, count, where in told if count]


def _cleaned(report: Report) -> list[Report]:
    """The steps of the cleaning but for those that the dropped rows tell already."""
    steps = report.get("cleaned", [])
    return [one for one in steps if one["step"] not in ("duplicates", "leaked")]


def _classes(splits: dict[str, Any]) -> list[tuple[str, list[int], float]]:
    """Label, rows on each side, and its share of the largest, the largest first."""
    sides = [side.get("labels", {}) for side in splits.values()]
    names = sides[0] if sides else {}
    rows = {name: [side.get(name, 0) for side in sides] for name in names}
    largest = max((sum(counts) for counts in rows.values()), default=1) or 1
    ordered = sorted(rows.items(), key=lambda item: (-sum(item[1]), item[0]))
    return [(name, counts, sum(counts) / largest * 100) for name, counts in ordered]


def _numbers(splits: dict[str, Any]) -> list[tuple[str, list[int], float]]:
    """Buckets of the numbers: end, rows on each side, share of the fullest."""
    sides = [side["numbers"]["histogram"] for side in splits.values() if "numbers" in side]
    if not sides:
        return []
    # The last bucket is open; each side ends it at its own greatest.
    rows = [[bucket["rows"] for bucket in buckets] for buckets in zip(*sides, strict=True)]
    ends = [bucket["up_to"] for bucket in sides[0]]
    names = [*(f"up to {end:g}" for end in ends[:-1]), "above"]
    most = max(sum(counts) for counts in rows) or 1
    return [(n, counts, sum(counts) / most * 100) for n, counts in zip(names, rows, strict=True)]


def _lengths(splits: dict[str, Any]) -> list[tuple[str, int, float]]:
    """Buckets of the length in characters: end, rows of all sides, share of the fullest."""
    buckets: dict[int, int] = {}
    for side in splits.values():
        for bucket in side.get("characters", {}).get("histogram", []):
            buckets[bucket["up_to"]] = buckets.get(bucket["up_to"], 0) + bucket["rows"]
    used = [end for end, count in buckets.items() if count]
    if not used:
        return []
    most = max(buckets.values())
    shown = [end for end in sorted(buckets) if min(used) <= end <= max(used)]
    return [(f"up to {end:,}", buckets[end], buckets[end] / most * 100) for end in shown]
