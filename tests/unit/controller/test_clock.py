"""Moments are compared by the API server's clock: a controller an hour off fails nothing and waits for nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from oikyo.api.stages import StageProgress
from oikyo.controller.clock import ServerClock
from oikyo.controller.cluster import Cluster
from oikyo.controller.conditions import parse, timestamp
from oikyo.controller.decide import decide
from oikyo.controller.kinds import JOBS
from oikyo.controller.progress import put_right
from scenes import NOW, done, failed, job, running, seen


@pytest.mark.parametrize("ahead", [timedelta(hours=1), -timedelta(hours=1), timedelta(days=400)])
def test_a_clock_that_is_off_is_put_right_by_the_servers(ahead: timedelta) -> None:
    clock = ServerClock(lambda: NOW + ahead)
    clock.hear(format_datetime(NOW, usegmt=True))
    assert clock.now() == NOW


@pytest.mark.parametrize("told", [None, "", "yesterday", "Mon, 99 Nov 2026 12:00:00 GMT"])
def test_what_is_no_date_is_not_heard(told: str | None) -> None:
    clock = ServerClock(lambda: NOW)
    clock.hear(told)
    assert clock.now() == NOW


def test_the_seconds_of_an_answer_on_its_way_are_no_skew() -> None:
    clock = ServerClock(lambda: NOW + timedelta(seconds=1.9))
    clock.hear(format_datetime(NOW, usegmt=True))
    assert clock.skew == timedelta(0)


async def test_every_answer_of_the_server_sets_the_clock() -> None:
    hour = timedelta(hours=1)

    async def answer(_: web.Request) -> web.Response:
        date = format_datetime(datetime.now(UTC) + hour, usegmt=True)
        return web.json_response({"kind": "Job"}, headers={"Date": date})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    configuration = Configuration()
    configuration.host = "http://{}:{}".format(*runner.addresses[0][:2])
    cluster = Cluster(configuration)
    try:
        await cluster.get(JOBS, "demo", "x")
    finally:
        await cluster.close()
        await runner.cleanup()
    assert abs(cluster.clock.skew - hour) < timedelta(minutes=5)


def test_with_the_servers_time_neither_a_deadline_nor_a_wait_moves() -> None:
    """What the skew would do, and what it does not: the operator's own clock is an hour ahead or behind."""
    going = seen(done("prepare"), running("train"))
    again = seen(done("prepare"), failed("train", 1), failed("train", 2, finished=NOW))
    limited, patient = job(activeDeadlineSeconds=1800), job(backoffLimit=3)
    for off in (timedelta(hours=1), -timedelta(hours=1)):

        def own(off: timedelta = off) -> datetime:
            return NOW + timedelta(seconds=20) + off

        clock = ServerClock(own)
        wrong = clock.now()
        clock.hear(format_datetime(NOW + timedelta(seconds=20), usegmt=True))
        assert decide(limited, going, clock.now()).status.phase == "Training"
        assert [plan.key for plan in decide(patient, again, clock.now()).children.stages] == [
            ("train", 3)
        ]
        if off > timedelta(0):
            assert decide(limited, going, wrong).status.phase == "Failed"
        else:
            assert not decide(patient, again, wrong).children.stages


@pytest.mark.parametrize("off", [timedelta(hours=1), -timedelta(hours=1), timedelta(seconds=1)])
def test_a_pod_on_a_node_whose_clock_is_off_tells_moments_by_the_servers_time(
    off: timedelta,
) -> None:
    told = StageProgress(stage="train", updated=timestamp(NOW - timedelta(seconds=5) + off))
    right = put_right(told, format_datetime(NOW + off, usegmt=True), NOW)
    late = parse(right.updated) - (NOW - timedelta(seconds=5))
    assert late == (off if off < timedelta(seconds=3) and off > timedelta(0) else timedelta(0))


def test_a_moment_without_a_clock_beside_it_stays_as_it_was_told() -> None:
    for told in (
        StageProgress(stage="train", updated=timestamp(NOW)),
        StageProgress(stage="train"),
    ):
        assert put_right(told, None, NOW) == told
    silent = StageProgress(stage="train")
    assert put_right(silent, format_datetime(NOW, usegmt=True), NOW + timedelta(hours=1)) == silent
