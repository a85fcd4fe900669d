"""What a step of DPO costs: answers' tokens alone and pairs without padding, against padded ones and all logits.

    PYTHONPATH=operator:trainer_image python bench/bench_preference_memory.py [ROUNDS]

One forward and backward pass over 4 pairs of at most 256 tokens, of which the last 40 % are the answer's,
on two models with random weights: two layers of SmolLM2-135M (vocabulary 49,152) and one of Qwen2.5-0.5B
(151,936). Float32, one thread, one process for each side and round, the rounds interleaved. Told: the peak
of resident memory above that before the pass, and CPU seconds. `all` pads, and has the logits of all
positions, as a model whose head does more than a product (training/probe.py); `labelled` pads; `packed` is
the way of most models. Before a side counts, its gradients must be those of `all` within 1e-4 of their norm.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from bench_loss_memory import resident

PAIRS, LONGEST, ANSWER = 4, 256, 0.4
MODELS: dict[str, dict[str, int]] = {
    "smollm2": {
        "vocab_size": 49_152,
        "hidden_size": 576,
        "intermediate_size": 1_536,
        "num_hidden_layers": 2,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "qwen2.5": {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4_864,
        "num_hidden_layers": 1,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}
SIDES = ("all", "labelled", "packed")
TOLERANCE = 1e-4


def model_of(name: str, method: Any) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from oikyo.api.adapters import LoRA
    from oikyo.api.training import TrainingSpec
    from oikyo_trainer.training.methods.adapters import add_adapter
    from oikyo_trainer.training.methods.lowrank import fuse

    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**MODELS[name], tie_word_embeddings=True))
    if method == "Full":
        return base.train()
    training = TrainingSpec(method=method, lora=LoRA(dropout="0"))
    adapted = add_adapter(base, "TextGeneration", training, autocast=True)
    fuse(adapted)
    return adapted.train()


def pairs_of(vocabulary: int) -> Any:
    """Pairs of random tokens; the longest fills LONGEST, the others less."""
    import numpy as np

    from oikyo_trainer.training.preferences import ComparedRows
    from oikyo_trainer.training.tokenfiles import TokenRows

    dice = np.random.default_rng(1)
    lengths = np.array([LONGEST, *dice.integers(LONGEST // 2, LONGEST, 2 * PAIRS - 1)])
    marks = np.concatenate([np.arange(length) >= (1 - ANSWER) * length for length in lengths])
    tokens = dice.integers(0, vocabulary, len(marks))
    return ComparedRows(TokenRows(tokens, marks, lengths.cumsum(), lengths), np.ones(PAIRS, bool))


def trainer_of(model: Any, method: Any, side: str) -> Any:
    """As far as the loss asks it; it begins at the base, so that each pair has the loss of a coin."""
    import torch

    from oikyo.api.training import TrainingSpec
    from oikyo_trainer.training.distributed import World
    from oikyo_trainer.training.microbatch import Layout
    from oikyo_trainer.training.preferences import Preferring
    from oikyo_trainer.training.probe import Choice, choose

    made = Preferring()
    made.training_spec, made.world = TrainingSpec(method=method, objective="DPO"), World()
    made.references = {True: torch.zeros(PAIRS, 2)}
    made.desirable = {True: torch.ones(PAIRS, dtype=torch.bool)}
    made.choice = Choice(Layout(False, 0), False, "", "")
    if side != "all":
        why = "" if side == "packed" else "answers"
        made.choice = choose(model, 0, sharded=False, why_padded=why)
        assert made.choice.fused, made.choice.loss_reason
        assert made.choice.layout.packed == (side == "packed"), made.choice.packing_reason
    return made


def one(name: str, method: str, side: str, gradients: Path) -> None:
    import torch

    from oikyo_trainer.training.microbatch import build

    torch.set_num_threads(1)
    model = model_of(name, method)
    trainer, pairs = trainer_of(model, method, side), pairs_of(MODELS[name]["vocab_size"])
    part = build(pairs, range(PAIRS), replace(trainer.choice.layout, sequences=2, sides=(0, 1)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, begun = resident("VmRSS"), time.process_time()
    (trainer._summed(model, part) / PAIRS).backward()
    seconds, peak = time.process_time() - begun, resident("VmHWM") - before
    found = torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])
    if side == "all":
        torch.save(found, gradients)
    wanted = torch.load(gradients)
    error = float((found - wanted).norm() / wanted.norm())
    print(json.dumps({"bytes": peak, "seconds": seconds, "error": error}))


def measured(name: str, method: str) -> dict[str, float]:
    """One round: all sides, `all` first, as it makes the gradients to compare with."""
    line: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            command = [sys.executable, __file__, "--one", name, method, side, f"{folder}/kept.pt"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} {method} {side} failed:\n{done.stderr[-3000:]}")
            told = json.loads(done.stdout.splitlines()[-1])
            if not told["error"] <= TOLERANCE:
                raise SystemExit(f"{name} {method} {side} has other gradients: {told['error']}")
            line |= {f"{side}_{key}": value for key, value in told.items()}
    for side, peer in pairwise(SIDES[::-1]):
        line[f"{side}_memory_ratio"] = line[f"{side}_bytes"] / line[f"{peer}_bytes"]
        line[f"{side}_time_ratio"] = line[f"{side}_seconds"] / line[f"{peer}_seconds"]
    return line


def main(rounds: int) -> None:
    cases = list(product(MODELS, ("Full", "LoRA")))
    lines: dict[Any, list[dict[str, float]]] = {case: [] for case in cases}
    for _, case in product(range(rounds), cases):
        lines[case].append(measured(*case))
        print(*case, json.dumps({k: round(v, 6) for k, v in lines[case][-1].items()}), flush=True)
    for case, found in lines.items():
        median = {
            name: round(statistics.median(one[name] for one in found), 4) for name in found[0]
        }
        print("median", *case, json.dumps(median))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        name, method, side, kept = sys.argv[2:]
        one(name, method, side, Path(kept))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
