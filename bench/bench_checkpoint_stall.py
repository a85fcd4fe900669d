"""What a checkpoint costs the training: ours against transformers' Trainer and torch's async_save.

    PYTHONPATH=operator:trainer_image python bench/bench_checkpoint_stall.py [ROUNDS]

A causal model of 35 M parameters (140 MB, with AdamW's moments 420 MB) is trained for 30 steps and saved
every 5. The variable MB_PER_SECOND is how fast the volume takes them: whoever writes faster waits. Each
run is a process of its own; the rounds interleave the kinds. Told per save: the seconds that steps
waited for it, and the seconds that it added to the run over one that saves nothing (the writing
competes for the same processors). One JSON line a round, then the medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS, EVERY = 30, 5
SAVES = STEPS // EVERY
RATE = float(os.environ.get("MB_PER_SECOND", "1e6")) * 1e6
KINDS = ("none", "trainer", "async_save", "oikyo")


def model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        num_hidden_layers=9,
        num_attention_heads=8,
        intermediate_size=1408,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def rows() -> list[dict[str, Any]]:
    import torch

    made = torch.randint(0, 8192, (STEPS, 192), generator=torch.Generator().manual_seed(1))
    return [
        {"input_ids": row, "labels": row.clone(), "attention_mask": torch.ones_like(row)}
        for row in made
    ]


def arguments(folder: Path, **more: Any) -> Any:
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(folder),
        max_steps=STEPS,
        per_device_train_batch_size=1,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        **more,
    )


def pace(begun: float, folder: Path) -> None:
    """Let the writing of `folder` last as long as it takes on the volume."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    time.sleep(max(0.0, begun + size / RATE - time.perf_counter()))


def timed(trainer: Any, waited: list[float]) -> dict[str, float]:
    begun = time.perf_counter()
    trainer.train()
    return {"seconds": time.perf_counter() - begun, "stall": sum(waited)}


def run_none(folder: Path) -> dict[str, float]:
    from transformers import Trainer

    options = arguments(folder, save_strategy="no")
    return timed(Trainer(model=model(), args=options, train_dataset=rows()), [])


def run_trainer(folder: Path) -> dict[str, float]:
    from transformers import Trainer

    waited: list[float] = []

    class Timed(Trainer):
        def _save_checkpoint(self, *given: Any) -> None:
            begun = time.perf_counter()
            super()._save_checkpoint(*given)
            pace(begun, folder / f"checkpoint-{self.state.global_step}")
            waited.append(time.perf_counter() - begun)

    options = arguments(folder, save_steps=EVERY, save_total_limit=2)
    return timed(Timed(model=model(), args=options, train_dataset=rows()), waited)


def run_async_save(folder: Path) -> dict[str, float]:
    from torch.distributed.checkpoint.state_dict_saver import async_save
    from transformers import Trainer, TrainerCallback

    waited: list[float] = []

    class Saving(TrainerCallback):
        future: Any = None
        begun = 0.0
        place = Path()

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step % EVERY:
                return
            begun = time.perf_counter()
            if self.future is not None:
                self.future.result()
                pace(self.begun, self.place)
            whole = {"model": given["model"].state_dict(), "optim": given["optimizer"].state_dict()}
            self.begun, self.place = begun, folder / f"checkpoint-{state.global_step}"
            self.future = async_save(whole, checkpoint_id=str(self.place))
            waited.append(time.perf_counter() - begun)

        def on_train_end(self, *_: Any, **__: Any) -> None:
            self.future.result()

    options = arguments(folder, save_strategy="no")
    trainer = Trainer(model=model(), args=options, train_dataset=rows(), callbacks=[Saving()])
    return timed(trainer, waited)


def run_oikyo(folder: Path) -> dict[str, float]:
    from transformers import Trainer, TrainerCallback

    from oikyo_trainer.training.checkpoint import Checkpoints, Saved, verify
    from oikyo_trainer.training.distributed import World
    from oikyo_trainer.training.trainers import Steady
    from oikyo_trainer.training.writebehind import WriteBehind

    waited: list[float] = []
    behind, checkpoints = WriteBehind(), Checkpoints(folder, keep=2)

    class Timed(Steady, Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return Trainer._get_train_sampler(self)

        def training_step(self, *given: Any) -> Any:
            return Trainer.training_step(self, *given)

        def _run_epoch(self, *given: Any, **named: Any) -> Any:
            return Trainer._run_epoch(self, *given, **named)

        def _save_checkpoint(self, live: Any, trial: Any) -> None:
            begun = time.perf_counter()
            behind.wait()
            step = self.state.global_step
            checkpoints.clear(step)
            Trainer._save_checkpoint(self, live, trial)
            saved = Saved(step, 0.0, step, step == STEPS, None)

            def commit() -> None:
                pace(begun, checkpoints.staged(step))
                checkpoints.commit(saved)

            behind.submit(commit)
            waited.append(time.perf_counter() - begun)

    class Ending(TrainerCallback):
        def on_train_end(self, *_: Any, **__: Any) -> None:
            behind.wait()

    options = arguments(folder, save_steps=EVERY)
    trainer = Timed(model=model(), args=options, train_dataset=rows(), callbacks=[Ending()])
    trainer.behind, trainer.checkpoints, trainer.world = behind, checkpoints, World()
    told = timed(trainer, waited)
    assert verify(checkpoints.path(STEPS)).step == STEPS
    return told


def one(kind: str) -> None:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(globals()[f"run_{kind}"](Path(folder))))


def main(rounds: int) -> None:
    lines = []
    for _ in range(rounds):
        told = {}
        for kind in KINDS:
            command = [sys.executable, __file__, "--one", kind]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            told[kind] = json.loads(done.stdout.splitlines()[-1])
        line = {f"{kind}_stall": told[kind]["stall"] / SAVES for kind in KINDS[1:]}
        for kind in KINDS[1:]:
            line[f"{kind}_added"] = (told[kind]["seconds"] - told["none"]["seconds"]) / SAVES
        line["step"] = told["none"]["seconds"] / STEPS
        line["stall_against_trainer"] = line["oikyo_stall"] / line["trainer_stall"]
        line["stall_against_async_save"] = line["oikyo_stall"] / line["async_save_stall"]
        lines.append(line)
        print(json.dumps({name: round(value, 4) for name, value in line.items()}), flush=True)
    medians = {name: round(statistics.median(one[name] for one in lines), 4) for name in lines[0]}
    print(json.dumps({"rounds": rounds, "median": medians}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        one(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
