"""The latency of a server: predicted from shapes and rates, held against its budget before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import a_manifest
from oikyo.api.latency import ANSWER, FIRST_TOKEN, TOKEN, LatencyBudget
from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED, ServingLatency
from oikyo_trainer.errors import Refused
from oikyo_trainer.planning import __main__ as plan
from oikyo_trainer.planning.latency import (
    PREFILL_TOKENS,
    Machine,
    calls_of,
    forward_seconds,
    predict_latency,
    smallest_change,
    too_slow,
)
from oikyo_trainer.planning.machines import known_gpu, this_processor
from oikyo_trainer.planning.road import check_latency
from unit.trainer.planning.test_plan import a_shape
from unit.trainer.planning.test_road import model, training

__all__ = ["model"]

SLOW_MEMORY = Machine(1e9, 1e15, 0.0, 0.0, "a test")
SLOW_ARITHMETIC = Machine(1e15, 1e9, 0.0, 0.0, "a test")
SLOW_HOST = Machine(1e15, 1e15, 1e-6, 0.0, "a test")


def asked(here: bool = True, gpus: int = 0, **budget: Any) -> ServingLatency:
    return ServingLatency(budget=LatencyBudget(**budget), gpus=gpus, here=here)


def test_a_later_token_reads_every_weight_and_the_cache_once() -> None:
    shape = a_shape()
    cache = 2 * 2 * 4 * 64 * 100  # keys and values of 2 layers with 4 heads of 64
    weights = shape.linear_parameters + 512 * 8000
    taken = predict_latency("TextGeneration", shape, SLOW_MEMORY, 100)[TOKEN]
    assert taken == pytest.approx(1000 * 4 * (weights + cache) / 1e9)


def test_a_prompt_takes_the_operations_of_its_tokens_and_one_head() -> None:
    shape = a_shape()
    pairs = 4 * 2 * 8 * 64 * 100 * 50
    work = 2 * (100 * shape.linear_parameters + 512 * 8000) + pairs
    taken = predict_latency("TextGeneration", shape, SLOW_ARITHMETIC, 100)[FIRST_TOKEN]
    assert taken == pytest.approx(1000 * work / 1e9)


def test_a_long_prompt_is_read_in_the_turns_of_the_server() -> None:
    shape = a_shape()
    taken = predict_latency("TextGeneration", shape, SLOW_HOST, 2 * PREFILL_TOKENS + 1)
    assert taken[FIRST_TOKEN] == pytest.approx(3 * taken[TOKEN], rel=0.01)
    assert taken[TOKEN] == pytest.approx(1000 * calls_of(shape) * 1e-6, rel=0.01)


def test_a_text_is_classified_in_one_pass_without_a_language_models_head() -> None:
    shape = a_shape()
    once = forward_seconds(shape, SLOW_MEMORY, tokens=64, cached=0, generates=False)
    assert predict_latency("TextClassification", shape, SLOW_MEMORY, 64) == {ANSWER: 1000 * once}
    assert once == pytest.approx(4 * shape.linear_parameters / 1e9)


def test_the_prompt_that_is_named_meets_the_limit_and_one_token_more_does_not() -> None:
    shape = a_shape()
    limit = int(predict_latency("TextGeneration", shape, SLOW_ARITHMETIC, 300)[FIRST_TOKEN])
    words = smallest_change("TextGeneration", shape, SLOW_ARITHMETIC, 512, FIRST_TOKEN, limit)
    tokens = int(words.removeprefix("write deployment.latency.promptTokens: "))
    for number, fits in ((tokens, True), (tokens + 1, False)):
        found = predict_latency("TextGeneration", shape, SLOW_ARITHMETIC, number)
        assert (found[FIRST_TOKEN] <= limit) == fits


def test_where_no_prompt_is_short_enough_a_smaller_model_or_another_limit_is_named() -> None:
    words = smallest_change("TextGeneration", a_shape(), SLOW_MEMORY, 100, TOKEN, 10)
    assert words.startswith("write deployment.latency.tokenMilliseconds: 3")
    assert "name a base model of at most" in words
    host = Machine(1e15, 1e15, 1.0, 0.0, "a test")
    assert "base model" not in smallest_change("TextGeneration", a_shape(), host, 9, TOKEN, 1)


def test_only_limits_that_are_given_can_be_broken() -> None:
    budget = LatencyBudget(token_milliseconds=5)
    assert too_slow(budget, {FIRST_TOKEN: 1e6, TOKEN: 5.0}) == {}
    assert too_slow(budget, {FIRST_TOKEN: 1e6, TOKEN: 5.1}) == {TOKEN: 5.1}


@pytest.mark.parametrize(
    ("product", "bandwidth"),
    [
        ("NVIDIA-H100-80GB-HBM3", 3.35e12),
        ("NVIDIA-H100-PCIe", 2.0e12),
        ("NVIDIA A100-SXM4-80GB", 2.039e12),
        ("Tesla-T4", 320e9),
    ],
)
def test_a_gpu_is_known_by_the_label_of_its_product(product: str, bandwidth: float) -> None:
    found = known_gpu(product, 2)
    assert found is not None
    assert (found.bandwidth, found.bytes_of_weight, found.bound) == (bandwidth, 2, True)


def test_the_rates_of_this_processor_are_those_of_some_processor() -> None:
    found = this_processor(a_shape(), 64)
    assert 1e7 < found.bandwidth < 1e13
    assert 1e7 < found.flops < 1e15
    assert 1e-8 < found.call_seconds < 1e-2


def test_a_result_that_could_not_answer_in_time_is_refused_before_it_is_trained(
    model: Path,
) -> None:
    # 200 million weights are not read in a millisecond by any processor.
    with pytest.raises(Refused, match="tokenMilliseconds is 1, and the trained model") as refused:
        check_latency(asked(token_milliseconds=1), training(None), "TextGeneration", model)
    assert "at 512 tokens of prompt (measured here just now)" in refused.value.message
    assert "write deployment.latency.tokenMilliseconds: " in refused.value.next_step


def test_what_will_be_in_time_is_told_with_its_limit(model: Path) -> None:
    wanted = asked(first_token_milliseconds=3_600_000, prompt_tokens=32)
    (told,) = check_latency(wanted, training(None), "TextGeneration", model)
    assert told.name == "deployment.latency.firstTokenMilliseconds"
    assert float(told.value) > 0
    assert "32 tokens of prompt" in told.reason
    assert told.reason.endswith("the limit is 3600000")


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (asked(here=False, token_milliseconds=1), "another node"),
        (asked(gpus=1, token_milliseconds=1), "gpuProduct is not given"),
        (asked(gpus=1, token_milliseconds=1, gpu_product="Voodoo-2"), "no figures of Voodoo-2"),
    ],
)
def test_nothing_is_refused_where_the_machine_is_not_known(
    model: Path, wanted: ServingLatency, why: str
) -> None:
    (told,) = check_latency(wanted, training(None), "TextGeneration", model)
    assert why in told.reason
    assert "will be measured after training" in told.reason


def test_the_best_of_a_known_gpu_is_a_least_time(model: Path) -> None:
    wanted = asked(gpus=1, token_milliseconds=1, gpu_product="Tesla-T4")
    with pytest.raises(Refused, match=r"will take at least .* maker's figures of T4"):
        check_latency(wanted, training(None), "TextGeneration", model)
    fast = wanted.model_copy(
        update={"budget": LatencyBudget(token_milliseconds=20, gpu_product="Tesla-T4")}
    )
    (told,) = check_latency(fast, training(None), "TextGeneration", model)
    assert told.value.startswith("at least ")


@pytest.mark.parametrize(("limit", "code"), [(1, EXIT_REFUSED), (3_600_000, EXIT_DONE)])
def test_the_plan_of_a_job_says_whether_its_answers_will_be_in_time(
    model: Path, tmp_path: Path, capsys: Any, limit: int, code: int
) -> None:
    manifest = a_manifest(
        task="TextGeneration",
        training={"resources": {"memory": "64Gi"}},
        deployment={"latency": {"tokenMilliseconds": limit}},
    )
    job = tmp_path / "job.json"
    job.write_text(json.dumps(manifest))
    assert plan.main(["--job", str(job), "--model", str(model)]) == code
    told = capsys.readouterr().out
    assert f"tokenMilliseconds {limit}: " in told
    assert ("it is too slow: write" in told) == (code == EXIT_REFUSED)
