"""The operator's own metrics, and one set of series for each job and endpoint that it leads.

Series of objects are computed when Prometheus asks, from the last reports: an object that goes takes its
series with it. Names and meanings: docs/reference/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelendpoint import ModelEndpoint
from oikyo.api.tasks import main_metric

from .cache import Key
from .conditions import holds

JOB = ("namespace", "job")
ENDPOINT = ("namespace", "endpoint")
Row = tuple[tuple[str, ...], float]


class Metrics(Collector):
    """Holds the newest state of what is led; serves everything as text."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs: dict[Key, FineTuneJob] = {}
        self.endpoints: dict[Key, ModelEndpoint] = {}
        self.reconciles = Counter(
            "oikyo_operator_reconcile",
            "Visits of objects.",
            ("kind", "result"),
            registry=self.registry,
        )
        self.duration = Histogram(
            "oikyo_operator_reconcile_duration_seconds",
            "Time of one visit.",
            ("kind",),
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10),
            registry=self.registry,
        )
        self.queue_depth = self._gauge("queue_depth", "Keys that wait for a worker.")
        self.leader = self._gauge("leader", "1 on the replica that holds the Lease.")
        build = Gauge(
            "oikyo_operator_build_info", "Always 1.", ("version",), registry=self.registry
        )
        build.labels(_version()).set(1)
        self.registry.register(self)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"oikyo_operator_{name}", words, registry=self.registry)

    def watch(self, depth: Callable[[], float], leading: Callable[[], bool]) -> None:
        self.queue_depth.set_function(depth)
        self.leader.set_function(lambda: float(leading()))

    def forget(self, key: Key) -> None:
        self.jobs.pop(key, None)
        self.endpoints.pop(key, None)

    def forget_all(self) -> None:
        """Only the leader tells of objects: two replicas would tell everything twice."""
        self.jobs.clear()
        self.endpoints.clear()

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield from _job_families(tuple(self.jobs.values()))
        yield from _endpoint_families(tuple(self.endpoints.values()))


def _version() -> str:
    try:
        return version("oikyo")
    except PackageNotFoundError:
        return "source"


def _family(
    name: str, words: str, labels: tuple[str, ...], rows: Iterable[Row]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=labels)
    for values, number in rows:
        family.add_metric(values, number)
    return family


def _at(job: FineTuneJob | ModelEndpoint) -> tuple[str, str]:
    return job.metadata.namespace, job.metadata.name


def _job_families(jobs: tuple[FineTuneJob, ...]) -> Iterator[GaugeMetricFamily]:
    yield _family(
        "oikyo_job_info",
        "Always 1.",
        (*JOB, "task", "method", "base"),
        (((*_at(j), j.spec.task, j.spec.training.method, j.spec.model.base), 1) for j in jobs),
    )
    yield _family(
        "oikyo_job_phase",
        "1 for the current phase.",
        (*JOB, "phase"),
        (((*_at(j), j.status.phase), 1) for j in jobs if j.status.phase),
    )
    yield _family(
        "oikyo_job_condition",
        "1 for the current status of each condition.",
        (*JOB, "type", "status"),
        (((*_at(j), c.type, c.status), 1) for j in jobs for c in j.status.conditions),
    )
    yield from _running_families(jobs)
    yield _family(
        "oikyo_job_failures",
        "Failed attempts so far.",
        JOB,
        ((_at(j), j.status.failures) for j in jobs),
    )
    scores = ((_at(j), _score(j)) for j in jobs)
    yield _family(
        "oikyo_job_score",
        "Value of the first gate's metric on the test split.",
        JOB,
        ((labels, score) for labels, score in scores if score is not None),
    )


def _running_families(jobs: tuple[FineTuneJob, ...]) -> Iterator[GaugeMetricFamily]:
    running = [(j, j.status.progress) for j in jobs if j.status.progress is not None]
    yield _family(
        "oikyo_job_progress_ratio",
        "Share of the running stage that is done.",
        (*JOB, "stage"),
        (((*_at(j), p.stage), p.progress_percentage / 100) for j, p in running if p.stage),
    )
    yield _family(
        "oikyo_job_remaining_seconds",
        "Estimate until the running stage ends.",
        JOB,
        (
            (_at(j), p.estimated_remaining_seconds)
            for j, p in running
            if p.estimated_remaining_seconds is not None
        ),
    )


def _score(job: FineTuneJob) -> float | None:
    gates = job.spec.evaluation.gates
    main = main_metric(job.spec.task, job.spec.training.objective)
    name = gates[0].metric if gates else main
    told = next((metric.value for metric in job.status.metrics if metric.name == name), None)
    try:
        return None if told is None else float(told)
    except ValueError:
        return None


def _endpoint_families(endpoints: tuple[ModelEndpoint, ...]) -> Iterator[GaugeMetricFamily]:
    yield _family(
        "oikyo_endpoint_ready",
        "1 when the condition Ready is True.",
        ENDPOINT,
        ((_at(e), float(holds(e.status.conditions, "Ready"))) for e in endpoints),
    )
    yield _family(
        "oikyo_endpoint_replicas",
        "Server pods that answer.",
        ENDPOINT,
        ((_at(e), e.status.ready_replicas) for e in endpoints),
    )
    yield _family(
        "oikyo_endpoint_version",
        "Number of the version that is served.",
        ENDPOINT,
        ((_at(e), e.status.version) for e in endpoints if e.status.version is not None),
    )
