"""What was found in the data, in status and events: which file, which line, what to do."""

from __future__ import annotations

from dataclasses import replace

from oikyo.api.jobstatus import DataFinding
from oikyo.controller.conditions import find
from oikyo.controller.decide import decide
from oikyo.controller.observed import StageRun
from scenes import NOW, done, failed, job, running, seen

TYPO = DataFinding(
    code="label-typo",
    severity="Error",
    count=2,
    example="pvc://datasets/tickets.csv:7: has the label 'refnud'",
)
LONG = DataFinding(code="long-row", severity="Warning", count=12, example="tickets.csv:9: has 700")
REFUSED = failed("prepare", kind="Refused", reason="DataCheckFailed", findings=(TYPO, LONG))


def passed(*findings: DataFinding, unchanged: bool = False) -> StageRun:
    run = done("prepare")
    told = {"findings": findings, "unchanged": unchanged}
    result = run.words.result.model_copy(update=told)
    return replace(run, words=run.words.model_copy(update={"result": result}))


def test_refused_data_stands_in_the_status_though_there_is_no_dataset() -> None:
    decision = decide(job(), seen(REFUSED), NOW)
    assert decision.status.phase == "Failed"
    assert decision.status.dataset.digest is None
    assert decision.status.dataset.findings == (TYPO, LONG)
    assert decision.children.stages == ()


def test_each_code_that_refused_is_a_warning_with_line_and_next_step() -> None:
    events = decide(job(), seen(REFUSED), NOW).events
    assert [(event.type, event.reason) for event in events] == [
        ("Normal", "DataChecked"),
        ("Warning", "DataCheckFailed"),
        ("Warning", "AttemptFailed"),
        ("Warning", "InputRefused"),
    ]
    assert events[0].message == "rows found: 2 label-typo (Error), 12 long-row (Warning)"
    assert "tickets.csv:7" in events[1].message
    assert events[1].message.endswith("Next: Write the label as the others do")


def test_findings_are_told_once() -> None:
    first = decide(job(), seen(REFUSED), NOW)
    again = decide(job(first.status), seen(REFUSED), NOW)
    assert again.events == ()
    assert again.status.dataset == first.status.dataset


def test_warnings_stand_in_the_status_and_in_the_sentence_of_the_data() -> None:
    decision = decide(job(), seen(passed(LONG), running("train")), NOW)
    assert decision.status.dataset.findings == (LONG,)
    assert find(decision.status.conditions, "DataReady").message.endswith("look at 12 long-row")
    assert [event.reason for event in decision.events] == ["DataChecked", "DataReady"]


def test_clean_data_says_nothing_more() -> None:
    decision = decide(job(), seen(passed(), running("train")), NOW)
    assert "look at" not in find(decision.status.conditions, "DataReady").message
    assert [event.reason for event in decision.events] == ["DataReady"]


def test_a_version_that_was_there_is_said_to_have_been() -> None:
    decision = decide(job(), seen(passed(unchanged=True), running("train")), NOW)
    said = find(decision.status.conditions, "DataReady").message
    assert said.endswith("; the version is the one that an earlier job wrote")
