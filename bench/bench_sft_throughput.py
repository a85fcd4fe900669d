"""How many tokens an instruction tuning learns in a second: ours against TRL's SFTTrainer.

    PYTHONPATH=operator:trainer_image python bench/bench_sft_throughput.py [ROUNDS] [--gpu]

A random Llama of 11 M parameters (4 layers of 256, vocabulary 32,000) learns rows of log-normal lengths
(median 140, sigma 0.9, 16 to 1,024 tokens), the first half of each without labels: 7 optimizer steps of
8 rows, float32, one thread, each of the 56 rows once and the same first weights on every side. Each run is a
process of its own; the rounds interleave the sides. Told: real tokens a CPU-second, from the end of the first
step on. Before a side counts, the loss of each of 2 batches that it makes must be that of its rows alone
within 1e-3; what packs rows under an attention that mixes them falls out there.

Sides of TRL: its default (activations computed again), the same without that, and rows grouped by
length. `packing` and `padding_free` are tried as well; a side that fails the gate is told with its error
and a rate of 0, as it is not timed.

`--gpu`: a Llama of 450 M parameters on a GPU in bfloat16, 13 steps of 32 rows, real tokens a second of the clock
from the end of the third step on, losses within 3e-2; TRL's sides also with Liger's kernels, as ours takes them.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

VOCABULARY = 32_000
GPU = "--gpu" in sys.argv
STEPS, BATCH, WARM, TOLERANCE = (13, 32, 3, 3e-2) if GPU else (7, 8, 1, 1e-3)
SIZES: dict[str, int] = (
    {"hidden_size": 1536, "intermediate_size": 4096, "num_hidden_layers": 16}
    | {"num_attention_heads": 12, "num_key_value_heads": 4}
    if GPU
    else {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4}
    | {"num_attention_heads": 4}
)
GATED = 2
"""Batches whose loss is held against that of their rows alone."""
TRL: dict[str, dict[str, Any]] = {
    "trl_default": {},
    "trl_kept_activations": {"gradient_checkpointing": False},
    "trl_grouped": {
        "gradient_checkpointing": False,
        "train_sampling_strategy": "group_by_length",
    },
    "trl_padding_free": {"gradient_checkpointing": False, "padding_free": True},
    "trl_packing": {"gradient_checkpointing": False, "packing": True, "max_length": 1024},
}
if GPU:
    TRL |= {f"{name}_liger": given | {"use_liger_kernel": True} for name, given in TRL.items()}
METHODS = ("Full", "LoRA")


def model(method: str) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            **SIZES,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=0,
        )
    )
    if method == "Full":
        return made
    from peft import LoraConfig, get_peft_model

    return get_peft_model(made, LoraConfig(r=8, target_modules="all-linear"))


def rows() -> list[dict[str, list[int]]]:
    import numpy as np

    random = np.random.default_rng(1)
    lengths = np.clip(np.exp(random.normal(np.log(140), 0.9, STEPS * BATCH)), 16, 1024).astype(int)
    made = []
    for length in lengths:
        ids = random.integers(3, VOCABULARY, length).tolist()
        made.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    return made


def alone(live: Any, row: dict[str, list[int]]) -> float:
    """Summed loss of one row by itself."""
    import torch
    from torch.nn.functional import cross_entropy

    ids = torch.tensor([row["input_ids"]], device=live.device)
    labels = torch.tensor(row["labels"][1:], device=live.device)
    with as_trained():
        logits = live(input_ids=ids).logits[0, :-1]
    return float(cross_entropy(logits.float(), labels, reduction="sum"))


def as_trained() -> Any:
    """The arithmetic of the steps."""
    import torch

    return torch.autocast("cuda", torch.bfloat16, enabled=GPU)


def now() -> float:
    """Seconds of the CPU; of the clock, once the GPU has nothing more to do."""
    if not GPU:
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """Seconds from the end of the step WARM to the last."""

    def __init__(self) -> None:
        self.begun = 0.0

    def callback(self) -> Any:
        from transformers import TrainerCallback

        clock = self

        class Begin(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step == WARM:
                    clock.begun = now()

        return Begin()


def tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w2")),
        pad_token="w0",
        eos_token="w1",
        unk_token="w2",
    )


def run_trl(folder: Path, method: str, options: dict[str, Any]) -> dict[str, float]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    clock, tokens = Clock(), []
    settings = {"max_length": None, **options}
    config = SFTConfig(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-4,
        bf16=GPU,
        use_cpu=not GPU,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        dataloader_pin_memory=False,
        **settings,
    )

    class Counting(SFTTrainer):
        def training_step(self, live: Any, inputs: Any, *more: Any, **named: Any) -> Any:
            mask = inputs.get("attention_mask")
            tokens.append(int(mask.sum()) if mask is not None else inputs["input_ids"].numel())
            return super().training_step(live, inputs, *more, **named)

    trainer = Counting(
        model=model(method),
        args=config,
        train_dataset=Dataset.from_list(rows()),
        processing_class=tokenizer(),
        callbacks=[clock.callback()],
    )
    error = _error_of_trl(trainer)
    if error > TOLERANCE:
        return {"rate": 0.0, "error": error}
    trainer.train()
    seconds = now() - clock.begun
    return {"rate": sum(tokens[WARM:]) / seconds, "error": error}


def _error_of_trl(trainer: Any) -> float:
    """Largest difference of a mean loss of one batch from its rows alone, over some batches."""
    import torch

    worst = 0.0
    live = trainer.model.eval()
    loader = trainer.get_train_dataloader()
    with torch.no_grad():
        for _, batch in zip(range(GATED), loader, strict=False):
            labels = batch["labels"]
            here = {
                name: value.to(live.device) if torch.is_tensor(value) else value
                for name, value in batch.items()
            }
            with as_trained():
                together = float(trainer.compute_loss(live, here))
            parts = _rows_of(batch)
            counts = sum(int((torch.tensor(p["labels"][1:]) != -100).sum()) for p in parts)
            apart = sum(alone(live, part) for part in parts) / counts
            worst = max(worst, abs(together - apart))
            assert labels.numel()
    live.train()
    return worst


def _rows_of(batch: Any) -> list[dict[str, list[int]]]:
    """The rows that stand in a batch of TRL, padded or laid end to end."""
    ids, labels = batch["input_ids"], batch["labels"]
    if "position_ids" in batch:
        starts = [*(batch["position_ids"][0] == 0).nonzero()[:, 0].tolist(), ids.shape[1]]
        spans = [(0, a, b) for a, b in pairwise(starts)]
    else:
        spans = [(n, 0, int(mask.sum())) for n, mask in enumerate(batch["attention_mask"])]
    return [
        {"input_ids": ids[n, a:b].tolist(), "labels": labels[n, a:b].tolist()} for n, a, b in spans
    ]


def run_oikyo(folder: Path, method: str) -> dict[str, float]:
    import numpy as np
    import torch

    from oikyo.api.stages import TrainSpec
    from oikyo.api.training import TrainingSpec
    from oikyo_trainer.training.checkpoint import Checkpoints
    from oikyo_trainer.training.distributed import World
    from oikyo_trainer.training.hyperparameters import Facts, resolve
    from oikyo_trainer.training.methods.lowrank import fuse
    from oikyo_trainer.training.microbatch import build
    from oikyo_trainer.training.precision import Precision
    from oikyo_trainer.training.probe import summed_loss
    from oikyo_trainer.training.supervised import Supervised, make_whole_steps
    from oikyo_trainer.training.throughput import Throughput
    from oikyo_trainer.training.tokenfiles import SplitWriter, open_rows
    from oikyo_trainer.training.trainers import make_arguments

    given = rows()
    with SplitWriter(folder, "train", "marks") as file:
        for row in given:
            marks = np.not_equal(row["labels"], -100)
            file.add(row["input_ids"], [len(marks)], marks)
    training = TrainingSpec(
        method=method,
        batch_size=BATCH,
        max_steps=STEPS,
        max_length=1024,
        learning_rate="1e-4",
        precision="BFloat16" if GPU else "Float32",
        resources={"gpus": int(GPU)},
    )
    zero = "sha256:" + "0" * 64
    spec = TrainSpec(
        run="bench",
        task="TextGeneration",
        dataset_digest=zero,
        model_digest=zero,
        training=training,
    )
    facts = Facts(
        train_rows=len(given),
        validation_rows=0,
        parameters=11_000_000,
        context_length=1024,
        processes=1,
        precision=Precision(bf16=GPU, reason="the same on every side"),
    )
    plan, world, clock = resolve(training, "TextGeneration", facts), World(), Clock()
    counted: list[int] = []

    class Counter(Throughput):
        def count(self, *, tokens: int, slots: int, labels: int, squares: int) -> None:
            counted.append(tokens)
            super().count(tokens=tokens, slots=slots, labels=labels, squares=squares)

    arguments = make_arguments(spec, plan, world, folder, cuda=GPU)
    live = model(method)
    if not GPU:
        fuse(live)  # as training/running.py does on a CPU; nothing in a model without LoRA
    trainer, _ = make_whole_steps(
        Supervised,
        training,
        plan,
        world,
        model=live,
        arguments=arguments,
        tokenizer=tokenizer(),
        train_rows=open_rows(folder, "train"),
        validation_rows=None,
        callbacks=[clock.callback(), _mark(counted)],
    )
    trainer.counter, trainer.world = Counter(), world
    trainer.checkpoints = Checkpoints(
        folder,
        keep=2,
        run="bench",
        attempt=1,
        world_size=1,
        libraries={},
        before_commit=lambda: None,
    )
    layout, worst = trainer.choice.layout, 0.0
    live = trainer.model.eval()
    with torch.no_grad():
        for start in range(0, GATED * BATCH, BATCH):
            part = build(trainer.train_dataset.rows, tuple(range(start, start + BATCH)), layout)
            with as_trained():
                total = summed_loss(live, part.to(live.device), fused=trainer.choice.fused)
            together = float(total) / part.labels
            apart = sum(alone(live, row) for row in given[start : start + BATCH]) / part.labels
            worst = max(worst, abs(together - apart))
    live.train()
    trainer.train()
    seconds = now() - clock.begun
    warm = counted.index(-1)
    return {"rate": float(np.sum(counted[warm + 1 :])) / seconds, "error": worst}


def _mark(counted: list[int]) -> Any:
    """Puts -1 between the tokens of the warm steps and those that are timed."""
    from transformers import TrainerCallback

    class Mark(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM:
                counted.append(-1)

    return Mark()


def one(side: str, method: str) -> None:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if side == "oikyo":
            told = run_oikyo(Path(folder), method)
        else:
            told = run_trl(Path(folder), method, TRL[side])
    if GPU:
        told["gib"] = torch.cuda.max_memory_allocated() / 2**30
    print(json.dumps(told))


def measured(method: str) -> dict[str, Any]:
    """One round: every side once."""
    line: dict[str, Any] = {"method": method}
    for side in ("oikyo", *TRL):
        command = [sys.executable, __file__, "--one", side, method, *["--gpu"] * GPU]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{side} failed:\n{done.stderr[-3000:]}", file=sys.stderr)
            line[side], line[f"{side}_error"] = 0.0, math.inf
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        print(side, told, file=sys.stderr, flush=True)
        line[side], line[f"{side}_error"] = round(told["rate"], 1), round(told["error"], 5)
        if GPU:
            line[f"{side}_gib"] = round(told["gib"], 2)
    if not line["oikyo_error"] <= TOLERANCE:
        raise SystemExit(f"ours is not the loss of the rows alone: {line['oikyo_error']}")
    best = max(line[side] for side in TRL if line[f"{side}_error"] <= TOLERANCE)
    line["against_default"] = round(line["oikyo"] / line["trl_default"], 3)
    line["against_best_correct"] = round(line["oikyo"] / best, 3)
    return line


def main(rounds: int) -> None:
    for method in METHODS:
        lines = []
        for _ in range(rounds):
            lines.append(measured(method))
            print(json.dumps(lines[-1]), flush=True)
        medians = {
            name: round(statistics.median(line[name] for line in lines), 4)
            for name in lines[0]
            if name != "method"
        }
        print(json.dumps({"method": method, "rounds": rounds, "median": medians}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2], sys.argv[3])
    else:
        main(int(next((given for given in sys.argv[1:] if given.isdigit()), "1")))
