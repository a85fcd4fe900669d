"""From a job to what each stage is told: URIs become paths, results of one stage feed the next.

Pure. The stage models stand in oikyo.api.stages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from oikyo.api import workspace
from oikyo.api.finetunejob import FineTuneJob, FineTuneJobSpec
from oikyo.api.leakage import Benchmark
from oikyo.api.modelversion import ModelVersion
from oikyo.api.sources import BUCKETS, DataSource, WeightedSource
from oikyo.api.stages import (
    BenchmarkSource,
    EvaluateSpec,
    MemoryPlan,
    PrepareResult,
    PrepareSpec,
    ServingLatency,
    Source,
    TrainSpec,
)
from oikyo.errors import SpecError

from .observed import Mounts, Observed


def run_id(job: FineTuneJob) -> str:
    """Identity of the run: two jobs of one name, made one after the other, never share a folder."""
    return f"{job.metadata.name}-{job.metadata.uid[:8]}"


def claim_name(job: FineTuneJob) -> str:
    return job.spec.storage.claim_name or f"{job.metadata.name}-workspace"


def split_uri(uri: str) -> tuple[str, str]:
    """`scheme://rest` as (scheme, rest)."""
    scheme, _, rest = uri.partition("://")
    return scheme, rest


def claims_of(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """Names of the claims that the sources name, in order, once each."""
    return _names(spec, "pvc")


def configmaps_of(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """Names of the ConfigMaps that the sources name, in order, once each."""
    return _names(spec, "configmap")


def secrets_of(spec: FineTuneJobSpec) -> tuple[str, ...]:
    """Names of the Secrets of buckets, and of the model that augments, once each."""
    named = [source.secret_name for _, source in data_sources(spec)]
    named += [spec.model.secret_name] if in_bucket(spec.model.base) else []
    named += [_endpoint_secret(spec)]
    return tuple(dict.fromkeys(name for name in named if name))


def _endpoint_secret(spec: FineTuneJobSpec) -> str | None:
    asked = spec.data.augment.endpoint if spec.data.augment is not None else None
    return asked.secret_name if asked is not None else None


def in_bucket(uri: str) -> bool:
    """Whether `uri` names something in an object store."""
    return split_uri(uri)[0] in BUCKETS


def _names(spec: FineTuneJobSpec, scheme: str) -> tuple[str, ...]:
    uris = [spec.model.base, *(source.uri for _, source in data_sources(spec))]
    named = (split_uri(uri)[1].partition("/")[0] for uri in uris if split_uri(uri)[0] == scheme)
    return tuple(dict.fromkeys(named))


def data_sources(spec: FineTuneJobSpec) -> Iterator[tuple[str, DataSource]]:
    """Every file of rows that a job reads, with the field that names it."""
    data = spec.data
    lists: tuple[tuple[str, Sequence[DataSource]], ...] = (
        ("data.sources", data.sources),
        ("data.testSources", data.test_sources),
        ("data.contamination", data.contamination),
        ("training.general.sources", _general(spec)),
    )
    for field, sources in lists:
        for number, source in enumerate(sources):
            yield f"spec.{field}[{number}]", source


def _general(spec: FineTuneJobSpec) -> tuple[DataSource, ...]:
    return spec.training.general.sources if spec.training.general is not None else ()


def resolve_path(uri: str, mounts: Mounts) -> str:
    """The local path of what `uri` names; empty for what the prepare stage downloads.

    Raises SpecError for file:// on a cluster and for a URI without a path.
    """
    scheme, rest = split_uri(uri)
    if scheme == "hf" or scheme in BUCKETS:
        return ""
    if scheme == "file":
        return _file_path(uri, rest, mounts)
    if scheme == "version":
        model, _, number = rest.partition("/")
        if not number.isdecimal():
            raise SpecError(f"{uri} names no version: write version://<model>/<number>")
        return f"{mounts.workspace}/{workspace.version(model, int(number))}"
    name, _, path = rest.partition("/")
    if not path and scheme == "configmap":
        raise SpecError(f"{uri} names no key: write configmap://<name>/<key>")
    known, root = (
        (mounts.claims, mounts.claims_root)
        if scheme == "pvc"
        else (mounts.configmaps, mounts.configmaps_root)
    )
    folder = known.get(name, f"{root}/{name}")
    return f"{folder}/{path}" if path else folder


def _file_path(uri: str, path: str, mounts: Mounts) -> str:
    if mounts.files is None:
        raise SpecError(
            f"{uri} works only with `oikyo run`: on a cluster put the file on a volume and write "
            "pvc://<claim>/<path>"
        )
    return path if path.startswith("/") else f"{mounts.files}/{path}"


def _source(source: DataSource, mounts: Mounts) -> Source:
    return Source(
        uri=source.uri,
        path=resolve_path(source.uri, mounts),
        format=source.format,
        secret=_secret(source.secret_name, mounts),
    )


def _weighted(source: WeightedSource, mounts: Mounts) -> Source:
    return _source(source, mounts).model_copy(update={"weight": source.weight})


def _secret(name: str | None, mounts: Mounts) -> str | None:
    return f"{mounts.secrets_root}/{name}" if name else None


def _model(spec: FineTuneJobSpec, mounts: Mounts) -> Source:
    base = spec.model.base
    name = spec.model.secret_name if in_bucket(base) else None
    return Source(uri=base, path=resolve_path(base, mounts), secret=_secret(name, mounts))


def _benchmark(given: Benchmark, mounts: Mounts) -> BenchmarkSource:
    place = _source(given, mounts).model_dump()
    return BenchmarkSource(name=given.name, columns=given.columns, action=given.action, **place)


def prepare_spec(job: FineTuneJob, mounts: Mounts, attempt: int) -> PrepareSpec:
    data = job.spec.data
    return PrepareSpec(
        run=run_id(job),
        attempt=attempt,
        task=job.spec.task,
        objective=job.spec.training.objective,
        model=_model(job.spec, mounts),
        sources=tuple(_weighted(source, mounts) for source in data.sources),
        test_sources=tuple(_source(source, mounts) for source in data.test_sources),
        fields=data.fields,
        split=data.split,
        max_bad_rows=data.max_bad_rows,
        min_test_rows=data.min_test_rows,
        checks=data.checks,
        clean=data.clean,
        slice_by=data.slice_by,
        duplicates=data.duplicates,
        leakage=data.leakage,
        few_shot=data.few_shot,
        folds=_folds(job),
        contamination=tuple(_benchmark(given, mounts) for given in data.contamination),
        augment=data.augment,
        augment_secret=_secret(_endpoint_secret(job.spec), mounts),
        max_length=job.spec.training.max_length,
        training=job.spec.training,
        general=tuple(_source(source, mounts) for source in _general(job.spec)),
        serving_memory=_serving_memory(job),
        latency=_latency(job, mounts),
    )


def _folds(job: FineTuneJob) -> int:
    wanted = job.spec.evaluation.cross_validation
    return wanted.folds if wanted else 0


def _serving_memory(job: FineTuneJob) -> str:
    wanted = job.spec.deployment
    if wanted is None or wanted.runtime != "Oikyo" or wanted.resources.gpus:
        return ""
    return wanted.resources.memory or ""


def _latency(job: FineTuneJob, mounts: Mounts) -> ServingLatency | None:
    wanted = job.spec.deployment
    if wanted is None or wanted.latency is None:
        return None
    # Where file:// is read, stages and server are processes of one machine.
    here = mounts.files is not None
    return ServingLatency(budget=wanted.latency, gpus=wanted.resources.gpus, here=here)


def train_spec(
    job: FineTuneJob, data: PrepareResult, attempt: int, memory: MemoryPlan | None = None
) -> TrainSpec:
    """`memory`: the plan of this attempt; None: the one that was made with the data."""
    return TrainSpec(
        run=run_id(job),
        attempt=attempt,
        task=job.spec.task,
        dataset_digest=data.dataset_digest,
        model_digest=data.model_digest,
        tokens_digest=data.tokens_digest,
        training=job.spec.training,
        general=data.general,
        folds=_folds(job),
        memory=memory or data.memory,
    )


def evaluate_spec(
    job: FineTuneJob,
    data: PrepareResult,
    seen: Observed,
    attempt: int,
    instead_of: int | None = None,
) -> EvaluateSpec:
    """`instead_of`: the number of a version that this attempt makes anew under the next free one."""
    return EvaluateSpec(
        run=run_id(job),
        attempt=attempt,
        task=job.spec.task,
        job=job.metadata.name,
        job_uid=job.metadata.uid,
        dataset_digest=data.dataset_digest,
        model_digest=data.model_digest,
        base_uri=job.spec.model.base,
        model_name=job.model_name,
        instead_of=instead_of,
        min_version=1 + max((_number(version) for version in seen.versions), default=0),
        training=job.spec.training,
        evaluation=job.spec.evaluation,
        few_shot=job.spec.data.few_shot,
        general=data.general,
        latency=_latency(job, seen.mounts),
        image=seen.image,
    )


def _number(version: ModelVersion) -> int:
    return version.spec.version


def processes_per_node(spec: FineTuneJobSpec) -> int:
    """A process for each GPU of a worker, or one."""
    return spec.training.processes_per_node or max(1, spec.training.resources.gpus)


def groups_per_node(spec: FineTuneJobSpec) -> int:
    """Groups of a worker's processes that learn different rows."""
    return processes_per_node(spec) // spec.training.tensor_parallel_size
