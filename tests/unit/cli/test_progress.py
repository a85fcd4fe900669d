"""The story of a run as plain lines."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from builders import a_job
from oikyo.api.stages import Failure, LastWords
from oikyo.cli.progress import Lines
from oikyo.controller.observed import Observed, StageRun

MESSAGE = "stopped at step 6 of 30, with a checkpoint"


@pytest.mark.parametrize(
    ("reason", "line"),
    [("Stopped", f"train {MESSAGE}"), ("WorkspaceFull", f"train failed: {MESSAGE}")],
)
def test_a_training_that_was_asked_to_stop_did_not_fail(reason: str, line: str) -> None:
    told = StringIO()
    failure = Failure(kind="Retry", reason=reason, message=MESSAGE)
    run = StageRun("train", 1, "Failed", words=LastWords(stage="train", failure=failure))
    Lines(Console(file=told))(a_job(), Observed(runs=(run,)))
    assert told.getvalue().strip() == line
