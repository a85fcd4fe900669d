"""What the door lets in: manifests at the edge of the rules, and scalars of YAML as kubectl reads them."""

from __future__ import annotations

from typing import Any

from builders import a_manifest, with_base, with_data, with_gates

ACCEPTED = {
    "the smallest job": a_manifest(),
    "a whole number for a quantity": a_manifest(training={"resources": {"cpu": 4}}),
    "a null for a default": a_manifest(training={"epochs": None, "earlyStopping": None}),
    "a whole float for an integer": a_manifest(training={"epochs": 3.0}),
    "two nodes and a shared volume": a_manifest(
        training={"nodes": 2}, storage={"accessMode": "ReadWriteMany"}
    ),
    "two nodes and a named claim": a_manifest(
        training={"nodes": 2}, storage={"claimName": "shared"}
    ),
    "every scheme of data": a_manifest(
        **with_data(
            "pvc://a", "file:///a/b.csv", "hf://datasets/a/b@main/c.parquet", "configmap://a/b"
        )
    ),
    "a name of 52 characters": a_manifest(name="a" * 52),
    "a learning rate with an exponent": a_manifest(training={"learningRate": "2e-4"}),
    "a gate of each kind": a_manifest(
        **with_gates(
            {"metric": "accuracy", "min": "0.80"},
            {"metric": "loss", "max": "1.5"},
            {"metric": "f1_macro", "betterThan": "Base"},
        )
    ),
    "test files and no split": a_manifest(
        **with_data("pvc://a/b", testSources=[{"uri": "pvc://a/c"}], split={"test": "0"})
    ),
    "a deployment of nothing but defaults": a_manifest(deployment={}),
    "a latency and the GPU that must meet it": a_manifest(
        deployment={
            "latency": {"answerMilliseconds": 50, "gpuProduct": "Tesla-T4"},
            "resources": {"gpus": 1},
        }
    ),
    "a continued version": a_manifest(**with_base("version://support-intents/3")),
    "a record": a_manifest("ModelVersion"),
    "an adapter by LoRA for VLLM": a_manifest(
        task="TextGeneration", training={"merge": False}, deployment={"runtime": "VLLM"}
    ),
    "an endpoint": a_manifest("ModelEndpoint"),
    "an endpoint with adapters": a_manifest(
        "ModelEndpoint",
        adapters=[{"name": "refunds"}, {"name": "old", "model": "refunds", "version": 3}],
    ),
    "a pinned endpoint": a_manifest("ModelEndpoint", versionPolicy="Pinned", version=3),
}


SCALARS: dict[str, Any] = {
    "2e-4": 0.0002, "1.5": 1.5, ".5": 0.5, "1.": 1, "1e3": 1000, "-2E+05": -200000, "08": 8,
    "1:30": "1:30", "2026-01-01": "2026-01-01", "2026-01-01T00:00:00Z": "2026-01-01T00:00:00Z",
    "yes": True, "y": True, "on": True, "NO": False, "0o17": 15, "017": 15, "0x1F": 31, "0b11": 3,
    "1_000": 1000, "+1": 1, "-0": 0, "~": None, "Null": None, '"null"': "null", '"1"': "1",
    "0.1.2": "0.1.2", "1e": "1e", "=": "=", "Auto": "Auto", "hf://a/b": "hf://a/b",
}  # fmt: skip
"""YAML scalars and what kubectl makes of them."""
