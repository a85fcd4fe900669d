"""The change that a refusal tells is one that a manifest may have, and with it the job fits."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from oikyo import admission
from oikyo.api.training import TrainingSpec
from oikyo_trainer.planning.choose import HEADROOM
from oikyo_trainer.planning.road import plan_training, processes_of, quantity
from unit.trainer.planning.test_plan import a_shape

JOB: dict[str, Any] = {
    "apiVersion": "oikyo.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "job"},
    "spec": {
        "model": {"base": "hf://org/name"},
        "task": "TextGeneration",
        "data": {"sources": [{"uri": "pvc://data/rows.jsonl"}]},
        "storage": {"accessMode": "ReadWriteMany"},
    },
}
ASKED: list[dict[str, Any]] = [
    {"method": "Full"},
    {"method": "LoRA", "microBatchSize": 4},
    {"method": "PromptTuning", "merge": False},
    {"method": "Full", "optimizer": "Adafactor"},
    {"method": "LoRA", "objective": "DPO"},
    {"method": "Full", "minNodes": 1},
    {"method": "Full", "gradientCheckpointing": "Never"},
]
PLACES: list[dict[str, Any]] = [
    {"nodes": 1},
    {"nodes": 2},
    {"nodes": 2, "processesPerNode": 2, "strategy": "ZeRO2"},
    {"nodes": 2, "resources": {"gpus": 2}, "strategy": "FSDP"},
]


def violations(training: dict[str, Any]) -> list[str]:
    manifest = {**JOB, "spec": {**JOB["spec"], "training": training}}
    return [str(found) for found in admission.check(manifest)]


def changed(training: dict[str, Any], words: str) -> dict[str, Any]:
    """The manifest with what the words say; it needs no memory where the words give one."""
    field, value = words.removeprefix("write training.").split(": ")
    return {**training, field: int(value) if value.isdigit() else value}


def plan(training: dict[str, Any], memory: int) -> Any:
    shape = a_shape()
    large = replace(
        shape,
        layers=48,
        linears=24 * shape.linears,
        parameters=shape.parameters + 23 * shape.linear_parameters,
    )
    return plan_training(TrainingSpec(**training), "TextGeneration", large, memory)


@pytest.mark.parametrize("share", [0.8, 0.97])
def test_a_manifest_with_the_change_is_valid_and_fits(share: float) -> None:
    told = set()
    for asked, place in product(ASKED, PLACES):
        training = {**asked, **place}
        if violations(training):
            continue
        least = plan(training, 1 << 20)
        memory = int(share * least.prediction.peak / HEADROOM)
        words = plan(training, memory).change
        assert words
        told.add(words.split(":")[0])
        if words.startswith("write training.resources.memory: "):
            local, _ = processes_of(TrainingSpec(**training))
            enough = quantity(words.split(": ")[1]) // local
            assert plan(training, enough).fits, (training, words)
        elif words.startswith("write "):
            after = changed(training, words)
            assert violations(after) == [], (training, words)
            assert plan(after, memory).fits, (training, words)
    assert told
