"""Every strategy reaches the loss of one process, with the libraries of the trainer image.

DeepSpeed has no wheel and is built into the image alone: here its ZeRO stages are compared, two
processes in one pod over gloo. DDP and FSDP without groups are compared in
tests/unit/trainer/training/test_gang.py.
Classes, not texts: ZeRO-3 pads texts, so that other rows meet in a step than in a packed training. Their head begins fitted.
Meanwhile a FineTuneJob of two tensor groups on two nodes, one of which loses its pod, goes its way.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kube import Kube, condition, wait_for
from oikyo.api import workspace as layout
from oikyo.api.meta import ANNOTATION_SPEC
from oikyo.api.stages import LastWords, TrainResult, TrainSpec
from road import LOADER, NAMESPACE, Road
from unit.trainer.training.conftest import Lab
from unit.trainer.training.test_gang import without_dropout

FOLDER = "/tmp/strategies"
TOLERANCE = 1e-4
"""Of the mean validation loss after 24 steps."""
RUN = """
import os, subprocess, sys
spec, workspace, processes, result = sys.argv[1:]
command = [sys.executable]
if processes != "1":
    # As in a worker pod: torchrun's own c10d rendezvous would look the host's name up.
    command += ["-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", processes]
    command += ["--rdzv-backend", "static", "--rdzv-endpoint", "localhost:29555"]
command += ["-m", "oikyo_trainer", "train", "--spec", spec, "--workspace", workspace]
done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True)
if done.returncode:
    sys.exit(done.stderr[-3000:])
print(open(os.path.join(workspace, result)).read())
"""
STRATEGIES = ("ZeRO1", "ZeRO2", "ZeRO3")
GROUPS = "tensor-groups"
OURS = f"oikyo.dev/job={GROUPS},oikyo.dev/stage=train"
EXAMPLES = "/examples"
"""Where the loader sees the claim that is the workspace of that job."""


def manifest() -> dict[str, Any]:
    """The two processes of a pod compute each layer of the example's base together."""
    training: dict[str, Any] = {"method": "Full", "strategy": "FSDP", "nodes": 2}
    training |= {"processesPerNode": 2, "tensorParallelSize": 2}
    training |= {"maxSteps": 24, "batchSize": 8, "maxLength": 64, "precision": "Float32"}
    return {
        "apiVersion": "oikyo.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": GROUPS},
        "spec": {
            "model": {"base": "pvc://examples/text-generation/base"},
            "task": "TextGeneration",
            "data": {"sources": [{"uri": "pvc://examples/general.jsonl"}]},
            "training": training | {"checkpoints": {"everySteps": 6}},
            "evaluation": {"gates": [{"metric": "loss", "betterThan": "Base"}]},
            "storage": {"claimName": "examples"},
        },
    }


@pytest.fixture(scope="module")
def groups(road: Road) -> Iterator[Kube]:
    """The cluster with that job on its way."""
    road.kube.apply(manifest(), NAMESPACE)
    yield road.kube
    road.kube("delete", "ftj", GROUPS, "-n", NAMESPACE, "--timeout=300s")
    wait_for("its pods to go", lambda: not road.kube.items("pods", NAMESPACE, OURS), 300)


def test_two_groups_stand_on_two_nodes_until_a_pod_is_deleted(groups: Kube) -> None:
    pods = wait_for("both pods", lambda: running(groups), 600)
    print([(pod["metadata"]["name"], pod["spec"]["nodeName"]) for pod in pods])
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    second = max(pod["metadata"]["name"] for pod in pods)
    run = f"{GROUPS}-{groups.get('ftj', GROUPS, NAMESPACE)['metadata']['uid'][:8]}"
    with held(groups, second, str(layout.checkpoints(run))) as holding:
        assert holding.stdout
        assert holding.stdout.readline() == b"stopped\n", log(groups, second)
        groups("delete", "pod", second, "-n", NAMESPACE, "--wait=false")
        assert holding.wait(timeout=120) == 0


