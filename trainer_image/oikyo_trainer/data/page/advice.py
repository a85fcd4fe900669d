"""What to fix first: the report's figures as sentences, the worst first. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from oikyo.api.checks import CHECKS

Report = dict[str, Any]  # JSON, as report.py and insight/overview.py make it
TONES = {"Error": "bad", "Warning": "warn", "Info": "soft"}


@dataclass(frozen=True)
class Advice:
    """One thing to do."""

    severity: str
    what: str
    step: str


def advice(report: Report) -> list[Advice]:
    """Errors, then warnings, then what is only worth knowing."""
    insight = report.get("insight") or {}
    checked = {one["code"] for one in report.get("findings", [])}
    found = [*_refused(report), *_bad(report), *_checks(report), *_insight(insight, checked)]
    if "slices" not in report:  # else the checks small-slice and outcome-skew say it
        found += _slices(slices_of(report) or {})
    return sorted(found, key=lambda one: list(TONES).index(one.severity))


def _refused(report: Report) -> list[Advice]:
    refused = report.get("refused")
    if not refused:
        return []
    return [Advice("Error", refused["message"], refused.get("next_step", ""))]


def _bad(report: Report) -> list[Advice]:
    bad = report.get("bad_rows", {})
    if not bad.get("count"):
        return []
    codes = ", ".join(f"{code} {count}" for code, count in bad.get("codes", {}).items())
    first = next(iter(bad.get("listed", [])), None)
    where = f"the first is {first['file']}:{first['line']}" if first else ""
    return [Advice("Error", f"{_rows(bad['count'])} cannot be used: {codes}", where)]


def _checks(report: Report) -> list[Advice]:
    return [
        Advice(
            one["severity"],
            sentence(one),
            next((e["next_step"] for e in one.get("examples", []) if e.get("next_step")), ""),
        )
        for one in report.get("findings", [])
    ]


def sentence(found: Report) -> str:
    """What a check found, in words; a report of another version may know checks that this one does not."""
    known = CHECKS.get(found["code"])
    rows = f"{found['count']:,} of {found['rows']:,} rows"
    if known is None:
        return f"{found['code']}: {rows}"
    told = f"{rows} {known.description}"
    if found["count"] == 1:
        for many, one in (
            (" rows have ", " rows has "),
            (" rows are ", " rows is "),
            (" rows hold ", " rows holds "),
        ):
            told = told.replace(many, one, 1)
    return told


def _insight(insight: Report, checked: set[str]) -> list[Advice]:
    """What the statistics say and no check in `checked` did."""
    found = []
    errors = insight.get("suspects", {}).get("probable-label-error", {}).get("count", 0)
    if errors and "probable-label-error" not in checked:
        step = "Rank and decide them: oikyo data review DATA -o review.csv"
        found.append(
            Advice("Warning", f"{_rows(errors)} with a label that is probably wrong", step)
        )
    few = (insight.get("classes") or {}).get("few", [])
    if few:
        names = ", ".join(one["label"] for one in few[:3])
        many = "1 class has" if len(few) == 1 else f"{len(few)} classes have"
        what = f"{many} fewer than 10 rows: {names}"
        found.append(Advice("Warning", what, "Add rows of them, or merge them with others"))
    far = insight.get("suspects", {}).get("outlier", {}).get("count", 0)
    if far and "outlier" not in checked:
        found.append(Advice("Info", f"{_rows(far)} near no other row", "Look whether they belong"))
    return found


def slices_of(report: Report) -> Report | None:
    """The slices of the statistics, or those that data.sliceBy asked for."""
    return (report.get("insight") or {}).get("slices") or report.get("slices")


def _slices(groups: Report) -> list[Advice]:
    found = []
    for one in [one for one in groups.get("slices", []) if one["small"]][:5]:
        what = f"{one['column']} = {one['value']} {one['small']}"
        found.append(Advice("Warning", what, "Collect rows of it before judging it"))
    for one in groups.get("skews", [])[:5]:
        step = "Ask why: a real difference, how the rows were collected, or how they were labelled"
        found.append(Advice("Warning", one["says"], step))
    return found


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"
