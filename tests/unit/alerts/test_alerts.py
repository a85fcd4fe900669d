"""The alerts, judged by the real promtool, and the page that says what to do about each."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kit.binaries import binary

ROOT = Path(__file__).parents[3]
RULES = ROOT / "charts/oikyo/files/alerts.yaml"
SCENES = Path(__file__).parent / "rules_test.yaml"
RUNBOOK = ROOT / "docs/reference/alerts.md"


def alerts() -> list[dict[str, Any]]:
    return [
        rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    ]


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(binary("promtool")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.tools
def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(alerts())} rules found" in checked.stdout


@pytest.mark.tools
def test_every_alert_fires_when_it_should_and_not_beside_it(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes.yaml"
    scenes.write_text(SCENES.read_text().replace("[RULES]", f"[{RULES}]"))
    played = promtool("test", "rules", scenes)
    assert played.returncode == 0, played.stdout + played.stderr


def test_every_alert_has_a_scene_where_it_fires_and_one_where_it_does_not() -> None:
    checks = [
        check
        for scene in yaml.safe_load(SCENES.read_text())["tests"]
        for check in scene["alert_rule_test"]
    ]
    names = {alert["alert"] for alert in alerts()}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == names


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_how_bad_what_and_where_to_read_on(alert: dict[str, Any]) -> None:
    notes = alert["annotations"]
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert notes["summary"].strip()
    assert notes["description"].endswith(".")
    assert notes["runbook_url"] == f"RUNBOOK_URL#{alert['alert'].lower()}"
    assert re.search(rf"^## {alert['alert']}$", RUNBOOK.read_text(), re.MULTILINE)
