"""The serve stage: one process that loads a version, and the adapters beside it, and answers until told to end.

The port opens before the weights are checked and read, so that liveness answers meanwhile; readiness
waits for them.
SIGTERM: readiness goes, new work gets 503, what runs finishes within drain_seconds, exit 0.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from oikyo.api.stages import EXIT_DONE, TERMINATION_LOG, LastWords, ServeSpec

from ..errors import Retry
from ..listening import listened, listening
from ..words import exit_code, failure_of, open_log, say
from .loading import load
from .routes import application
from .state import Loaded, Server

log = logging.getLogger("oikyo.serve")

HEADER_SECONDS = 15
"""Longest that a new connection may take to send a whole request head."""
IDLE_SECONDS = 75
"""How long an idle connection is kept: longer than the 60 s of common load balancers."""
HEAD_BYTES = 32 * 1024
POLL_SECONDS = 0.05


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, which would wait for ever for the head of a first request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(HEADER_SECONDS, self._close_without_request)

    def _close_without_request(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which on a signal drains first; a second signal ends it at once."""

    def __init__(self, config: uvicorn.Config, server: Server) -> None:
        super().__init__(config)
        self._server = server
        self.signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not passed on to uvicorn, which would raise the signal again: the exit code is ours."""
        self.signals += 1
        if self.signals > 1:
            self.should_exit = self.force_exit = True

    async def drain(self) -> None:
        """Wait for a signal, then for the requests under way, then end."""
        while not self.signals and not self.should_exit:
            await asyncio.sleep(POLL_SECONDS)
        self._server.drain()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._server.spec.drain_seconds
        log.info("draining: %d requests under way", self._server.inflight)
        while self._server.inflight and loop.time() < end and not self.should_exit:
            await asyncio.sleep(POLL_SECONDS)
        if self._server.inflight:
            log.warning("%d requests did not finish in time", self._server.inflight)
            self.force_exit = True
        self.should_exit = True


def serve(spec: ServeSpec, workspace: Path, termination_log: Path | None = None) -> int:
    """Serve until SIGTERM; returns the exit code."""
    server = Server(spec)
    config = uvicorn.Config(
        application(server),
        http=Protocol,
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
    try:
        bound = _bound(spec.port)
        asyncio.run(_run(DrainingServer(config, server), server, workspace, bound))
    except Exception as error:
        return _fail(error, termination_log)
    return EXIT_DONE


def _bound(port: int) -> socket.socket:
    try:
        return listening(port)
    except OSError as error:
        raise Retry("PortTaken", f"cannot listen on {listened(port)}: {error.strerror}") from error


async def _run(http: DrainingServer, server: Server, workspace: Path, bound: socket.socket) -> None:
    """Answer while loading; end with the loading's error if it failed."""
    loading = _start_loading(server, workspace)
    loading.add_done_callback(lambda done: _loaded(done, http, server))
    draining = asyncio.create_task(http.drain())
    try:
        await http.serve([bound])
        if loading.done():
            loading.result()
    finally:
        draining.cancel()
        server.close()


def _start_loading(server: Server, workspace: Path) -> asyncio.Future[Loaded]:
    """Load on a daemon thread: a signal must not have to wait for gigabytes of weights."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Loaded] = loop.create_future()

    def work() -> None:
        try:
            loaded = load(server.spec, workspace, [model.metrics for model in server.models])
        except BaseException as error:
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, loaded)

    threading.Thread(target=work, daemon=True, name="load").start()
    return future


def _loaded(done: asyncio.Future[Loaded], http: DrainingServer, server: Server) -> None:
    if done.cancelled() or done.exception() is not None:
        http.should_exit = True
    else:
        server.open(done.result())


def _fail(error: Exception, termination_log: Path | None) -> int:
    """Say the last words; returns the exit code."""
    default = Path(TERMINATION_LOG)
    path = termination_log or (default if default.exists() else None)
    words = LastWords(stage="serve", failure=failure_of(error))
    open_log(path)
    say(words, path)
    return exit_code(words)
