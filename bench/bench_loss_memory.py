"""What the loss over a large vocabulary costs: ours, transformers' own, and TRL's fused head.

    PYTHONPATH=operator:trainer_image python bench/bench_loss_memory.py [ROUNDS]

One forward and backward pass of a Llama with one layer of 256 and a vocabulary of 151,936 over 2,048
tokens, 30 % of them labelled; float32, one thread, one process for each side and round, the rounds
interleaved. Told: the peak of resident memory above that before the pass, without what the gradient of
the head itself takes (it stays, on every side), and CPU seconds. Before a side counts, its gradient of
the head must be that of transformers within 1e-4 of its norm.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VOCABULARY, WIDTH, TOKENS, LABELLED = 151_936, 256, 2_048, 0.3
SIDES = ("transformers", "trl", "oikyo")
TOLERANCE = 1e-4


def model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=688,
        max_position_embeddings=TOKENS,
    )
    return LlamaForCausalLM(config)


def row() -> tuple[Any, Any]:
    """Tokens and labels, each (1, TOKENS)."""
    import torch

    source = torch.Generator().manual_seed(1)
    ids = torch.randint(0, VOCABULARY, (1, TOKENS), generator=source)
    labelled = torch.rand((1, TOKENS), generator=source) < LABELLED
    return ids, torch.where(labelled, ids, -100)


def summed_loss(side: str, live: Any) -> Any:
    """A function of nothing: the summed loss, () float32."""
    import torch

    ids, labels = row()
    positions = (labels[0, 1:] != -100).nonzero()[:, 0]
    count = len(positions)
    if side == "transformers":
        return lambda: live(input_ids=ids, labels=labels).loss * count
    if side == "trl":
        from trl.trainer.utils import add_fused_lm_head

        add_fused_lm_head(live)
        return lambda: -live(input_ids=ids, labels=labels, fused_lm_head=True).log_probs.sum()
    from oikyo_trainer.training.loss import fuse_loss

    fuse_loss(live)
    targets = labels[0, 1:][positions]
    assert targets.dtype == torch.int64
    return lambda: live(input_ids=ids, targets=targets, positions=positions, use_cache=False)


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


def one(side: str, gradient: Path) -> None:
    import torch

    torch.set_num_threads(1)
    live = model()
    loss = summed_loss(side, live)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, begun = resident("VmRSS"), time.process_time()
    loss().backward()
    seconds, peak = time.process_time() - begun, resident("VmHWM") - before
    head = live.lm_head.weight.grad
    kept = head.numel() * head.element_size()
    if side == "transformers":
        torch.save(head, gradient)
        error = 0.0
    else:
        reference = torch.load(gradient)
        error = float((head - reference).norm() / reference.norm())
    print(json.dumps({"bytes": peak - kept, "seconds": seconds, "error": error}))


def measured() -> dict[str, float]:
    """One round: every side once, transformers first, as it makes the gradient to compare with."""
    line: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in SIDES:
            command = [sys.executable, __file__, "--one", side, f"{folder}/gradient.pt"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
            told = json.loads(done.stdout.splitlines()[-1])
            if not told["error"] <= TOLERANCE:
                raise SystemExit(f"{side} computes another gradient: {told['error']}")
            line |= {f"{side}_{name}": value for name, value in told.items()}
    for peer in SIDES[:2]:
        line[f"memory_against_{peer}"] = line["oikyo_bytes"] / line[f"{peer}_bytes"]
        line[f"time_against_{peer}"] = line["oikyo_seconds"] / line[f"{peer}_seconds"]
    return line


def main(rounds: int) -> None:
    lines = []
    for _ in range(rounds):
        lines.append(measured())
        print(json.dumps({name: round(value, 6) for name, value in lines[-1].items()}), flush=True)
    medians = {name: round(statistics.median(one[name] for one in lines), 4) for name in lines[0]}
    print(json.dumps({"rounds": rounds, "median": medians}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
