"""The routes of the server and the application that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from oikyo.api.tasks import Task

from .edge import Edge, place_of, read_json
from .errors import ApiError, invalid, on_api_error, on_http_exception
from .generate_routes import chat, completions
from .headed import Answered
from .requests import ClassifyRequest, TextsRequest
from .state import Served, Server

Asked = TypeVar("Asked", bound=TextsRequest)
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def application(server: Server) -> ASGIApp:
    """The ASGI application; no documentation pages, no debugging."""
    app = Starlette(
        routes=[
            Route("/health/live", live),
            Route("/health/ready", ready),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/completions", completions, methods=["POST"]),
            Route("/v1/classify", classify, methods=["POST"]),
            Route("/v1/regress", regress, methods=["POST"]),
        ],
        exception_handlers={ApiError: on_api_error, HTTPException: on_http_exception},
    )
    app.router.redirect_slashes = False
    app.state.server = server
    return Edge(app, server)


LIKELY = 0.5
"""Score above which a text is said to have a label, where it may have several."""


async def live(_: Request) -> Response:
    """The process answers; what it can do is readiness."""
    return JSONResponse({"status": "alive"})


async def ready(request: Request) -> Response:
    """200 once the weights are loaded and have computed; 503 before that and while draining."""
    server: Server = request.app.state.server
    code = 200 if server.phase == "Ready" else 503
    return JSONResponse({"status": server.phase.lower()}, code)


async def metrics(request: Request) -> Response:
    server: Server = request.app.state.server
    return Response(server.metrics.exposition(), headers={"Content-Type": METRICS_TYPE})


async def models(request: Request) -> Response:
    """The models in OpenAI's form, with version and digest, and with their base where they are adapters."""
    server: Server = request.app.state.server
    data = [_told(model, server.spec.task) for model in server.models]
    return JSONResponse({"object": "list", "data": data})


def _told(model: Served, task: Task) -> dict[str, object]:
    engine = model.engine
    told: dict[str, object] = {
        "id": model.name,
        "object": "model",
        "created": engine.created if engine else 0,
        "owned_by": "oikyo",
        "version": model.version,
        "task": task,
        "digest": engine.digest if engine else "",
    }
    return told | {"parent": engine.base} if engine and engine.base else told


async def classify(request: Request) -> Response:
    asked, model = await _asked(request, "TextClassification", ClassifyRequest)
    engine = model.classifier()
    place_of(request).take(model)
    found = await engine.ask(asked.input)
    most = asked.top_k or len(engine.labels)
    data = [
        _entry(index, one, engine.labels, most, several=engine.several)
        for index, one in enumerate(found)
    ]
    return _said(model, data)


async def regress(request: Request) -> Response:
    asked, model = await _asked(request, "TextRegression", TextsRequest)
    engine = model.regressor()
    place_of(request).take(model)
    found = await engine.ask(asked.input)
    data: list[dict[str, object]] = [
        {"index": index, "value": one.values[0]} for index, one in enumerate(found)
    ]
    return _said(model, data)


async def _asked(request: Request, task: Task, kind: type[Asked]) -> tuple[Asked, Served]:
    """What was asked, once it is known to be right, and of which model."""
    server: Server = request.app.state.server
    server.check(task)
    raw = await read_json(request, server.spec.max_body_bytes)
    try:
        asked = kind.model_validate(raw)
    except ValidationError as error:
        raise invalid(error) from None
    return asked, server.served(asked.model)


def _said(model: Served, data: Sequence[dict[str, object]]) -> Response:
    return JSONResponse({"model": model.name, "version": model.version, "data": data})


def _entry(
    index: int, found: Answered, labels: tuple[str, ...], most: int, *, several: bool
) -> dict[str, object]:
    ranked = sorted(zip(labels, found.values, strict=True), key=lambda pair: -pair[1])
    scores = [{"label": label, "score": round(score, 6)} for label, score in ranked[:most]]
    entry: dict[str, object] = {"index": index, **scores[0], "scores": scores}
    if several:
        entry["labels"] = [label for label, score in ranked if score > LIKELY]
    return entry
