"""A slow worker is told apart from noise and pauses, named, and taken back when it is not slow any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo.api.stages import Failure
from oikyo_trainer.progress import Reporter
from oikyo_trainer.training.distributed import World
from oikyo_trainer.training.stragglers import LASTS_SECONDS, Slow, Stragglers, slow_rank

TIMES = st.lists(st.floats(0.001, 10), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        ([0.1], None),
        ([0.1, 0.1], None),
        ([0.10, 0.14], None),
        ([0.1, 0.4], Slow(1, 0.4, 0.1)),
        ([0.1, 0.11, 0.9, 0.1], Slow(2, 0.9, 0.1)),
        ([0.001, 0.004], None),
        ([0.1, 0.1, 0.5, 0.6], Slow(3, 0.6, 0.1)),
    ],
    ids=[
        "alone",
        "equal",
        "noise",
        "one of two",
        "one of four",
        "too little to tell",
        "two of four",
    ],
)
def test_one_that_stands_out_is_found(seconds: list[float], found: Slow | None) -> None:
    assert slow_rank(seconds) == found


def test_of_two_slow_ones_the_first_to_be_found_stays_the_one() -> None:
    assert slow_rank([0.1, 0.1, 0.5, 0.6], before=2) == Slow(2, 0.5, 0.1)
    assert slow_rank([0.1, 0.1, 0.1, 0.6], before=2) == Slow(3, 0.6, 0.1)


@given(TIMES, st.floats(1, 5))
def test_the_slowest_is_the_one_that_is_found_and_stays_so_when_it_gets_slower(
    seconds: list[float], factor: float
) -> None:
    found = slow_rank(seconds)
    if found is None:
        return
    assert found.seconds == max(seconds)
    assert found.others < found.seconds
    worse = [s * factor if rank == found.rank else s for rank, s in enumerate(seconds)]
    again = slow_rank(worse)
    assert again is not None
    assert again.rank == found.rank


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(windows: list[tuple[float, list[float]]]) -> list[Failure | None]:
    """What stands in /progress after each logged step, `seconds` apart."""
    clock, reporter = Clock(), Reporter("train", 1, "run")
    stragglers, stood = Stragglers(World(size=2), reporter, clock), []
    for seconds, times in windows:
        clock.now += seconds
        stragglers.judge(times)
        stood.append(reporter.current.trouble)
    return stood


def test_a_pause_is_no_slow_worker() -> None:
    assert told([(1, [0.1, 0.1]), (1, [0.1, 5.0]), (1, [0.1, 0.1])]) == [None] * 3


def test_a_worker_that_stays_slow_is_named_with_both_times_and_taken_back_later() -> None:
    slow, well = (LASTS_SECONDS / 2, [0.1, 0.4]), (LASTS_SECONDS / 2, [0.1, 0.1])
    stood = told([well, slow, slow, slow, well, well, well])
    assert [one is not None for one in stood] == [False, False, False, True, True, True, False]
    assert stood[3] is not None
    assert stood[3].message == (
        "worker 1 (?) is slow: 0.400 s of a step until it has to wait, 0.100 s is the median of the "
        "others; every step takes about 0.300 s longer for it"
    )


def test_a_full_volume_and_a_slow_worker_do_not_hide_each_others_end() -> None:
    reporter = Reporter("train", 1, "run")
    one, two = (Failure(kind="Retry", reason=name, message=name) for name in ("A", "B"))
    reporter.tell("A", one)
    reporter.tell("B", two)
    reporter.update(step=3)
    assert reporter.current.trouble == one
    reporter.tell("A", None)
    assert reporter.current.trouble == two
    reporter.tell("B", None)
    assert reporter.current.trouble is None
