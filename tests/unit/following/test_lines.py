"""Log lines of several processes: their order, and which error came first."""

from __future__ import annotations

from datetime import UTC, datetime

from oikyo.following.lines import FirstError, LogLine, merged, stamped

KUBELET = "2026-11-25T20:00:0{}.5Z {}"
CRASH = [
    "2026-11-25 20:00:01,912 ERROR oikyo.stage rank=0 crashed",
    "Traceback (most recent call last):",
    '  File "train.py", line 1, in <module>',
    "RuntimeError: shapes do not match",
    "",
    "going on",
]


def verdicts(texts: list[str], source: str = "train-1/0") -> tuple[list[str], FirstError]:
    error = FirstError()
    return [error.look(LogLine(source, text)) for text in texts], error


def test_streams_are_merged_by_time_and_keep_their_own_order() -> None:
    one = stamped("train-1/0", [KUBELET.format(1, "a"), KUBELET.format(3, "c")], strip=True)
    two = stamped("train-1/1", [KUBELET.format(2, "b"), KUBELET.format(4, "d")], strip=True)
    assert [line.text for line in merged([one, two])] == ["a", "b", "c", "d"]


def test_a_line_without_a_time_stays_behind_the_one_before_it() -> None:
    one = list(
        stamped("a", ["2026-11-25T20:00:01Z Traceback", "  File x", "2026-11-25T20:00:09Z z"])
    )
    two = list(stamped("b", ["2026-11-25T20:00:02Z y"]))
    assert [line.text[-1] for line in merged([one, two])] == ["k", "x", "y", "z"]


def test_a_time_with_a_zone_is_read_as_such() -> None:
    (line,) = stamped("a", [KUBELET.format(1, "text")], strip=True)
    assert line.time == datetime(2026, 11, 25, 20, 0, 1, 500_000, tzinfo=UTC)


def test_a_traceback_is_one_error_and_its_last_line_is_the_sentence() -> None:
    told, error = verdicts(CRASH)
    assert told == ["first", "first", "first", "first", "", ""]
    assert error.line is not None
    assert error.line.text == "RuntimeError: shapes do not match"


def test_an_error_without_a_traceback_is_its_own_sentence() -> None:
    text = "2026-11-25 20:00:01,912 ERROR oikyo.stage InvalidData: rows.jsonl:3 has no label"
    told, error = verdicts(["INFO all is well", text, "more"])
    assert told == ["", "first", ""]
    assert error.line is not None
    assert error.line.text == text


def test_errors_of_other_workers_come_later() -> None:
    error = FirstError()
    assert error.look(LogLine("train-1/1", "ValueError: the cause")) == "first"
    assert error.look(LogLine("train-1/0", "RuntimeError: connection closed by peer")) == "later"
    assert error.line is not None
    assert error.line.source == "train-1/1"


def test_a_second_traceback_of_one_worker_does_not_replace_the_first() -> None:
    told, error = verdicts([*CRASH[1:4], *CRASH[1:3], "KeyError: 'second'"])
    assert told == ["first", "first", "first", "later", "later", "later"]
    assert error.line is not None
    assert error.line.text.startswith("RuntimeError")


def test_what_another_rank_says_in_between_is_not_the_end_of_a_traceback() -> None:
    between = "2026-11-25 20:00:01,913 INFO oikyo.train rank=1 step=3/5 loss=1"
    told, error = verdicts([*CRASH[:3], between, *CRASH[3:]])
    assert told == ["first", "first", "first", "", "first", "", ""]
    assert error.line is not None
    assert error.line.text == "RuntimeError: shapes do not match"


def test_a_process_that_was_killed_is_told_by_torchrun() -> None:
    text = "E1125 20:26:51.1 17105 api.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 17112)"
    told, error = verdicts([*CRASH, text])
    assert told[-1] == ""
    assert error.killed is not None
    assert "local_rank: 1" in error.killed.text


def test_lines_that_only_speak_of_errors_are_none() -> None:
    told, error = verdicts(["INFO oikyo.train an ERRORS column was found", "no Error: here", "ok"])
    assert told == ["", "", ""]
    assert error.line is None
