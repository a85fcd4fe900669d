"""The report: everything that is known stands on one page that needs no network."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import DatasetStatus, GateResult, Resolved, StageStatus
from oikyo.api.meta import Condition, Metric
from oikyo.controller import reasons
from oikyo.controller.resolve import run_id
from oikyo.desktop.home import Home
from oikyo.desktop.objects import Store
from oikyo.desktop.report import render, write_report
from scenes import DIGEST, job, version

WHEN = "2026-11-23T12:00:00Z"
REPORT = {
    "rows": 12,
    "columns": {"text": "question"},
    "sources": [{"name": "tickets.jsonl", "test": False, "rows": 12}],
    "bad_rows": {
        "count": 1,
        "codes": {"not-json": 1},
        "listed": [
            {"file": "tickets.jsonl", "line": 7, "message": "not JSON", "excerpt": "<script>"}
        ],
    },
    "duplicates": {"count": 2},
    "splits": {
        side: {
            "rows": rows,
            "labels": {"refund": rows - 1, "other": 1},
            "characters": {
                "median": 10.0,
                "longest": 30,
                "histogram": [{"up_to": 16, "rows": rows}],
            },
        }
        for side, rows in (("test", 2), ("train", 7), ("validation", 2))
    },
    "notes": [],
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def judged(home: Home, *, accepted: bool) -> FineTuneJob:
    """A job with everything that a report shows, and its files."""
    reason = reasons.ACCEPTED if accepted else reasons.GATE_FAILED
    begun = job()
    status = begun.status.model_copy(
        update={
            "conditions": (
                Condition(
                    type="Succeeded",
                    status="True" if accepted else "False",
                    reason=reason,
                    message="f1_macro 0.91",
                    last_transition_time=WHEN,
                ),
            ),
            "stages": (
                StageStatus(
                    name="train",
                    attempt=1,
                    state="Succeeded",
                    started=WHEN,
                    finished="2026-11-23T12:03:05Z",
                ),
            ),
            "dataset": DatasetStatus(digest=DIGEST, train=7, validation=2, test=2),
            "resolved": (Resolved(name="training.precision", value="Float32", reason="no bf16"),),
            "metrics": (Metric(name="f1_macro", value="0.9123"),),
            "baseline": (Metric(name="f1_macro", value="0.6"),),
            "gates": (
                GateResult(
                    metric="f1_macro",
                    rule="min 0.80",
                    value="0.9123",
                    threshold="0.80",
                    passed=accepted,
                ),
            ),
            "model_version": "tickets-v1",
        }
    )
    Store(home).put(version(accepted=accepted))
    data = home.workspace / "datasets" / ("ab" * 32)
    data.mkdir(parents=True)
    (data / "report.json").write_text(json.dumps(REPORT), encoding="utf-8")
    train = home.workspace / "runs" / run_id(begun) / "train"
    train.mkdir(parents=True)
    history = [{"step": n, "loss": 3 - n / 9, "learning_rate": 1e-4} for n in range(1, 9)]
    history.append({"step": 8, "eval_loss": 2.2})
    lines = "".join(json.dumps(line) + "\n" for line in history)
    (train / "history.jsonl").write_text(lines + '{"step": 9, "lo', encoding="utf-8")
    said = {"result": {"notes": ["stopped early"], "curve": "over-fitting since step 40: it rises"}}
    (train / "result.json").write_text(json.dumps(said), encoding="utf-8")
    return begun.model_copy(update={"status": status})


class Text(HTMLParser):
    """The words of a page, and what it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("link", "script", "img", "iframe"):
            self.loads.append(tag)
        self.loads += [name for name, _ in attrs if name in ("src", "href", "srcset")]


@pytest.mark.parametrize(("accepted", "word"), [(True, "Accepted"), (False, "Rejected")])
def test_the_page_says_verdict_gates_metrics_data_settings_and_lineage(
    home: Home, accepted: bool, word: str
) -> None:
    words = " ".join(Text(render(judged(home, accepted=accepted), home)).words)
    for expected in (
        word,
        "f1_macro min 0.80",
        "0.9123",
        "+0.3123",
        "tickets.jsonl:7",
        "not JSON",
        "stands twice",
        "refund",
        "training.precision",
        "no bf16",
        "3 min 05 s",
        DIGEST,
    ):
        assert expected in words, expected


def test_the_page_loads_nothing_and_what_users_wrote_is_only_text(home: Home) -> None:
    page = render(judged(home, accepted=True), home)
    assert Text(page).loads == []
    assert "&lt;script&gt;" in page
    assert re.search(r"url\(|@import|https?:", page) is None


def test_the_curves_show_training_and_validation_loss(home: Home) -> None:
    page = render(judged(home, accepted=True), home)
    assert page.count("<svg") == 2
    assert "validation" in page
    assert "learning rate over step" in page
    words = " ".join(Text(page).words)
    assert "Over-fitting since step 40: it rises." in words
    assert "stopped early" in words


def test_a_job_that_has_only_begun_has_a_page_too(home: Home) -> None:
    path = write_report(job(), home)
    assert path == home.report("tickets")
    assert "Pending" in path.read_text(encoding="utf-8")
