"""The Prometheus series of the model server. Base units, bounded labels, no text of any request."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
NAMES = ("model", "version")


@dataclass(frozen=True)
class Identity:
    """One model of the server, by the name that requests write; on every series as labels."""

    model: str
    version: int
    task: str

    @property
    def labels(self) -> tuple[str, str]:
        return self.model, str(self.version)


class ServerMetrics:
    """One registry for one server process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "oikyo_server_requests_total",
            "Requests answered, by route and status code (499: the client went away)",
            (*NAMES, "route", "code"),
            registry=self._registry,
        )
        self.durations = Histogram(
            "oikyo_server_request_duration_seconds",
            "Seconds from the request's first byte to the answer's last",
            (*NAMES, "route"),
            registry=self._registry,
            buckets=BUCKETS,
        )
        self.info = Gauge(
            "oikyo_server_model_info",
            "Always 1; says what is served",
            (*NAMES, "task", "digest"),
            registry=self._registry,
        )
        self.inflight = self._gauge("inflight_requests", "Requests admitted and not yet answered")
        self.queued = self._gauge("queue_depth", "Requests admitted whose computing has not begun")
        self.ready = self._gauge("ready", "1 while the server accepts requests, else 0")
        self.generated_tokens = self._counter("generated_tokens_total", "Tokens generated")
        self.prompt_tokens = self._counter("prompt_tokens_total", "Tokens of prompts read")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"oikyo_server_{name}", text, NAMES, registry=self._registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"oikyo_server_{name}", text, NAMES, registry=self._registry)

    def exposition(self) -> bytes:
        return generate_latest(self._registry)


class ModelMetrics:
    """The series of one model of the server."""

    def __init__(self, server: ServerMetrics, identity: Identity) -> None:
        self._server = server
        self._identity = identity
        self.inflight = server.inflight.labels(*identity.labels)
        self.queued = server.queued.labels(*identity.labels)
        self.ready = server.ready.labels(*identity.labels)
        self.generated_tokens = server.generated_tokens.labels(*identity.labels)
        self.prompt_tokens = server.prompt_tokens.labels(*identity.labels)

    def loaded(self, digest: str) -> None:
        """The weights are in memory and have computed once."""
        self._server.info.labels(*self._identity.labels, self._identity.task, digest).set(1)
        self.ready.set(1)

    def answered(self, route: str, code: int, seconds: float) -> None:
        self._server.requests.labels(*self._identity.labels, route, str(code)).inc()
        self._server.durations.labels(*self._identity.labels, route).observe(seconds)
