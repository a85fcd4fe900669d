"""A training that stands still is ended with the reason, a slow one is not."""

from __future__ import annotations

import threading

import pytest

from oikyo_trainer.errors import Retry
from oikyo_trainer.training.pulse import LEARNED_AFTER, UNKNOWN_SECONDS, WINDOW, Pulse


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def beating(clock: Clock, *, every: float, times: int = LEARNED_AFTER + 5) -> Pulse:
    pulse = Pulse(lambda _: None, clock=clock)
    for _ in range(times):
        pulse.beat()
        clock.now += every
    return pulse


def test_fast_steps_may_pause_a_minute_and_slow_ones_in_proportion() -> None:
    assert beating(Clock(), every=0.1).bound() == 60
    assert beating(Clock(), every=10).bound() == 300


def test_a_slow_stretch_is_forgotten_once_the_rhythm_is_the_old_one_again() -> None:
    clock = Clock()
    pulse = beating(clock, every=0.1)
    clock.now += 20  # the processor is somebody else's for a while
    for beats, bound in ((1, 600), (WINDOW - 20, 600), (WINDOW, 600), (WINDOW, 60)):
        for _ in range(beats):
            pulse.beat()
            clock.now += 0.1
        assert round(pulse.bound()) == pytest.approx(bound, abs=5)


def test_nothing_is_called_a_hang_before_the_rhythm_is_known() -> None:
    clock = Clock()
    pulse = beating(clock, every=0.1, times=2)
    clock.now += UNKNOWN_SECONDS - 1
    assert pulse.fault() is None
    clock.now += 2
    assert pulse.fault() is not None


def test_silence_beyond_the_bound_is_told_with_both_figures() -> None:
    clock = Clock()
    pulse = beating(clock, every=0.5)
    clock.now += 61
    fault = pulse.fault()
    assert fault is not None
    assert fault.reason == "Hung"
    assert "no forward pass for 62 s, 0.5 s was the longest" in fault.message


def test_a_checkpoint_is_neither_silence_nor_a_rhythm_to_learn() -> None:
    clock = Clock()
    pulse = beating(clock, every=0.1)
    with pulse.rest():
        clock.now += 600
        assert pulse.fault() is None
    assert pulse.fault() is None
    pulse.beat()
    assert pulse.bound() == 60
    with pulse.rest():
        clock.now += 30 * 600 - 1
        assert pulse.fault() is None
        clock.now += 2
        fault = pulse.fault()
    assert fault is not None
    assert "no end of a checkpoint for" in fault.message


def watched(clock: Clock, seconds: int, pulse: Pulse) -> None:
    """Time passes, and the watching thread runs."""
    for _ in range(seconds):
        clock.now += 1
        pulse.look()


def test_a_machine_that_stood_still_is_no_silence_of_a_peer() -> None:
    clock = Clock()
    pulse = beating(clock, every=0.1)
    watched(clock, 50, pulse)
    clock.now += 600
    pulse.look()
    assert pulse.fault() is None
    watched(clock, 8, pulse)
    assert pulse.fault() is None
    watched(clock, 3, pulse)
    assert pulse.fault() is not None


def test_a_machine_that_stood_still_teaches_no_rhythm() -> None:
    clock = Clock()
    pulse = beating(clock, every=0.1)
    pulse.look()
    clock.now += 10
    pulse.beat()  # before the watching thread runs again
    assert pulse.bound() == 60
    watched(clock, 59, pulse)
    assert pulse.fault() is None
    watched(clock, 2, pulse)
    assert pulse.fault() is not None
    pulse.beat()
    assert pulse.bound() == 30 * 61, "a silence while the thread ran is one"
    with pulse.rest():
        clock.now += 600
    assert pulse.fault() is None


def test_the_watching_thread_tells_once_while_the_main_thread_is_blocked() -> None:
    told: list[Retry] = []
    heard = threading.Event()

    def silence(fault: Retry) -> None:
        told.append(fault)
        heard.set()

    import torch

    model, pulse = torch.nn.Linear(1, 1), Pulse(silence, least=0.5)
    pulse.listen(model)
    with pulse.watching():
        for _ in range(LEARNED_AFTER):
            model(torch.ones(1))
        assert heard.wait(300)
    assert [fault.reason for fault in told] == ["Hung"]