HOLD = """
import glob, os, signal, sys, time
SIGTERM = 1 << signal.SIGTERM - 1
def workers():
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = open(f"/proc/{process}/cmdline").read()
        except OSError:
            continue
        if "-m\\0oikyo_trainer\\0train" in command and "torch.distributed.run" not in command:
            yield process
def is_asked(process):
    lines = open(f"/proc/{process}/status").read().split("\\n")
    return any(int(line[7:], 16) & SIGTERM for line in lines if line[:7] in ("SigPnd:", "ShdPnd:"))
while not (glob.glob(sys.argv[1] + "/checkpoint-6") or glob.glob(sys.argv[1] + "/.attempt-1/checkpoint-6")):
    time.sleep(0.002)
stopped = list(workers())
[os.kill(int(process), signal.SIGSTOP) for process in stopped]
print("stopped" if stopped else "no worker is here", flush=True)
while not all(map(is_asked, stopped)):
    time.sleep(0.02)
[os.kill(int(process), signal.SIGCONT) for process in stopped]
"""


@contextmanager
def held(kube: Kube, pod: str, checkpoints: str) -> Iterator[subprocess.Popen[bytes]]:
    """Inside the pod its workers are stopped once their first checkpoint is begun, until they are asked to end:
    however slowly the API server answers, there are steps left then."""
    command = [str(kube.kubectl), f"--kubeconfig={kube.kubeconfig}", "exec", "-n", NAMESPACE, pod]
    command += ["--", "python", "-c", HOLD, f"/workspace/{checkpoints}"]
    holding = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield holding
    finally:
        holding.kill()
        holding.wait()


def running(kube: Kube) -> list[dict[str, Any]] | None:
    """Both pods of the training, once they run."""
    pods = kube.items("pods", NAMESPACE, OURS)
    return pods if [pod["status"]["phase"] for pod in pods] == ["Running"] * 2 else None


def log(kube: Kube, pod: str) -> str:
    return kube("logs", pod, "-n", NAMESPACE, check=False)


@pytest.fixture(scope="module")
def lab(road: Road, groups: Kube, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
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


def trained(road: Road, run: str, processes: int, workspace: str = FOLDER) -> TrainResult:
    result = str(layout.stage(run, "train") / layout.RESULT)
    spec = f"{FOLDER}/{run}.json"
    return said_in(
        road.kube.python(LOADER, NAMESPACE, RUN, spec, workspace, str(processes), result)
    )


def said_in(text: str) -> TrainResult:
    words = LastWords.model_validate(json.loads(text)).result
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


def test_the_groups_go_on_from_their_checkpoint_to_the_loss_of_one_process(
    road: Road, lab: Path, groups: Kube
) -> None:
    job = wait_for("its end", lambda: over(groups.get("ftj", GROUPS, NAMESPACE)), 800)
    status = job["status"]
    assert status["phase"] == "Succeeded", status.get("diagnosis")
    chosen = {choice["name"]: choice["value"] for choice in status["resolved"]}
    assert chosen["training.tensorParallelSize"] == "2"
    assert [stage["attempt"] for stage in status["stages"]] == [1, 2, 1]
    told = status["stages"][1]["message"]
    print(told, condition(job, "Evaluated")["message"])
    stopped = re.fullmatch(
        r"attempt 1: stopped at step (\d+) of 24, with a checkpoint; the checkpoint of step (\d+) is "
        r"kept, .* are lost",
        told,
    )
    assert stopped, told
    assert stopped[1] == stopped[2]
    spec = TrainSpec.model_validate_json(
        groups.items("pods", NAMESPACE, OURS)[0]["metadata"]["annotations"][ANNOTATION_SPEC]
    )
    together, alone = result_of(road, spec), by_one_process(road, spec)
    values = {metric.name: float(metric.value) for metric in together.metrics}
    assert values["resumed_from_step"] == float(stopped[1])
    assert loss(together) == pytest.approx(loss(alone), abs=TOLERANCE)


def result_of(road: Road, spec: TrainSpec) -> TrainResult:
    path = f"{EXAMPLES}/{layout.stage(spec.run, 'train')}/{layout.RESULT}"
    return said_in(road.kube("exec", "-n", NAMESPACE, LOADER, "--", "cat", path))


def by_one_process(road: Road, spec: TrainSpec) -> TrainResult:
    """The same training in the loader pod, without nodes and groups."""
    training = spec.training.model_copy(update={"strategy": "DDP", "tensor_parallel_size": 1})
    one = spec.model_copy(update={"run": "by-one", "training": training})
    command = ("exec", "-i", "-n", NAMESPACE, LOADER, "--", "tee", f"{FOLDER}/by-one.json")
    road.kube(*command, stdin=one.json_line().encode())
    return trained(road, one.run, 1, EXAMPLES)


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
