"""python -m oikyo_trainer.planning --job JOB.json --model FOLDER: what `oikyo plan` runs."""

from __future__ import annotations

import argparse
import json
import sys
from math import ceil
from pathlib import Path
from typing import Any

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.latency import field_of
from oikyo.api.stages import EXIT_DONE, EXIT_REFUSED, ServingLatency

from ..errors import Refused
from .choose import Choice
from .latency import predict_latency, prompt_of, smallest_change, too_slow
from .road import plan_training, processes_of, quantity, server_of, why_unknown
from .serving import CONCURRENCY, adapter_bytes, serving_need
from .shape import ModelShape, read_shape
from .tensor import check_tensor

LEAST = 1 << 20
"""Bytes below which a memory is a unit that was forgotten."""
MEMINFO = Path("/proc/meminfo")


def main(argv: list[str] | None = None) -> int:
    """Print the plan of a job; 64 where it cannot fit."""
    parser = argparse.ArgumentParser(prog="oikyo plan")
    parser.add_argument("--job", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--memory", default="")
    parser.add_argument("--gpu-memory", default="")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    try:
        job = FineTuneJob.model_validate_json(given.job.read_bytes())
        shape = read_shape(given.model)
        training = job.spec.training
        check_tensor(training, given.model, processes=processes_of(training)[0])
        memory, source = memory_of(job, given.memory, given.gpu_memory)
        choice = plan_training(training, job.spec.task, shape, memory)
        body = as_json(job, shape, choice, source)
    except Refused as error:
        print(f"error: {error.message}\n       {error.next_step}", file=sys.stderr)
        return EXIT_REFUSED
    print(json.dumps(body, indent=2) if given.json else table(body))
    return EXIT_DONE if choice.fits and _serves(body["serving"]) else EXIT_REFUSED


def _serves(serving: dict[str, Any]) -> bool:
    return serving["fits"] and not any(item["change"] for item in serving["latency"])


def memory_of(job: FineTuneJob, memory: str, gpu_memory: str) -> tuple[int, str]:
    """Bytes that one process may use, and who says so."""
    resources = job.spec.training.resources
    try:
        if resources.gpus:
            if not gpu_memory:
                raise Refused(
                    "GpuMemoryUnknown",
                    f"training.resources.gpus is {resources.gpus}, and a manifest does not say how "
                    "much memory a GPU has",
                    next_step="Say it: --gpu-memory 80Gi",
                )
            return _given("--gpu-memory", gpu_memory), "--gpu-memory"
        text = memory or resources.memory
        source = "--memory" if memory else "training.resources.memory"
        whole = _given(source, text) if text else _machine()
    except ValueError as error:
        raise Refused(
            "InvalidQuantity",
            f"{error} is no memory of a machine",
            next_step="Write for example 16Gi",
        ) from None
    local = processes_of(job.spec.training)[0]
    source = source if text else "the memory of this machine"
    return whole // local, source if local == 1 else f"{source}, for {local} processes"


def _given(field: str, text: str) -> int:
    """Bytes of a quantity; without a unit it would be bytes, which nobody means."""
    try:
        size = quantity(text)
    except ValueError:
        raise ValueError(f"{field} {text}") from None
    if size < LEAST:
        raise ValueError(f"{field} {text} ({size} bytes)")
    return size


def _machine() -> int:
    lines = MEMINFO.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal"))


def as_json(job: FineTuneJob, shape: ModelShape, choice: Choice, source: str) -> dict[str, Any]:
    """The plan as a program reads it; sizes in bytes."""
    setup = choice.setup
    return {
        "job": job.metadata.name,
        "parameters": shape.parameters,
        "fits": choice.fits,
        "reason": choice.reason,
        "change": choice.change,
        "memory": choice.memory,
        "memorySource": source,
        "peak": choice.prediction.peak,
        "terms": [
            {"name": term.name, "bytes": term.size, "source": term.source}
            for term in choice.prediction.terms
        ],
        "method": setup.method,
        "strategy": setup.strategy,
        "processes": setup.processes,
        "tensorParallelSize": setup.tensor,
        "microBatchSize": setup.rows,
        "gradientCheckpointing": setup.checkpointing,
        "gradientAccumulation": choice.accumulation,
        "maxLength": setup.length,
        "precision": "BFloat16" if setup.bf16 else "Float32",
        "serving": _serving(job, shape, setup.length),
    }


def _serving(job: FineTuneJob, shape: ModelShape, length: int) -> dict[str, Any]:
    wanted = job.spec.deployment
    cuda = wanted is not None and wanted.resources.gpus > 0
    training = job.spec.training
    needed = serving_need(job.spec.task, training, shape, length=length, cuda=cuda)
    limit = wanted.resources.memory if wanted is not None and not cuda else None
    bound = quantity(limit) if limit else None
    fits = bound is None or needed <= bound
    return {
        "bytes": needed,
        "memory": bound,
        "concurrency": CONCURRENCY,
        "fits": fits,
        "adapter": adapter_bytes(job.spec.task, training, shape),
        "latency": _latency(job, shape),
    }


def _latency(job: FineTuneJob, shape: ModelShape) -> list[dict[str, Any]]:
    """Each limit of the latency beside what is predicted, as if this machine served on its CPU."""
    wanted = job.spec.deployment
    if wanted is None or wanted.latency is None:
        return []
    budget = wanted.latency
    prompt = prompt_of(budget, job.spec.training.max_length, shape)
    given = ServingLatency(budget=budget, gpus=wanted.resources.gpus, here=True)
    machine = server_of(given, shape, prompt)
    if machine is None:
        unknown = {"predicted": None, "source": why_unknown(given), "change": ""}
        limits = budget.limits.items()
        return [{"field": field_of(name), "limit": limit, **unknown} for name, limit in limits]
    predicted = predict_latency(job.spec.task, shape, machine, prompt)
    slow = too_slow(budget, predicted)
    return [
        {
            "field": field_of(name),
            "limit": limit,
            "predicted": predicted[name],
            "source": f"{prompt} tokens of prompt, {machine.source}",
            "change": smallest_change(job.spec.task, shape, machine, prompt, name, limit)
            if name in slow
            else "",
        }
        for name, limit in budget.limits.items()
    ]


def table(body: dict[str, Any]) -> str:
    """The plan as a person reads it."""
    rows = [(term["name"], term["bytes"], term["source"]) for term in body["terms"]]
    rows.append(("peak", body["peak"], "of one process, predicted"))
    rows.append(("available", body["memory"], body["memorySource"]))
    lines = [f"{name:<16} {_size(size):>10}  {source}" for name, size, source in rows]
    lines += [
        "",
        f"{body['method']}, {body['strategy']}, {body['processes']} process(es){_groups(body)}, "
        f"{body['precision']}, maxLength {body['maxLength']}"
        f"{', gradient checkpointing' if body['gradientCheckpointing'] else ''}",
        f"microBatchSize {body['microBatchSize']} ({body['reason']}), "
        f"accumulated {body['gradientAccumulation']} times",
    ]
    serving = body["serving"]
    lines.append(f"serving needs {_size(serving['bytes'])} at {serving['concurrency']} requests")
    if serving["adapter"]:
        lines.append(f"each further adapter of this kind adds {_size(serving['adapter'])}")
    if not serving["fits"]:
        lines.append(
            f"that is more than deployment.resources.memory {_size(serving['memory'])}: write "
            f"{ceil(serving['bytes'] / 2**20)}Mi or more"
        )
    lines += [_latency_line(item) for item in serving["latency"]]
    ends = f"the training does not fit: {body['change']}"
    if body["fits"]:
        ends = "it fits" if _serves(serving) else "the training fits, what it leaves does not serve"
    lines.append(ends)
    return "\n".join(lines)


def _groups(body: dict[str, Any]) -> str:
    size = body["tensorParallelSize"]
    return "" if size == 1 else f" in tensor groups of {size}"


def _latency_line(item: dict[str, Any]) -> str:
    limit = f"{item['field']} {item['limit']}"
    if item["predicted"] is None:
        return f"{limit}: not predicted, will be measured after training: {item['source']}"
    told = f"{limit}: {item['predicted']:.3g} ms predicted ({item['source']})"
    return f"{told}; it is too slow: {item['change']}" if item["change"] else told


def _size(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 1 << 30 else f"{number / 2**20:.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
