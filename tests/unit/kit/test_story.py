"""Whoever fails in a story behind another is told which was the first, and why."""

from __future__ import annotations

from story import LONGEST, Failure, Stories


def test_the_first_failure_of_a_file_is_told_with_those_behind_it() -> None:
    stories = Stories()
    assert stories.failed("road", "train", "no pod") is None
    assert stories.failed("road", "serve", "no version") == Failure("train", "no pod")
    assert stories.failed("road", "train", "no pod again") is None
    assert stories.failed("kit", "up", "no bridge") is None


def test_a_test_that_passes_when_it_is_run_again_is_no_reason() -> None:
    stories = Stories()
    stories.failed("road", "train", "no pod")
    stories.passed("road", "apply")
    assert stories.failed("road", "serve", "slow") == Failure("train", "no pod")
    stories.passed("road", "train")
    assert stories.failed("road", "serve", "slow") is None


def test_a_long_reason_is_cut() -> None:
    stories = Stories()
    stories.failed("road", "train", "x" * 9999)
    told = stories.failed("road", "serve", "")
    assert told is not None
    assert len(told.reason) == LONGEST
