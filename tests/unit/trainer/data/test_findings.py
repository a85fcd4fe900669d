"""Findings: counted by code, the first kept, all in the file, and what follows from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oikyo.api.checks import DataCheck, in_force
from oikyo_trainer.data.findings import FIRST, BadRow, Finding, Findings, excerpt
from oikyo_trainer.data.judge import judge, refuse
from oikyo_trainer.errors import Refused

CODE = "conflicting-answers"


def findings(count: int, **settings: Any) -> Findings:
    found = Findings(in_force([DataCheck(code=CODE, **settings)]))
    for line in range(1, count + 1):
        found.add(Finding(line, CODE, "has the label 'a'", "a row", "rows.csv"))
    return found


def test_all_are_counted_and_written_and_the_first_are_kept(tmp_path: Path) -> None:
    found = Findings()
    with found.written(tmp_path / "findings.jsonl"):
        found.add(BadRow(1, "not-json", "the line is not JSON", "\ud800", "rows.jsonl"))
        for line in range(2, 50):
            found.add(Finding(line, CODE, "differs", file="rows.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "findings.jsonl").open(encoding="utf-8")]
    assert [line["line"] for line in lines] == list(range(1, 50))
    assert (found.bad, found.bad_codes["not-json"], found.counts[CODE]) == (1, 1, 48)
    assert len(found.first[CODE]) == FIRST
    assert lines[0]["severity"] == "Error"
    assert lines[0]["next_step"].startswith("Mend the rows")
    assert lines[1]["severity"] == "Warning"
    assert lines[1]["next_step"].startswith("Decide which answer is right")


def test_a_finding_about_several_rows_counts_them_all() -> None:
    found = Findings()
    found.add(Finding(1, CODE, "differs", rows=7))
    assert found.counts[CODE] == 7


def test_an_ignored_check_finds_nothing() -> None:
    found = findings(3, action="Ignore")
    assert not found.counts
    assert not found.wants(CODE)


@pytest.mark.parametrize(
    ("count", "settings", "severity"),
    [
        (1, {}, "Warning"),
        (1, {"action": "Fail"}, "Error"),
        (10, {"action": "Fail", "max": "0.1"}, "Info"),
        (11, {"action": "Fail", "max": "0.1"}, "Error"),
        (10, {"max": "0.1"}, "Info"),
    ],
)
def test_more_rows_than_max_have_the_effect_of_the_action(
    count: int, settings: dict[str, str], severity: str
) -> None:
    (judged,) = judge(findings(count, **settings), 100)
    assert (judged.severity, judged.count, judged.rows) == (severity, count, 100)


def test_a_failed_check_refuses_with_count_first_rows_and_next_step() -> None:
    with pytest.raises(Refused) as refused:
        refuse(judge(findings(5, action="Fail"), 100))
    error = refused.value
    assert error.reason == "DataCheckFailed"
    assert error.message == (
        "conflicting-answers: 5 of 100 rows have the same input as another row and a different "
        "answer, max is 0; the first: rows.csv:1: has the label 'a' (a row)"
    )
    assert error.evidence.splitlines()[1] == "rows.csv:2: has the label 'a' (a row)"
    assert "{code: conflicting-answers, action: Warn}" in error.next_step


def test_warnings_refuse_nothing() -> None:
    refuse(judge(findings(50), 100))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mail ann.lee@example.org now", "mail <EMAIL> now"),
        ("key sk-abcdefghijklmnop", "key <SECRET>"),
        ("key hf_abcdefghijklmnop", "key <SECRET>"),
        ("skateboarding-lessons", "skateboarding-lessons"),
        ("call +49 30 1234567", "call <PHONE>"),
        ("two\nlines\x1b[2J", "two\\nlines\\x1b[2J"),
        ("x" * 200, "x" * 79 + "\N{HORIZONTAL ELLIPSIS}"),
    ],
)
def test_an_excerpt_is_short_and_masked_and_harmless(text: str, shown: str) -> None:
    assert excerpt(text) == shown
