"""Builders with keyword defaults: a test names only what it is about."""

from __future__ import annotations

from typing import Any

from oikyo.api.base import API_VERSION
from oikyo.api.finetunejob import FineTuneJob

Manifest = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32


def a_manifest(
    kind: str = "FineTuneJob", *, name: str = "support-intents", **spec: Any
) -> Manifest:
    """The smallest good manifest of a kind; keywords replace whole fields of its spec."""
    body = {"spec": {**_SMALLEST[kind], **spec}}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, **body}


def with_base(uri: str) -> Manifest:
    """Part of a spec: the base model alone."""
    return {"model": {"base": uri}}


def with_data(*uris: str, **more: Any) -> Manifest:
    """Part of a spec: data of these files, or of one; `more` are other fields of spec.data."""
    return {
        "data": {"sources": [{"uri": uri} for uri in uris] or [{"uri": "pvc://a/b.csv"}], **more}
    }


def with_gates(*gates: Manifest) -> Manifest:
    """Part of a spec: an evaluation of these gates."""
    return {"evaluation": {"gates": list(gates)}}


def a_job(
    name: str = "support-intents", task: str = "TextClassification", **spec: Any
) -> FineTuneJob:
    """A FineTuneJob as the operator reads it; keywords are fields of its spec, as in a manifest."""
    return FineTuneJob.model_validate(a_manifest(name=name, task=task, **spec))


_SMALLEST: dict[str, Manifest] = {
    "FineTuneJob": {
        "model": {"base": "hf://Qwen/Qwen3-0.6B"},
        "task": "TextClassification",
        "data": {"sources": [{"uri": "pvc://datasets/tickets.jsonl"}]},
    },
    "ModelVersion": {
        "model": "support-intents",
        "version": 1,
        "task": "TextClassification",
        "verdict": "Accepted",
        "digest": DIGEST,
        "storage": {"claimName": "models", "path": "versions/support-intents/1"},
        "metrics": [{"name": "f1_macro", "value": "0.91"}, {"name": "loss", "value": "0.3"}],
        "lineage": {
            "job": "support-intents",
            "jobUid": "0123",
            "base": "hf://Qwen/Qwen3-0.6B",
            "baseDigest": DIGEST,
            "datasetDigest": DIGEST,
        },
        "created": "2026-11-23T21:00:00Z",
    },
    "ModelEndpoint": {"model": "support-intents"},
}
