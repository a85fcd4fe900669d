"""Every strategy reaches the loss of one process, with the libraries of the trainer image.

DeepSpeed has no wheel and is built into the image alone: here its ZeRO stages are compared, two
processes in one pod over gloo. FSDP and DDP are compared in tests/unit/trainer/training/test_gang.py too.
Classes, not texts: ZeRO-3 pads texts, so that other rows meet in a step than in a packed training.
Meanwhile a FineTuneJob of one tensor group goes its way to an accepted version.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kube import Kube, condition, wait_for
from oikyo.api import workspace as layout
from oikyo.api.stages import LastWords, TrainResult
from road import LOADER, NAMESPACE, Road
from unit.trainer.training.conftest import Lab
from unit.trainer.training.test_gang import without_dropout

FOLDER = "/tmp/strategies"
TOLERANCE = 1e-4
"""Of the mean validation loss after 24 steps."""
RUN = """
import os, subprocess, sys
spec, processes, result = sys.argv[1:]
command = [sys.executable]
if processes != "1":
    # As in a worker pod: torchrun's own c10d rendezvous would look the host's name up.
    command += ["-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", processes]
    command += ["--rdzv-backend", "static", "--rdzv-endpoint", "localhost:29555"]
command += ["-m", "oikyo_trainer", "train", "--spec", spec, "--workspace", "/tmp/strategies"]
done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True)
if done.returncode:
    sys.exit(done.stderr[-3000:])
print(open(result).read())
"""
STRATEGIES = ("DDP", "FSDP", "ZeRO1", "ZeRO2", "ZeRO3")
GROUP = "tensor-group"
OURS = f"oikyo.dev/job={GROUP}"


def manifest() -> dict[str, Any]:
    """Two processes of one pod compute each layer of the example's base together."""
    training = {
        "method": "Full",
        "strategy": "FSDP",
        "processesPerNode": 2,
        "tensorParallelSize": 2,
    }
    training |= {"maxSteps": 8, "batchSize": 8, "maxLength": 64}
    return {
        "apiVersion": "oikyo.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": GROUP},
        "spec": {
            "model": {"base": "pvc://examples/text-generation/base"},
            "task": "TextGeneration",
            "data": {"sources": [{"uri": "pvc://examples/general.jsonl"}]},
            "training": training | {"checkpoints": {"everySteps": 8}},
            "evaluation": {"gates": [{"metric": "loss", "betterThan": "Base"}]},
            "storage": {"retentionPolicy": "Delete"},
        },
    }


@pytest.fixture(scope="module")
def group(road: Road) -> Iterator[Kube]:
    """The cluster with that job on its way."""
    road.kube.apply(manifest(), NAMESPACE)
    yield road.kube
    road.kube("delete", "ftj", GROUP, "-n", NAMESPACE, "--timeout=60s")
    wait_for("its pods to go", lambda: not road.kube.items("pods", NAMESPACE, OURS), 120)


@pytest.fixture(scope="module")
def lab(road: Road, group: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny model, rows, and a spec for each strategy, in the loader pod."""
    made = Lab(tmp_path_factory.mktemp("strategies"))
    settings: dict[str, Any] = {
        "method": "Full",
        "epochs": 2,
        "learning_rate": "3e-3",
        "checkpoints": {"every_steps": 24},
    }
    for strategy in ("alone", *STRATEGIES):
        chosen: dict[str, Any] = {} if strategy == "alone" else {"strategy": strategy}
        spec = made.spec("TextClassification", run=strategy.lower(), **settings, **chosen)
        without_dropout(made, spec.model_digest)  # two processes draw it differently
        told = made.tokenised(spec).json_line()
        (made.workspace / f"{spec.run}.json").write_text(told)
    road.kube("exec", "-n", NAMESPACE, LOADER, "--", "mkdir", "-p", FOLDER)
    road.kube.copy(made.workspace, LOADER, NAMESPACE, FOLDER)
    yield made.workspace
    road.kube("exec", "-n", NAMESPACE, LOADER, "--", "rm", "-r", FOLDER)


def trained(road: Road, run: str, processes: int) -> TrainResult:
    result = f"{FOLDER}/{layout.stage(run, 'train')}/{layout.RESULT}"
    spec = f"{FOLDER}/{run}.json"
    said = road.kube.python(LOADER, NAMESPACE, RUN, spec, str(processes), result)
    words = LastWords.model_validate(json.loads(said)).result
    assert isinstance(words, TrainResult)
    return words


def loss(result: TrainResult) -> float:
    return next(float(m.value) for m in result.metrics if m.name == "eval_loss")


@pytest.fixture(scope="module")
def alone(road: Road, lab: Path) -> float:
    return loss(trained(road, "alone", 1))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_reach_the_loss_of_one(road: Road, alone: float, strategy: str) -> None:
    result = trained(road, strategy.lower(), 2)
    chosen = {choice.name: choice.value for choice in result.resolved}
    assert chosen["training.strategy"] == strategy
    print(f"{strategy}: {loss(result):.6f}, one process {alone:.6f}")
    assert loss(result) == pytest.approx(alone, abs=TOLERANCE)


def test_a_job_of_one_tensor_group_is_trained_and_accepted(group: Kube) -> None:
    job = wait_for("its end", lambda: over(group.get("ftj", GROUP, NAMESPACE)), 300)
    status = job["status"]
    assert status["phase"] == "Succeeded", status.get("diagnosis")
    chosen = {choice["name"]: choice["value"] for choice in status["resolved"]}
    assert chosen["training.tensorParallelSize"] == "2"
    assert [stage["attempt"] for stage in status["stages"]] == [1, 1, 1]
    print(condition(job, "Trained")["message"], condition(job, "Evaluated")["message"])


def over(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["status"].get("phase") in ("Succeeded", "Failed") else None


PREPARED = """
import importlib.util, json, pathlib
from deepspeed.git_version_info import installed_ops
import oikyo_trainer
sources = pathlib.Path(oikyo_trainer.__path__[0]).rglob("*.py")
compiled = (pathlib.Path(importlib.util.cache_from_source(str(path))) for path in sources)
missing = [str(path) for path in compiled if not path.exists()]
print(json.dumps({"op": bool(installed_ops.get("deepspeed_shm_comm")), "missing": missing}))
"""


def test_the_image_compiles_nothing_when_a_run_starts(road: Road) -> None:
    said = json.loads(road.kube.python(LOADER, NAMESPACE, PREPARED).splitlines()[-1])
    assert said == {"op": True, "missing": []}
