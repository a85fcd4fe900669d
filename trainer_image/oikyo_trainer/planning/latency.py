"""How long a server will take for one request, from the model's shape and the machine's rates. Pure.

A forward pass takes as long as its slower side: reading what it needs from memory, or computing it
(roofline, Williams et al. 2009; for language models Pope et al. 2022, section 2). Beside that the host
calls its operations one by one, which is most of the time where the model is small, and what stands
between the products passes over the prompt's tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from oikyo.api.latency import ANSWER, FIRST_TOKEN, TOKEN, LatencyBudget, field_of
from oikyo.api.tasks import Task

from .activations import FULL
from .shape import ModelShape

PREFILL_TOKENS = 512
"""Tokens of a prompt that the server reads in one turn: a long one stalls other answers only so long."""
CALLS_OF_A_LAYER, CALLS_AROUND = 155, 155
"""What transformers' Python costs for a layer, and around the layers, in calls of a smallest operation of
torch: from a later token of the Llamas of 4 and 12 layers (2 M and 60 M weights) of
bench/bench_latency_prediction.py on a processor that did nothing else."""
PASSES_OF_A_LAYER = 150
"""What norms, rotations, activations, softmax and copies cost, in sums of two tensors as wide as the model;
from a prompt and a text of its two smallest models."""


@dataclass(frozen=True)
class Machine:
    """The rates of what will serve."""

    bandwidth: float
    """Bytes that one request reads from memory in a second."""
    flops: float
    """Operations of a product of matrices in a second."""
    call_seconds: float
    """Of the smallest operation, called from Python."""
    element_seconds: float
    """Of one number in a sum of two tensors that hold a prompt's tokens."""
    source: str
    """Where the figures come from, in words."""
    bound: bool = False
    """Whether they are a maker's best, so that a time is the least possible and no estimate."""
    bytes_of_weight: int = FULL


def forward_seconds(
    shape: ModelShape, machine: Machine, *, tokens: int, cached: int, generates: bool
) -> float:
    """One pass of `tokens` tokens behind `cached` ones; a language model's head reads the last token."""
    head = shape.width * shape.vocabulary if generates else 0
    weights = shape.linear_parameters + head
    cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * (cached if generates else 0)
    seen = cached + tokens / 2 if generates else tokens
    pairs = 4 * shape.layers * shape.heads * shape.head_dim * tokens * seen
    flops = 2 * (tokens * shape.linear_parameters + head) + pairs
    reading = machine.bytes_of_weight * (weights + cache) / machine.bandwidth
    elements = PASSES_OF_A_LAYER * shape.layers * tokens * shape.width
    beside = calls_of(shape) * machine.call_seconds + elements * machine.element_seconds
    return max(reading, flops / machine.flops) + beside


def calls_of(shape: ModelShape) -> int:
    """What the host has to do in one pass, however few tokens go through."""
    return CALLS_AROUND + CALLS_OF_A_LAYER * shape.layers


def predict_latency(
    task: Task, shape: ModelShape, machine: Machine, prompt: int
) -> dict[str, float]:
    """Milliseconds by the name of the metric, for a prompt (or a text) of `prompt` tokens."""
    if task != "TextGeneration":
        once = forward_seconds(shape, machine, tokens=prompt, cached=0, generates=False)
        return {ANSWER: 1000 * once}
    first = sum(
        forward_seconds(
            shape,
            machine,
            tokens=min(PREFILL_TOKENS, prompt - start),
            cached=start,
            generates=True,
        )
        for start in range(0, prompt, PREFILL_TOKENS)
    )
    later = forward_seconds(shape, machine, tokens=1, cached=prompt, generates=True)
    return {FIRST_TOKEN: 1000 * first, TOKEN: 1000 * later}


def prompt_of(budget: LatencyBudget, length: int, shape: ModelShape) -> int:
    """Tokens for which the limits hold; `length` is training.maxLength."""
    return min(budget.prompt_tokens or length, shape.context)


def too_slow(budget: LatencyBudget, predicted: dict[str, float]) -> dict[str, float]:
    """The metrics that break their limit."""
    limits = budget.limits
    return {name: value for name, value in predicted.items() if value > limits.get(name, value)}


def smallest_change(
    task: Task, shape: ModelShape, machine: Machine, prompt: int, name: str, limit: int
) -> str:
    """What would meet the limit `name`: a shorter prompt, else a smaller model, or a limit that holds."""
    value = predict_latency(task, shape, machine, prompt)[name]
    shorter = _longest_prompt(task, shape, machine, prompt, name, limit)
    if shorter:
        return f"write deployment.latency.promptTokens: {shorter}"
    fixed = 1000 * machine.call_seconds * calls_of(shape)
    raised = f"write {field_of(name)}: {ceil(value)}"
    if limit <= fixed:
        return raised
    share = (limit - fixed) / (value - fixed)
    millions = share * shape.parameters / 1e6
    return f"{raised}, or name a base model of at most {millions:.3g} M weights"


def _longest_prompt(
    task: Task, shape: ModelShape, machine: Machine, prompt: int, name: str, limit: int
) -> int:
    """Most tokens of a prompt that meet the limit, 0 where not one does."""
    below, above = 0, prompt
    while above - below > 1:
        middle = (below + above) // 2
        if predict_latency(task, shape, machine, middle)[name] <= limit:
            below = middle
        else:
            above = middle
    return below
