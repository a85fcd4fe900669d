"""What the server is doing now: loading, ready or draining, and how much of it is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from oikyo.api.stages import ServeSpec
from oikyo.api.tasks import FACTS, Task

from .errors import ApiError
from .generator import Generator
from .headed import Classifier, Headed, Regressor
from .metrics import Identity, ModelMetrics, ServerMetrics

Phase = Literal["Loading", "Ready", "Draining"]
RETRY_SECONDS = "1"
DOES: dict[Task, str] = {
    "TextClassification": "classifies text",
    "TextRegression": "says numbers",
    "TextGeneration": "generates text",
}


@dataclass(frozen=True)
class Engine:
    """A model in memory that has computed once."""

    computes: Headed | Generator
    digest: str
    created: int
    """Seconds since 1970 at which the version was released."""
    base: str = ""
    """URI of the base of a version that is an adapter."""


@dataclass(frozen=True)
class Loaded:
    """All models of the server, in memory."""

    engines: tuple[Engine, ...]
    """In the order of Server.models."""
    start: Callable[[], None]
    """Begin to answer; called on the event loop."""
    close: Callable[[], None]


@dataclass
class Served:
    """One name that requests may write as their model."""

    name: str
    version: int
    metrics: ModelMetrics
    engine: Engine | None = None
    """None while it is being loaded."""

    def classifier(self) -> Classifier:
        assert self.engine is not None
        assert isinstance(self.engine.computes, Classifier)
        return self.engine.computes

    def regressor(self) -> Regressor:
        assert self.engine is not None
        assert isinstance(self.engine.computes, Regressor)
        return self.engine.computes

    def generator(self) -> Generator:
        assert self.engine is not None
        assert isinstance(self.engine.computes, Generator)
        return self.engine.computes


class Server:
    """The state that every route shares; touched on the event loop alone."""

    def __init__(self, spec: ServeSpec) -> None:
        self.spec = spec
        self.metrics = ServerMetrics()
        named = ((spec.model_name, spec.version), *((a.name, a.version) for a in spec.adapters))
        self.models = tuple(
            Served(name, version, ModelMetrics(self.metrics, Identity(name, version, spec.task)))
            for name, version in named
        )
        """The endpoint's own model first, then its adapters."""
        self.phase: Phase = "Loading"
        self.inflight = 0
        self._loaded: Loaded | None = None

    @property
    def first(self) -> Served:
        return self.models[0]

    def open(self, loaded: Loaded) -> None:
        """Become ready, unless the end was asked for while the weights were read."""
        if self.phase != "Loading":
            return
        self._loaded = loaded
        for model, engine in zip(self.models, loaded.engines, strict=True):
            model.engine = engine
        loaded.start()
        self.phase = "Ready"
        for model, engine in zip(self.models, loaded.engines, strict=True):
            model.metrics.loaded(engine.digest)

    def drain(self) -> None:
        """Refuse new work from now on."""
        self.phase = "Draining"
        for model in self.models:
            model.metrics.ready.set(0)

    def close(self) -> None:
        if self._loaded is not None:
            self._loaded.close()

    def check(self, task: Task) -> None:
        """Refuse a request that comes too early or too late, or that is for another task."""
        self._ready()
        if self.spec.task != task:
            does, route = DOES[self.spec.task], FACTS[self.spec.task].route
            raise ApiError(404, f"{self.spec.model_name} {does}: POST {route} instead")

    def served(self, name: str | None) -> Served:
        """The model that a client named, alone or with its version; without a name the endpoint's own."""
        for model in self.models:
            if name in (model.name, f"{model.name}:{model.version}"):
                return model
        if name is None:
            return self.first
        names = ", ".join(model.name for model in self.models)
        told = (
            f"the models are called {names}" if self.models[1:] else f"the model is called {names}"
        )
        message = f"{told}; see /v1/models"
        raise ApiError(404, message, param="model", code="model_not_found")

    def _ready(self) -> None:
        if self.phase == "Ready":
            return
        draining = self.phase == "Draining"
        raise ApiError(
            503,
            "the server is shutting down" if draining else "the model is still being loaded",
            headers={"Retry-After": RETRY_SECONDS},
        )

    def admit(self, model: Served) -> None:
        """Take one of the places; whoever is admitted must be released."""
        self._ready()  # draining may have begun while the body was read
        if self.inflight >= self.spec.max_concurrency:
            raise ApiError(
                429,
                f"{self.inflight} requests are already under way: try again in {RETRY_SECONDS} s",
                headers={"Retry-After": RETRY_SECONDS},
            )
        self.inflight += 1
        model.metrics.inflight.inc()

    def release(self, model: Served) -> None:
        self.inflight -= 1
        model.metrics.inflight.dec()
