"""The outermost layer: times and counts every request, takes places back, and lets no trace out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError, answer
from .requests import parse_json
from .state import Served, Server

log = logging.getLogger("oikyo.serve")

BODY_SECONDS = 30
"""Longest that a body may take to arrive."""
CLIENT_GONE = 499
ROUTES = frozenset(
    {
        "/health/live",
        "/health/ready",
        "/metrics",
        "/v1/models",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/classify",
        "/v1/regress",
    }
)
"""Paths that metrics tell apart; any other is `other`, so that no client makes series."""


class Edge:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, server: Server) -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, code = time.perf_counter(), 0

        async def watch(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = int(message["status"])
                if self._server.phase == "Draining":
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        place = scope["oikyo.place"] = Place(self._server)
        try:
            await self._app(scope, receive, watch)
        except (ClientDisconnect, OSError):
            code = CLIENT_GONE
        except Exception as error:
            # The text of the error may quote a prompt: only its kind and place are logged.
            log.error("%s failed: %s %s", scope["path"], type(error).__name__, _place_of(error))
            if code == 0:
                refusal = ApiError(500, "the server failed to answer; its log says where")
                await answer(refusal)(scope, receive, watch)
        finally:
            place.give_back()
            route = scope["path"] if scope["path"] in ROUTES else "other"
            code = CLIENT_GONE if place.abandoned or code == 0 else code
            place.model.metrics.answered(route, code, time.perf_counter() - started)


class Place:
    """A request's hold on the server; given back exactly once, however the request ends."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._held = False
        self._cancel: Callable[[], None] | None = None
        self.model = server.first
        """Whom the request is for; the endpoint's own model until it has said so."""
        self.abandoned = False
        """The client went away before the answer was complete."""

    def take(self, model: Served) -> None:
        self.model = model
        self._server.admit(model)
        self._held = True

    def on_end(self, cancel: Callable[[], None]) -> None:
        """Call `cancel` when the request ends, also when the client just goes away."""
        self._cancel = cancel

    def give_back(self) -> None:
        if self._cancel is not None:
            self._cancel()
        if self._held:
            self._held = False
            self._server.release(self.model)


def place_of(request: Request) -> Place:
    place: Place = request.scope["oikyo.place"]
    return place


def _place_of(error: BaseException) -> str:
    """File and line of the innermost frame."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


async def read_json(request: Request, most_bytes: int) -> object:
    """The body as JSON; refuses a wrong type, too much of it, and one that dawdles."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "the body must be JSON: send Content-Type: application/json")
    too_large = ApiError(
        413, f"the body is larger than {most_bytes} bytes", headers={"Connection": "close"}
    )
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > most_bytes:
        raise too_large
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > most_bytes:
                    raise too_large
    except TimeoutError:
        raise ApiError(408, f"the body did not arrive within {BODY_SECONDS} s") from None
    return parse_json(bytes(raw))
