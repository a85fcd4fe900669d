"""Latency of one request: predicted from a model's config alone against measured, on this machine's CPU.

    PYTHONPATH=operator:trainer_image python bench/bench_latency_prediction.py [ROUNDS] [--write FILE]

Random models of several sizes are saved and served for real by the step of the server; each round
calibrates, predicts and measures one after the other, and the median of the rounds counts. The figures in
planning/latency.py were fitted on the llamas of 2 M and 60 M and the bert of 11 M; the other models are held
out, and their errors are told by themselves.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

LLAMA = {"model_type": "llama", "num_key_value_heads": 2, "max_position_embeddings": 2048}
MODELS: dict[str, dict[str, Any]] = {
    "llama 2 M": LLAMA | {"width": 160, "layers": 4, "heads": 4, "wide": 432, "vocabulary": 2048},
    "bert 11 M": {"model_type": "bert", "width": 384, "layers": 6, "heads": 12, "wide": 1536,
                  "vocabulary": 2048, "max_position_embeddings": 512},
    "llama 11 M": LLAMA | {"width": 256, "layers": 4, "heads": 4, "wide": 688, "vocabulary": 32000},
    "llama 60 M": LLAMA | {"width": 512, "layers": 12, "heads": 8, "wide": 1536, "vocabulary": 16000},
    "llama 270 M": LLAMA | {"width": 1024, "layers": 16, "heads": 16, "wide": 4096, "vocabulary": 16000},
    "bert 85 M": {"model_type": "bert", "width": 768, "layers": 12, "heads": 12, "wide": 3072,
                  "vocabulary": 2048, "max_position_embeddings": 512},
}  # fmt: skip
FITTED = ("llama 2 M", "bert 11 M", "llama 60 M")
"""Models that the figures of planning/latency.py rest on."""
LENGTHS = (64, 256)


def make(folder: Path, given: dict[str, Any]) -> None:
    """A random model of the size, as a version lies in a workspace."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    torch.manual_seed(0)
    named = {"width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
             "wide": "intermediate_size", "vocabulary": "vocab_size"}  # fmt: skip
    options = {named.get(name, name): value for name, value in given.items()}
    config = AutoConfig.for_model(**options, pad_token_id=0)
    bert = given["model_type"] == "bert"
    kind = AutoModelForSequenceClassification if bert else AutoModelForCausalLM
    kind.from_config(config).save_pretrained(folder)


def compare(folder: Path, task: Any, rounds: int, length: int) -> dict[str, tuple[float, float]]:
    """Name of a metric -> milliseconds predicted and measured."""
    from oikyo_trainer.evaluation.latency import measure_latency
    from oikyo_trainer.planning.latency import predict_latency
    from oikyo_trainer.planning.machines import this_processor
    from oikyo_trainer.planning.shape import read_shape

    shape = read_shape(folder)
    pairs: list[tuple[dict[str, float], dict[str, float]]] = []
    for _ in range(rounds):
        predicted = predict_latency(task, shape, this_processor(shape, length), length)
        pairs.append((predicted, measure_latency(folder, task, length)))
    return {
        name: (
            statistics.median(predicted[name] for predicted, _ in pairs),
            statistics.median(measured[name] for _, measured in pairs),
        )
        for name in pairs[0][0]
    }


def _summary(errors: list[float]) -> str:
    sizes = sorted(map(abs, errors))
    return f"median error {statistics.median(sizes):.0%}, largest {sizes[-1]:.0%}"


def main() -> int:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("rounds", type=int, nargs="?", default=3)
    command.add_argument("--write", type=Path)
    given = command.parse_args()
    head = [
        "| model | tokens of prompt | metric | predicted | measured | error |",
        "|---|---|---|---|---|---|",
    ]
    lines, errors, held_out = list(head), list[float](), list[float]()
    print("\n".join(head), flush=True)
    for name, size in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), size)
            task = "TextClassification" if name.startswith("bert") else "TextGeneration"
            for length in LENGTHS:
                found = compare(Path(folder), task, given.rounds, length)
                for metric, (predicted, measured) in found.items():
                    error = predicted / measured - 1
                    (errors if name in FITTED else held_out).append(error)
                    told = f"{predicted:.2f} ms | {measured:.2f} ms | {error:+.0%}"
                    lines.append(f"| {name} | {length} | {metric} | {told} |")
                    print(lines[-1], flush=True)
    lines += ["", f"Held out: {_summary(held_out)}. Fitted: {_summary(errors)}."]
    print(lines[-1])
    if given.write:
        given.write.write_text("\n".join(lines) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
