"""The latency of the tuned model: measured, and judged beside what was predicted."""

from __future__ import annotations

from typing import Any

import pytest

from oikyo.api.latency import ANSWER, FIRST_TOKEN, TOKEN, LatencyBudget
from oikyo.api.stages import ServingLatency
from oikyo_trainer.evaluation.evaluate import evaluate
from oikyo_trainer.evaluation.latency import judge_latency
from unit.trainer.evaluation.tiny import Bench

HOUR = 3_600_000


def spec(bench: Bench, gpus: int = 0, **budget: Any) -> Any:
    wanted = ServingLatency(budget=LatencyBudget(**budget), gpus=gpus)
    return bench.spec(latency=wanted, evaluation={"max_rows": 8, "max_new_tokens": 2})


def test_a_classifier_is_timed_and_its_time_is_a_gate(bench: Bench) -> None:
    result = evaluate(spec(bench, answer_milliseconds=HOUR, prompt_tokens=16), bench.context)
    taken = {metric.name: float(metric.value) for metric in result.metrics}[ANSWER]
    gate = result.gates[-1]
    assert 0 < taken < HOUR
    assert (gate.metric, gate.value, gate.passed) == (ANSWER, f"{taken:g}", True)
    assert gate.rule.startswith(f"max {HOUR} (")
    assert gate.rule.endswith(" predicted)")
    assert ANSWER not in {metric.name for metric in result.baseline}


@pytest.mark.parametrize("bench", ["prompt-completion"], indirect=True)
def test_first_and_later_tokens_of_an_answer_are_timed(bench: Bench) -> None:
    wanted = spec(bench, first_token_milliseconds=HOUR, token_milliseconds=HOUR, prompt_tokens=16)
    result = evaluate(wanted, bench.context)
    metrics = {metric.name: float(metric.value) for metric in result.metrics}
    assert 0 < metrics[TOKEN] < HOUR
    assert 0 < metrics[FIRST_TOKEN] < HOUR
    assert [gate.metric for gate in result.gates[-2:]] == [FIRST_TOKEN, TOKEN]


def test_nothing_is_timed_for_a_server_with_another_processor(bench: Bench) -> None:
    result = evaluate(spec(bench, gpus=1, answer_milliseconds=1), bench.context)
    assert ANSWER not in {metric.name for metric in result.metrics}
    assert ANSWER not in {gate.metric for gate in result.gates}


def test_an_answer_that_takes_longer_than_its_limit_fails_the_gate() -> None:
    budget = LatencyBudget(first_token_milliseconds=50, token_milliseconds=5)
    first, later = judge_latency(budget, {FIRST_TOKEN: 50.0, TOKEN: 5.01}, {TOKEN: 4.2})
    assert (first.rule, first.value, first.passed) == ("max 50", "50", True)
    assert (later.rule, later.value, later.passed) == ("max 5 (4.2 predicted)", "5.01", False)
