"""The dashboard: ids, variables, and series that the processes really serve."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.binaries import binary
from oikyo.controller.metrics import Metrics
from oikyo_trainer.metrics import StageMetrics

ROOT = Path(__file__).parents[3]
BOARD = json.loads((ROOT / "charts/oikyo/files/dashboards/oikyo-jobs.json").read_text())
RULES = yaml.safe_load((ROOT / "charts/oikyo/files/alerts.yaml").read_text())
PAGE = (ROOT / "docs/reference/metrics.md").read_text()
SERIES = re.compile(r"\boikyo_[a-z_]+")
PARTS = re.compile(r"_(bucket|sum|count)$")


def expressions() -> list[str]:
    """Every PromQL expression of the dashboard."""
    return [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]


def documented() -> set[str]:
    return set(re.findall(r"^\| `(oikyo_[a-z_]+)` \|", PAGE, re.MULTILINE))


def named_in(expression: str) -> set[str]:
    return {PARTS.sub("", name) for name in SERIES.findall(expression)}


def test_panel_ids_and_titles_are_unique() -> None:
    for field in ("id", "title"):
        values = [panel[field] for panel in BOARD["panels"]]
        assert len(values) == len(set(values))


def test_every_panel_asks_the_chosen_data_source() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    panels: list[dict[str, Any]] = [p for p in BOARD["panels"] if p["type"] != "row"]
    assert [p["title"] for p in panels if p["datasource"] != chosen] == []
    assert [t for p in panels for t in p["targets"] if t["datasource"] != chosen] == []


def test_panels_do_not_overlap_and_stay_on_the_board() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        rows, columns = range(at["y"], at["y"] + at["h"]), range(at["x"], at["x"] + at["w"])
        cells = {(x, y) for y in rows for x in columns}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_variable_that_is_used_is_defined() -> None:
    defined = {variable["name"] for variable in BOARD["templating"]["list"]} | {"__rate_interval"}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps([BOARD["panels"], BOARD["templating"]])))
    assert used - {"__all"} <= defined


def test_every_series_of_dashboard_and_alerts_is_documented() -> None:
    asked = [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
    names = {name for text in (*asked, *expressions()) for name in named_in(text)}
    assert len(names) > 25
    assert names <= documented()


def test_every_series_that_the_processes_serve_is_documented() -> None:
    texts = [Metrics().exposition(), StageMetrics("run", "train").exposition()]
    served = set(re.findall(r"^# TYPE (oikyo_\w+)", b"".join(texts).decode(), re.MULTILINE))
    own = {name for name in served if not name.endswith("_created")}
    assert own
    assert own <= documented()


@pytest.mark.tools
@pytest.mark.parametrize("expression", expressions())
def test_prometheus_can_read_every_expression(expression: str) -> None:
    query = expression.replace("$__rate_interval", "5m")
    command = [str(binary("promtool")), "promql", "format", "--experimental", query]
    read = subprocess.run(command, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
