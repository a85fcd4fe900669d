"""Gates are judged on the numbers that are shown, and nothing that is not a number passes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oikyo.api.evaluation import Gate
from oikyo.api.tasks import LOWER_IS_BETTER, Task, main_metric
from oikyo_trainer.evaluation.gates import accepted, judge

METRICS = st.sampled_from(["accuracy", "f1_macro", "loss", "perplexity", "bleu", "rouge_l"])
VALUES = st.floats(min_value=0, max_value=1e6)


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        (Gate(metric="f1_macro", min="0.80"), 0.8, True),
        (Gate(metric="f1_macro", min="0.80"), 0.79, False),
        (Gate(metric="loss", max="1.5"), 1.5, True),
        (Gate(metric="loss", max="1.5"), 1.51, False),
        (Gate(metric="f1_macro", better_than="Base"), 0.51, True),
        (Gate(metric="f1_macro", better_than="Base"), 0.49, False),
        (Gate(metric="loss", better_than="Base"), 0.49, True),
        (Gate(metric="loss", better_than="Base"), 0.51, False),
    ],
)
def test_a_gate_says_its_rule_value_and_threshold(gate: Gate, value: float, passed: bool) -> None:
    (result,) = judge((gate,), {gate.metric: value}, {gate.metric: 0.5}, "TextClassification")
    assert result.passed is passed
    assert result.value == f"{value:.6g}"
    words = {"0.80": "min 0.80", "1.5": "max 1.5", "0.5": "better than base"}
    assert result.rule == words[result.threshold]
    assert result.baseline == "0.5"


@pytest.mark.parametrize("task", ["TextClassification", "TextGeneration"])
def test_without_gates_the_main_metric_must_beat_the_base(task: Task) -> None:
    name = main_metric(task, "Supervised")
    (result,) = judge((), {name: 0.4}, {name: 0.6}, task)
    assert (result.metric, result.rule) == (name, "better than base")
    assert result.passed is (name in LOWER_IS_BETTER)


def test_what_is_shown_is_what_is_judged() -> None:
    gate = Gate(metric="accuracy", min="0.80")
    (result,) = judge((gate,), {"accuracy": 0.79999999}, {}, "TextClassification")
    assert (result.value, result.passed) == ("0.8", True)


def test_no_results_accept_nothing() -> None:
    assert accepted(()) is False


@given(METRICS, VALUES)
def test_equal_to_the_base_is_not_better(metric: str, value: float) -> None:
    gate = Gate.model_validate({"metric": metric, "betterThan": "Base"})
    (result,) = judge((gate,), {metric: value}, {metric: value}, "TextClassification")
    assert not result.passed


@given(METRICS, VALUES, st.sampled_from(["min", "max", "betterThan"]))
def test_what_is_not_a_number_never_passes(metric: str, other: float, kind: str) -> None:
    bound = "Base" if kind == "betterThan" else "0"
    gate = Gate.model_validate({"metric": metric, kind: bound})
    for tuned, base in ((math.nan, other), (math.nan, math.nan)):
        (result,) = judge((gate,), {metric: tuned}, {metric: base}, "TextClassification")
        assert not result.passed
    (absent,) = judge((gate,), {}, {}, "TextClassification")
    assert not absent.passed


@given(METRICS, VALUES, VALUES)
def test_of_two_models_at_most_one_is_better(metric: str, one: float, other: float) -> None:
    gate = Gate.model_validate({"metric": metric, "betterThan": "Base"})
    (there,) = judge((gate,), {metric: one}, {metric: other}, "TextClassification")
    (back,) = judge((gate,), {metric: other}, {metric: one}, "TextClassification")
    assert not (there.passed and back.passed)
    assert there.passed or back.passed or there.value == back.value


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=16))
def test_one_failed_gate_rejects(pairs: list[tuple[float, float]]) -> None:
    gates = tuple(Gate(metric="accuracy", min=f"{bound:.3f}") for _, bound in pairs)
    results = judge(gates, {"accuracy": pairs[0][0]}, {}, "TextClassification")
    assert accepted(results) is all(result.passed for result in results)
