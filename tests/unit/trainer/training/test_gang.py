"""Two real processes under torchrun and gloo train as one process does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from oikyo.api import workspace as layout
from oikyo.api.stages import TrainResult, TrainSpec
from unit.trainer.training.conftest import llama_base
from unit.trainer.training.general import with_general
from unit.trainer.training.processes import gang, result_of, words_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
ROOT = Path(__file__).resolve().parents[4]
SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": "3e-3",
    "checkpoints": {"every_steps": 8, "keep": 3},
}


def torchrun(lab: Any, spec: Any) -> TrainResult:
    """Run the train stage in a gang on loopback, as a worker pod does."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "oikyo_trainer", *words_of(lab, spec)]
    source = os.pathsep.join([str(ROOT / "operator"), str(ROOT / "trainer_image")])
    path_of = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path_of, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return result_of(lab, spec)


def of(task: str, base: Callable[[Path], str] | None = None) -> Callable[..., TrainSpec]:
    """What makes a training of the task, of its usual base or of another."""
    return lambda lab, run, **settings: lab.spec(task, run=run, base=base, **settings)


@pytest.mark.parametrize(
    ("make", "method", "strategy", "run"),
    [
        (of("TextClassification"), "Full", "DDP", torchrun),
        (of("TextClassification"), "IA3", "DDP", gang),
        (with_general, "LoRA", "DDP", gang),
        (of("TextClassification"), "PromptTuning", "FSDP", gang),
        (of("TextGeneration"), "Full", "FSDP", gang),
        (of("TextRegression", llama_base), "LoRA", "FSDP", gang),
    ],
    ids=[
        "classes",
        "a fitted head",
        "texts with general ones",
        "a fitted head in parts, and vectors that read the embeddings",
        "texts",
        "numbers of a decoder",
    ],
)
def test_two_processes_reach_the_loss_of_one(
    lab: Any,
    make: Callable[..., TrainSpec],
    method: str,
    strategy: str,
    run: Callable[[Any, TrainSpec], TrainResult],
) -> None:
    import torch

    # Dropout draws differently on two ranks: without it the two must agree to rounding.
    # An epoch of 96 rows ends with a step of 6, of which one process gets one.
    settings = {**SETTINGS, "method": method, "lora": {"dropout": "0"}, "batch_size": 10}
    settings["merge"] = method != "PromptTuning"
    one = make(lab, "one", **settings)
    without_dropout(lab, one.model_digest)
    alone = lab.train(one)
    rows = 1 if strategy == "FSDP" else 5  # at once: of a step's five, or all of them
    two = run(lab, make(lab, "two", strategy=strategy, micro_batch_size=rows, **settings))
    assert {choice.name: choice.value for choice in two.resolved}["training.strategy"] == strategy
    assert {choice.name: choice.value for choice in two.resolved}["training.microBatchSize"] == str(
        rows
    )
    assert losses(two) == pytest.approx(losses(alone), abs=1e-4)
    assert told(lab, "two") == pytest.approx(told(lab, "one"), abs=1e-4)
    assert choices(two, "training.head") == choices(alone, "training.head")
    assert two.levers[:1] == alone.levers[:1]  # as many general rows in an epoch
    left, right = lab.weights(alone), lab.weights(two)
    # Softmax takes no notice of a key's bias: its gradient is rounding alone, which Adam enlarges.
    for name, value in ((n, v) for n, v in left.items() if not n.endswith("key.bias")):
        assert torch.allclose(value, right[name], atol=1e-4), name


@pytest.mark.parametrize(
    ("strategy", "method", "others"),
    [
        ("DDP", "Full", ((1, 16),)),
        ("FSDP", "Full", ((1, 8), (2, 16))),
        ("FSDP", "LoRA", ((1, 16),)),
    ],
)
def test_a_gang_goes_on_as_if_nothing_had_happened(
    lab: Any, strategy: str, method: str, others: tuple[tuple[int, int], ...]
) -> None:
    """Bit for bit with as many processes, within an epoch; with `others`, to rounding.

    General rows are mixed in, and whoever goes on must find the same mixture.
    """
    import torch

    settings = {**SETTINGS, "method": method, "gradient_checkpointing": "Always"}
    settings |= {"checkpoints": {"every_steps": 8, "keep": 4}, "lora": {"dropout": "0"}}
    mixed = {"replay": "0.2"}  # 24 rows beside 96: 15 steps an epoch
    spec = with_general(lab, "parts", strategy=strategy, general=mixed, **settings)
    without_dropout(lab, spec.model_digest)
    whole = gang(lab, spec)
    assert whole.steps == 30
    weights = lab.weights(whole)

    def again(processes: int, step: int) -> dict[str, torch.Tensor]:
        """The training from the checkpoint of `step` on, by so many processes."""
        for place in (lab.workspace / layout.checkpoints("parts")).glob("checkpoint-*"):
            if int(place.name.rpartition("-")[2]) > step:
                shutil.rmtree(place)
        (lab.workspace / layout.stage("parts", "train") / layout.RESULT).unlink(missing_ok=True)
        result = gang(lab, spec, processes) if processes > 1 else lab.train(spec)
        assert values(result)["resumed_from_step"] == step
        assert losses(result) == pytest.approx(losses(whole), abs=1e-4)
        return dict(lab.weights(result))

    for name, value in again(2, 16).items():
        assert torch.equal(value, weights[name]), name
    for processes, step in others:  # by one what two began, by two what one went on with
        for name, value in again(processes, step).items():
            assert torch.allclose(value, weights[name], atol=1e-4), name


def without_dropout(lab: Any, digest: str) -> None:
    """Rewrite the base model's config."""
    path = lab.workspace / layout.model(digest) / "config.json"
    config = json.loads(path.read_text())
    zero = {name: 0.0 for name in config if name.endswith(("dropout", "dropout_prob"))}
    path.write_text(json.dumps(config | zero))


# DeepSpeed has no wheel: the trainer image holds it, the unit environment need not.
if find_spec("deepspeed"):

    @pytest.mark.parametrize(
        ("task", "stage"), [*(("TextClassification", n) for n in (1, 2, 3)), ("TextRegression", 2)]
    )
    def test_zero_reaches_the_loss_of_one_process(lab: Any, task: str, stage: int) -> None:
        settings = {**SETTINGS, "method": "LoRA", "lora": {"dropout": "0"}}
        # Classes: ZeRO-3 pads texts, and other rows meet in a step than in a packed training.
        one = lab.spec(task, run="one", **settings)
        without_dropout(lab, one.model_digest)
        alone = lab.train(one)
        spec = lab.spec(task, run=f"zero{stage}", strategy=f"ZeRO{stage}", **settings)
        assert values(gang(lab, spec))["eval_loss"] == pytest.approx(
            values(alone)["eval_loss"], abs=1e-4
        )


def losses(result: TrainResult) -> dict[str, float]:
    """Of the validation rows, and of the general ones where there are any."""
    return {name: value for name, value in values(result).items() if name.startswith("eval_")}


def told(lab: Any, run: str) -> dict[int, float]:
    """The loss of each step as it was logged: a mean over all its rows, whoever learned them."""
    history = lab.workspace / layout.stage(run, "train") / layout.HISTORY
    lines = map(json.loads, history.read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def choices(result: TrainResult, name: str) -> list[str]:
    return [choice.value for choice in result.resolved if choice.name == name]


def values(result: TrainResult) -> dict[str, float]:
    return {metric.name: float(metric.value) for metric in result.metrics}
