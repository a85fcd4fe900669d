"""A gang of a train stage as processes forked from one that has imported the trainer, as torchrun would start it.

Run as a program: python forked.py PROCESSES WORKSPACE SPEC. Ends with 1 when a process failed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from oikyo.api.stages import TrainResult, TrainSpec

RESULT = "forked-result.json"
HEAVY = (
    "oikyo_trainer.training.train",
    "torch.distributed.checkpoint.state_dict",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen3.modeling_qwen3",
    "transformers.trainer",
)
"""What every process would import for itself."""


def forked(lab: Any, spec: TrainSpec, processes: int) -> TrainResult:
    """Train in a gang of so many processes on loopback."""
    path = lab.workspace / f"{spec.run}.json"
    path.write_text(lab.tokenised(spec).json_line())
    command = [sys.executable, __file__, str(processes), str(lab.workspace), str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=560, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return TrainResult.model_validate_json((lab.workspace / RESULT).read_bytes())


def main(processes: int, workspace: Path, spec: TrainSpec) -> int:
    for name in HEAVY:
        import_module(name)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    several = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in several.items()}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    children = [_fork(rank, workspace, spec) for rank in range(processes)]
    codes = [os.waitpid(child, 0)[1] for child in children]
    return int(any(codes))


def _fork(rank: int, workspace: Path, spec: TrainSpec) -> int:
    if child := os.fork():
        return child
    try:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        _train(rank, workspace, spec)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _train(rank: int, workspace: Path, spec: TrainSpec) -> None:
    from oikyo_trainer.context import Context
    from oikyo_trainer.progress import Reporter
    from oikyo_trainer.training.train import train

    result = train(spec, Context(workspace, Reporter("train", spec.attempt, spec.run)))
    if rank == 0:
        (workspace / RESULT).write_text(result.json_line())


if __name__ == "__main__":
    number, place, file = sys.argv[1:]
    given = TrainSpec.model_validate_json(Path(file).read_bytes())
    sys.exit(main(int(number), Path(place), given))
