"""How long the tuned model takes for one request, measured by the very step that the server runs."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from oikyo.api.jobstatus import GateResult
from oikyo.api.latency import ANSWER, FIRST_TOKEN, TOKEN, LatencyBudget
from oikyo.api.stages import EvaluateSpec
from oikyo.api.tasks import Task

from ..planning.latency import PREFILL_TOKENS, predict_latency, prompt_of
from ..planning.machines import known_gpu, this_processor
from ..planning.shape import ModelShape, read_shape
from ..progress import text
from ..serving.cpu import threads
from ..serving.step import last_logits_only, read_on
from .models import device, load_model

log = logging.getLogger("oikyo.evaluate")

REPEATS, LATER_TOKENS = 5, 8
"""Answers that are timed, and tokens of each after its first; the median counts."""


def measure_latency(folder: Path, task: Task, prompt: int) -> dict[str, float]:
    """Milliseconds by the name of the metric, of the model in `folder` alone on this machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads())
    try:
        with torch.inference_mode():
            if task != "TextGeneration":
                return _classify(load_model(AutoModelForSequenceClassification, folder), prompt)
            return _generate(load_model(AutoModelForCausalLM, folder), prompt)
    finally:
        torch.set_num_threads(before)


def latency_gates(
    spec: EvaluateSpec, folder: Path
) -> tuple[dict[str, float], tuple[GateResult, ...]]:
    """The metrics of spec.latency and their verdicts; none where the server has another processor."""
    if spec.latency is None:
        return {}, ()
    here, wanted = device().type == "cuda", spec.latency.gpus > 0
    if here != wanted:
        told = ("a GPU" if wanted else "no GPU", "one" if here else "none")
        log.warning(
            "latency is not measured: the server will have %s, this evaluation has %s", *told
        )
        return {}, ()
    budget, shape = spec.latency.budget, read_shape(folder)
    prompt = prompt_of(budget, spec.training.max_length, shape)
    measured = measure_latency(folder, spec.task, prompt)
    predicted = _predicted(spec.task, shape, prompt, cuda=here)
    return measured, judge_latency(budget, measured, predicted)


def judge_latency(
    budget: LatencyBudget, measured: Mapping[str, float], predicted: Mapping[str, float]
) -> tuple[GateResult, ...]:
    """A gate for each limit, with what was predicted in its words."""
    return tuple(
        GateResult(
            metric=name,
            rule=f"max {limit} ({predicted[name]:.3g} predicted)"
            if name in predicted
            else f"max {limit}",
            value=text(measured[name]),
            threshold=str(limit),
            passed=float(text(measured[name])) <= limit,
        )
        for name, limit in budget.limits.items()
    )


def _predicted(task: Task, shape: ModelShape, prompt: int, *, cuda: bool) -> dict[str, float]:
    if not cuda:
        return predict_latency(task, shape, this_processor(shape, prompt), prompt)
    machine = known_gpu(torch.cuda.get_device_name(), shape.saved_bytes)
    return {} if machine is None else predict_latency(task, shape, machine, prompt)


def _classify(model: Any, prompt: int) -> dict[str, float]:
    row = _row(model, prompt)
    inputs = {"input_ids": row, "attention_mask": torch.ones_like(row)}
    _timed(lambda: model(**inputs).logits)  # the first pass pays for lazy set-up
    taken = [_timed(lambda: model(**inputs).logits)[0] for _ in range(REPEATS)]
    return {ANSWER: 1000 * statistics.median(taken)}


def _generate(model: Any, prompt: int) -> dict[str, float]:
    row, options = _row(model, prompt)[0].tolist(), last_logits_only(model)
    firsts: list[float] = []
    laters: list[float] = []
    for _ in range(1 + REPEATS):
        seconds, (logits, cache) = _timed(lambda: _read_prompt(model, row, options))
        firsts.append(seconds)
        for _ in range(LATER_TOKENS):
            step = partial(read_on, model, [int(logits.argmax())], cache, options)
            seconds, (logits, cache) = _timed(step)
            laters.append(seconds)
    later = statistics.median(laters[LATER_TOKENS:])
    return {FIRST_TOKEN: 1000 * statistics.median(firsts[1:]), TOKEN: 1000 * later}


def _read_prompt(
    model: Any, row: Sequence[int], options: dict[str, Any]
) -> tuple[torch.Tensor, Any]:
    logits, cache = torch.empty(0), None
    for start in range(0, len(row), PREFILL_TOKENS):
        logits, cache = read_on(model, row[start : start + PREFILL_TOKENS], cache, options)
    return logits, cache


def _row(model: Any, length: int) -> torch.Tensor:
    """A row (1, T) of tokens that are all different while the vocabulary lasts."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    return (torch.arange(length, device=model.device) % vocabulary)[None]


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began, found
