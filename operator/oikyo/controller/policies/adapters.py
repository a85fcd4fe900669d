"""Which adapters an endpoint serves beside its model, and why one may not be. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from oikyo.api import workspace as layout
from oikyo.api.endpointadapters import EndpointAdapter
from oikyo.api.modelendpoint import ModelEndpointSpec, Runtime
from oikyo.api.modelversion import AdapterFacts, ModelVersion, ModelVersionSpec
from oikyo.api.stages import AdapterSpec, ServeSpec
from oikyo.api.training import TrainingSpec

from .. import reasons

LARGEST_VLLM_RANK = 512


@dataclass(frozen=True)
class Unfit:
    """Why what the spec asks for cannot be served."""

    reason: str
    message: str
    field: str
    next_step: str = ""


def facts(training: TrainingSpec) -> AdapterFacts | None:
    """What a version by this training is as an adapter; None for a whole model."""
    if training.merge or training.method == "Full":
        return None
    if training.method not in ("LoRA", "QLoRA"):
        return AdapterFacts(method=training.method)
    lora = training.lora
    return AdapterFacts(method=training.method, rank=lora.rank, variant=lora.variant)


def serve_spec(
    endpoint: ModelEndpointSpec, chosen: ModelVersion, versions: Iterable[ModelVersion]
) -> ServeSpec | Unfit:
    """The server of a version and of the adapters beside it, or the first that does not fit."""
    record, known = chosen.spec, tuple(versions)
    beside: list[tuple[EndpointAdapter, ModelVersionSpec]] = []
    for adapter in endpoint.adapters:
        found = _find(adapter, known)
        if isinstance(found, Unfit):
            return found
        if wrong := _differs(adapter, found, record):
            return wrong
        beside.append((adapter, found))
    every = [("spec.model", record), *((_field(adapter), spec) for adapter, spec in beside)]
    for where, one in every:
        if wrong := _runs(one, endpoint.runtime, where):
            return wrong
    ranks = [one.adapter.rank for _, one in every if one.adapter and one.adapter.rank]
    return ServeSpec(
        model_name=record.model,
        version=record.version,
        task=record.task,
        path=record.storage.path,
        adapters=tuple(_told(adapter, spec) for adapter, spec in beside),
        base=layout.model(record.lineage.base_digest).as_posix() if record.adapter else None,
        lora_rank=max(ranks, default=None),
    )


def _told(adapter: EndpointAdapter, record: ModelVersionSpec) -> AdapterSpec:
    return AdapterSpec(
        name=adapter.name,
        model_name=record.model,
        version=record.version,
        path=record.storage.path,
    )


def _field(adapter: EndpointAdapter) -> str:
    return f"spec.adapters[{adapter.name}]"


def _find(adapter: EndpointAdapter, versions: tuple[ModelVersion, ...]) -> ModelVersionSpec | Unfit:
    """The record that the adapter means."""
    model, number, where = adapter.of_model, adapter.version, _field(adapter)
    records = [version.spec for version in versions if version.spec.model == model]
    if number is None:
        accepted = [record for record in records if record.verdict == "Accepted"]
        if not accepted:
            message = f"{where}: no version of {model} has passed its gates"
            return Unfit(reasons.VERSION_MISSING, message, where)
        return max(accepted, key=lambda record: record.version)
    found = next((record for record in records if record.version == number), None)
    if found is None:
        message = f"{where}: ModelVersion {number} of {model} does not exist"
        return Unfit(reasons.VERSION_MISSING, message, where)
    if found.verdict != "Accepted":
        message = f"{where}: ModelVersion {number} of {model} failed its gates"
        return Unfit(reasons.VERSION_REJECTED, message, where)
    return found


def _differs(
    adapter: EndpointAdapter, record: ModelVersionSpec, first: ModelVersionSpec
) -> Unfit | None:
    """Why the version cannot stand beside the endpoint's own; None when it can."""
    where = _field(adapter)
    for one, place in ((first, "spec.model"), (record, where)):
        if one.adapter is None:
            return Unfit(
                reasons.NOT_AN_ADAPTER,
                f"{place}: version {one.version} of {one.model} is a whole model, and adapters share "
                "a base only with adapters",
                place,
                "train it with training.merge: false, or take spec.adapters away",
            )
    ours, theirs = first.lineage, record.lineage
    unlike = (
        ("task", first.task, record.task),
        ("base model", ours.base_digest, theirs.base_digest),
        ("workspace claim", first.storage.claim_name, record.storage.claim_name),
    )
    for what, wanted, got in unlike:
        if wanted != got:
            message = (
                f"{where}: version {record.version} of {record.model} has the {what} {got}, and "
                f"version {first.version} of {first.model} has {wanted}"
            )
            step = (
                f"serve {adapter.name} by an endpoint of its own, or train it for the same {what}"
            )
            return Unfit(reasons.ADAPTER_DIFFERS, message, where, step)
    return None


def _runs(record: ModelVersionSpec, runtime: Runtime, where: str) -> Unfit | None:
    """Why the runtime cannot carry out the version; None when it can."""
    kind = record.adapter
    if runtime == "VLLM" and record.task == "TextRegression":
        message = (
            f"{where}: version {record.version} of {record.model} says numbers, and the VLLM runtime "
            "would answer in standard deviations from their mean"
        )
        return Unfit(reasons.RUNTIME_UNFIT, message, where, "write runtime: Oikyo")
    if runtime != "VLLM" or kind is None:
        return None
    why = ""
    if record.task != "TextGeneration":
        why = f"has the task {record.task}"
    elif kind.method not in ("LoRA", "QLoRA"):
        why = f"was made by {kind.method}"
    elif kind.variant == "DoRA":
        why = "is of the variant DoRA"
    elif (kind.rank or 0) > LARGEST_VLLM_RANK:
        why = f"has rank {kind.rank}, above {LARGEST_VLLM_RANK}"
    if not why:
        return None
    message = (
        f"{where}: version {record.version} of {record.model} {why}, and the VLLM runtime takes "
        "adapters by LoRA for TextGeneration only"
    )
    step = "write runtime: Oikyo, or train with training.merge: true"
    return Unfit(reasons.RUNTIME_UNFIT, message, where, step)
