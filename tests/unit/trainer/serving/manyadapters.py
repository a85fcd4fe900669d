"""Adapters of tiny bases in a workspace, released by the code that releases every training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from oikyo.api.stages import ServeSpec
from oikyo.api.training import TrainingSpec
from oikyo_trainer.evaluation.record import VersionRecord
from oikyo_trainer.serving.loading import load
from oikyo_trainer.serving.metrics import Identity, ModelMetrics, ServerMetrics
from oikyo_trainer.training.heads import Head
from oikyo_trainer.training.methods.adapters import add_adapter
from oikyo_trainer.training.model import load_weights, open_base
from oikyo_trainer.training.release import release as write_model
from unit.trainer.serving.harness import released
from unit.trainer.training.conftest import bert_base, llama_base

NOISE = 0.3
"""Large enough that every adapter answers differently from the others and from the base."""


def base_of(workspace: Path, task: str) -> str:
    return (bert_base if task == "TextClassification" else llama_base)(workspace)


def adapter(
    workspace: Path,
    name: str,
    task: str = "TextGeneration",
    *,
    labels: tuple[str, ...] = (),
    digest: str | None = None,
    verdict: str = "Accepted",
    **training: Any,
) -> VersionRecord:
    """A version whose adapter is noise, drawn by its name."""
    digest = digest or base_of(workspace, task)
    asked = TrainingSpec.model_validate({"method": "LoRA", "merge": False, **training})
    base = open_base(workspace, digest, task)  # type: ignore[arg-type]
    head = Head(labels) if labels else None
    model = load_weights(base, head, torch.float32)
    adapted = add_adapter(model, task, asked, autocast=True)  # type: ignore[arg-type]
    torch.manual_seed(sum(name.encode()))
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight += NOISE * torch.randn_like(weight)
    checkpoint = workspace / "checkpoints" / name
    adapted.save_pretrained(checkpoint)
    made = write_model(
        checkpoint,
        base=base,
        head=head,
        training=asked,
        rows=(),
        folder=workspace / "trained" / name,
        before_commit=lambda: None,
    )
    return released(workspace, made.folder, task, name=name, base_digest=digest, verdict=verdict)


def told(first: VersionRecord, *beside: VersionRecord) -> ServeSpec:
    """What a server of the versions is told."""
    return ServeSpec.model_validate(
        {
            "model_name": first.model,
            "version": first.version,
            "task": first.task,
            "path": f"versions/{first.model}/{first.version}",
            "adapters": [named(one) for one in beside],
        }
    )


def named(record: VersionRecord, name: str | None = None) -> dict[str, Any]:
    return {
        "name": name or record.model,
        "model_name": record.model,
        "version": record.version,
        "path": f"versions/{record.model}/{record.version}",
    }


def engines(workspace: Path, spec: ServeSpec) -> list[Any]:
    """The engines that a server computes with, in the order of the spec."""
    names = [(spec.model_name, spec.version), *((a.name, a.version) for a in spec.adapters)]
    server = ServerMetrics()
    metrics = [ModelMetrics(server, Identity(n, version, spec.task)) for n, version in names]
    return [engine.computes for engine in load(spec, workspace, metrics).engines]


def model_of(engine: Any) -> Any:
    return engine._model


def logits(engine: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model_of(engine)(input_ids=torch.tensor([tokens])).logits
    return found
