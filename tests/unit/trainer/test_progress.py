"""/progress and /metrics, asked over HTTP."""

from __future__ import annotations

import math
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from oikyo.api.stages import StageProgress
from oikyo_trainer.listening import listening
from oikyo_trainer.progress import Reporter


@pytest.fixture
def reporter() -> Iterator[Reporter]:
    reporter = Reporter("train", 2, "job-00000000")
    yield reporter
    reporter.close()


def get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        body: bytes = answer.read()
        return body


def test_progress_is_answered_by_the_contract(reporter: Reporter) -> None:
    port = reporter.serve(0)
    reporter.update(percentage=40.9, step=20, total_steps=50, remaining_seconds=12.4, loss=0.25)
    reporter.update(eval_loss=1 / 3)
    found = StageProgress.model_validate_json(get(port, "/progress"))
    assert (found.stage, found.attempt, found.progress_percentage) == ("train", 2, 40)
    assert (found.step, found.total_steps) == (20, 50)
    assert {m.name: m.value for m in found.metrics} == {"loss": "0.25", "eval_loss": "0.333333"}


def test_steps_and_checkpoints_count_on_over_the_parts_of_a_cross_validation() -> None:
    told = Reporter("train", 1, "job-00000000")
    told.begin_part(2, 3, 1_000_000)
    told.update(step=234_567, total_steps=1_000_000, checkpoint_step=234_560)
    assert (told.current.step, told.current.total_steps) == (2_234_567, 3_000_000)
    assert {m.name: m.value for m in told.current.metrics} == {"checkpoint_step": "2234560"}


def test_metrics_are_prometheus_series(reporter: Reporter) -> None:
    port = reporter.serve(0)
    reporter.update(percentage=50, step=3, loss=0.5)
    body = get(port, "/metrics").decode()
    assert 'oikyo_stage_progress_ratio{run="job-00000000",stage="train"} 0.5' in body
    assert 'oikyo_train_loss{run="job-00000000",stage="train"} 0.5' in body


def test_another_path_is_not_found(reporter: Reporter) -> None:
    port = reporter.serve(0)
    with pytest.raises(urllib.error.HTTPError, match="404") as error:
        get(port, "/")
    error.value.close()


@pytest.mark.parametrize(
    ("given", "shown"), [(-5, 0), (0.4, 0), (99.9, 99), (250, 100), (math.nan, 0), (math.inf, 0)]
)
def test_a_percentage_is_a_whole_number_from_0_to_100(
    reporter: Reporter, given: float, shown: int
) -> None:
    reporter.update(percentage=given)
    assert reporter.current.progress_percentage == shown


def test_the_remaining_time_is_estimated_from_the_share(reporter: Reporter) -> None:
    reporter.update(percentage=0)
    assert reporter.current.estimated_remaining_seconds is None
    reporter.update(percentage=100)
    assert reporter.current.estimated_remaining_seconds == 0


def test_a_resumed_training_has_no_time_left_before_it_knows_its_pace(reporter: Reporter) -> None:
    """It begins at 90 %, and nine tenths of its own time so far say nothing."""
    reporter.update(percentage=90, step=90, total_steps=100, eval_loss=0.5)
    assert reporter.current.estimated_remaining_seconds is None
    reporter.update(percentage=91, step=91, total_steps=100, remaining_seconds=900)
    reporter.update(checkpoint_step=91)
    assert reporter.current.estimated_remaining_seconds == 900


def test_at_the_end_of_a_fold_the_others_are_still_to_come(reporter: Reporter) -> None:
    reporter.begin_part(0, 3, 10)
    reporter.update(percentage=90, step=9, total_steps=10, remaining_seconds=10)
    reporter.update(percentage=100, step=10, total_steps=10, remaining_seconds=0)
    assert reporter.current.estimated_remaining_seconds == 200


def test_a_step_after_a_rollback_is_a_new_one(
    reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = reporter.serve(0)
    for moment, step in ((1000, 50), (2000, 10), (3000, 10)):
        monkeypatch.setattr("time.time", lambda moment=moment: float(moment))
        reporter.update(step=step, total_steps=100)
    told = get(port, "/metrics").decode()
    assert 'timestamp_seconds{run="job-00000000",stage="train"} 2000.0' in told


def test_a_taken_port_does_not_end_the_stage(reporter: Reporter) -> None:
    with socket.create_server(("", 0)) as taken:
        port = reporter.serve(taken.getsockname()[1])
        assert port != taken.getsockname()[1]
        assert get(port, "/progress")


def test_ipv6_is_answered_where_there_is_one(reporter: Reporter) -> None:
    port = reporter.serve(0)
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with urllib.request.urlopen(f"http://[::1]:{port}/progress", timeout=60) as answer:
        assert answer.status == 200


def test_after_close_the_port_is_free(reporter: Reporter) -> None:
    port = reporter.serve(0)
    reporter.close()
    with socket.create_server(("", port)):
        pass


def test_listens_only_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OIKYO_ADDRESS", "127.0.0.1")
    with listening(0) as bound:
        assert bound.getsockname()[0] == "127.0.0.1"
    monkeypatch.delenv("OIKYO_ADDRESS")
    with listening(0) as bound:
        assert bound.getsockname()[0] in ("::", "0.0.0.0")
