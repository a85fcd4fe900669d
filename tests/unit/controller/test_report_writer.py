"""Reports: nothing is written twice, progress waits, events are not repeated."""

from __future__ import annotations

from datetime import datetime, timedelta
from email.utils import format_datetime

import scenes
from oikyo.api.jobstatus import FineTuneJobStatus, Progress, StageStatus
from oikyo.controller.cache import Cache
from oikyo.controller.clock import ServerClock
from oikyo.controller.kinds import FINE_TUNE_JOBS, Kind, Object
from oikyo.controller.observed import Event
from oikyo.controller.report_writer import PROGRESS_SECONDS, REPEAT_SECONDS, Reporter
from scenes import NOW

ITEM: Object = {
    "metadata": {"name": "tickets", "namespace": "ns", "uid": "u", "resourceVersion": "1"}
}


class Sink:
    """Takes what would go to the API server."""

    def __init__(self) -> None:
        self.created: list[Object] = []
        self.clock = ServerClock()

    async def create(self, kind: Kind, body: Object) -> Object:
        self.created.append(body)
        return body

    async def replace_status(self, kind: Kind, current: Object, status: Object) -> Object:
        version = str(int(current["metadata"]["resourceVersion"]) + 1)
        return {
            "metadata": {**current["metadata"], "resourceVersion": version},
            "status": status,
        }


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def reporter() -> tuple[Reporter, Sink, Clock]:
    sink, clock = Sink(), Clock()
    return Reporter(sink, Cache(lambda _: None), "me", clock), sink, clock  # type: ignore[arg-type]


def status(percent: int, phase: str = "Training") -> FineTuneJobStatus:
    progress = Progress(stage="train", progress_percentage=percent)
    return FineTuneJobStatus(phase=phase, progress=progress, loss=f"0.{percent}")


async def test_mere_progress_waits_and_a_change_of_phase_does_not() -> None:
    made, _, clock = reporter()
    assert made.due("u", status(1), status(2)) == 0.0
    await made.status(FINE_TUNE_JOBS, ITEM, status(2).wire())
    clock.at = 2.0
    assert made.due("u", status(2), status(3)) == PROGRESS_SECONDS - 2.0
    assert made.due("u", status(2), status(3, "Evaluating")) == 0.0
    clock.at = PROGRESS_SECONDS
    assert made.due("u", status(2), status(3)) == 0.0


async def test_a_first_checkpoint_is_told_at_once_and_a_newer_one_is_progress() -> None:
    """The first of an attempt decides whether its failure costs budget, and its pods may be gone then."""

    def reached(step: int | None) -> FineTuneJobStatus:
        stage = StageStatus(name="train", attempt=1, state="Running", checkpoint_step=step)
        return FineTuneJobStatus(phase="Training", stages=(stage,))

    made, _, clock = reporter()
    await made.status(FINE_TUNE_JOBS, ITEM, reached(None).wire())
    clock.at = 2.0
    assert made.due("u", reached(None), reached(10)) == 0.0
    assert made.due("u", reached(10), reached(20)) == PROGRESS_SECONDS - 2.0


async def test_the_same_event_is_told_once_a_minute() -> None:
    made, sink, clock = reporter()
    event = Event("Warning", "PodBlocked", "no secret. Next: kubectl describe pod p")
    for clock.at in (0.0, 10.0, REPEAT_SECONDS - 1):
        await made.events(FINE_TUNE_JOBS, ITEM, (event,))
    assert len(sink.created) == 1
    clock.at = REPEAT_SECONDS
    await made.events(FINE_TUNE_JOBS, ITEM, (event, Event("Normal", "Trained", "done")))
    assert [e["reason"] for e in sink.created] == ["PodBlocked", "PodBlocked", "Trained"]
    assert len({e["metadata"]["name"] for e in sink.created}) == 3


async def test_an_event_names_its_object_and_fits_the_api() -> None:
    made, sink, _ = reporter()
    await made.events(FINE_TUNE_JOBS, ITEM, (Event("Normal", "Trained", "ä" * 2000),))
    (event,) = sink.created
    assert event["regarding"]["uid"] == "u"
    assert event["regarding"]["kind"] == "FineTuneJob"
    assert len(event["note"].encode()) <= 1024
    assert event["reportingController"] == "oikyo.dev/controller"


async def test_an_event_has_the_servers_time() -> None:
    made, sink, _ = reporter()
    sink.clock = ServerClock(lambda: NOW + timedelta(hours=1))
    sink.clock.hear(format_datetime(NOW, usegmt=True))
    await made.events(FINE_TUNE_JOBS, ITEM, (Event("Normal", "Trained", "done"),))
    assert datetime.fromisoformat(sink.created[0]["eventTime"]) == NOW


async def test_what_was_written_is_known_at_once() -> None:
    known = Cache(lambda _: None)
    made = Reporter(Sink(), known, "me")  # type: ignore[arg-type]
    await made.status(FINE_TUNE_JOBS, ITEM, scenes.job().status.wire())
    found = known.get(FINE_TUNE_JOBS, "ns", "tickets")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "2"
