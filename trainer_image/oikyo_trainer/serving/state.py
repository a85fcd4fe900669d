"""What the server is doing now: loading, ready or draining, and how much of it is under way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from oikyo.api.stages import ServeSpec

from .classifier import Classifier
from .errors import ApiError
from .generator import Generator
from .metrics import Identity, ServerMetrics

Phase = Literal["Loading", "Ready", "Draining"]
RETRY_SECONDS = "1"


@dataclass(frozen=True)
class Loaded:
    """A model in memory that has computed once."""

    engine: Classifier | Generator
    digest: str
    created: int
    """Seconds since 1970 at which the version was released."""


class Server:
    """The state that every route shares; touched on the event loop alone."""

    def __init__(self, spec: ServeSpec) -> None:
        self.spec = spec
        self.metrics = ServerMetrics(Identity(spec.model_name, spec.version, spec.task))
        self.phase: Phase = "Loading"
        self.loaded: Loaded | None = None
        self.inflight = 0

    def open(self, loaded: Loaded) -> None:
        """Become ready, unless the end was asked for while the weights were read."""
        if self.phase != "Loading":
            return
        self.loaded = loaded
        loaded.engine.start()
        self.phase = "Ready"
        self.metrics.loaded(loaded.digest)

    def drain(self) -> None:
        """Refuse new work from now on."""
        self.phase = "Draining"
        self.metrics.ready.set(0)

    def close(self) -> None:
        if self.loaded is not None:
            self.loaded.engine.close()

    def classifier(self) -> Classifier:
        """The engine of a classification request, or the refusal."""
        engine = self._ready().engine
        if not isinstance(engine, Classifier):
            raise ApiError(404, f"{self.spec.model_name} generates text: POST /v1/chat/completions")
        return engine

    def generator(self) -> Generator:
        """The engine of a generation request, or the refusal."""
        engine = self._ready().engine
        if not isinstance(engine, Generator):
            raise ApiError(
                404, f"{self.spec.model_name} classifies text: POST /v1/classify instead"
            )
        return engine

    def _ready(self) -> Loaded:
        if self.phase == "Ready" and self.loaded is not None:
            return self.loaded
        draining = self.phase == "Draining"
        raise ApiError(
            503,
            "the server is shutting down" if draining else "the model is still being loaded",
            headers={"Retry-After": RETRY_SECONDS},
        )

    def admit(self) -> None:
        """Take one of the places; whoever is admitted must be released."""
        self._ready()  # draining may have begun while the body was read
        if self.inflight >= self.spec.max_concurrency:
            raise ApiError(
                429,
                f"{self.inflight} requests are already under way: try again in {RETRY_SECONDS} s",
                headers={"Retry-After": RETRY_SECONDS},
            )
        self.inflight += 1
        self.metrics.inflight.set(self.inflight)

    def release(self) -> None:
        self.inflight -= 1
        self.metrics.inflight.set(self.inflight)

    def check_model(self, name: str | None) -> None:
        """The name that a client wrote must be the model's, alone or with its version."""
        model = self.spec.model_name
        if name is not None and name not in (model, f"{model}:{self.spec.version}"):
            raise ApiError(
                404,
                f"the model is called {model}; see /v1/models",
                param="model",
                code="model_not_found",
            )
