"""The process as a whole: a leader that cannot begin ends, and memory does not grow with time."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from oikyo.controller import handlers, progress
from oikyo.controller.cluster import Cluster
from oikyo.controller.config import parse
from oikyo.controller.process import Process
from oikyo.controller.progress import ProgressReader
from scenes import NOW


async def garbled(request: web.Request) -> web.Response:
    """An API server whose lease works and whose lists hold what is no object."""
    if request.method in ("POST", "PUT"):
        body = await request.json()
        body["metadata"]["resourceVersion"] = "1"
        return web.json_response(body)
    if "leases" in request.path:
        return web.json_response({"message": "not found"}, status=404)
    return web.json_response({"items": [{"metadata": {"name": "no-uid"}}]})


async def test_a_leader_that_cannot_begin_ends_and_gives_the_lease_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def quiet(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(handlers, "watch", quiet)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", garbled)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        cluster = Cluster(Configuration(host=f"http://{host}:{port}"))
        process = Process(parse(["--namespace", "default", "--metrics-port", "0"], {}), cluster)
        assert await asyncio.wait_for(process.run(), 120) is False
    finally:
        await runner.cleanup()


async def test_pods_that_nobody_asks_any_more_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = ProgressReader(lambda: NOW)
    for uid in ("first", "second"):
        pod = {"metadata": {"uid": uid}, "status": {"phase": "Running", "podIP": "127.0.0.1"}}
        assert await reader.read(pod, port=9) is None
        monkeypatch.setattr(progress, "FORGOTTEN_SECONDS", 0.0)
    await reader.close()
    assert set(reader._told) == {"second"}
