"""A visit of the Reconciler against a small API server: what is refused, in the way, or not ours to write."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

import scenes
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.modelendpoint import ModelEndpoint
from oikyo.controller.apply import Hands
from oikyo.controller.cache import Cache, Key
from oikyo.controller.cluster import ConflictError, NotFoundError, NotLeaderError, RefusedError
from oikyo.controller.kinds import (
    FINE_TUNE_JOBS,
    JOBS,
    MODEL_ENDPOINTS,
    MODEL_VERSIONS,
    POD_GROUPS,
    PODS,
    Kind,
    Object,
    kind_of,
)
from oikyo.controller.manifests import Settings
from oikyo.controller.metrics import Metrics
from oikyo.controller.observed import Children
from oikyo.controller.reconcile import Reconciler
from oikyo.controller.report_writer import Reporter

SPEC = {
    "model": {"base": "pvc://models/minilm"},
    "task": "TextClassification",
    "data": {"sources": [{"uri": "pvc://datasets/tickets.jsonl"}]},
}
NAME = {"name": "tickets", "namespace": "default", "generation": 1}


class Server:
    """What an API server does with objects, as far as a visit asks for it."""

    def __init__(self) -> None:
        self.items: dict[tuple[Kind, str], Object] = {}
        self.clock = SimpleNamespace(now=lambda: scenes.NOW)
        self.leads = True
        self.made = 0
        self.lists: list[tuple[Kind, str]] = []

    def have(self, kind: Kind, name: str, **body: Any) -> Object:
        self.made += 1
        own = {"name": name, "namespace": "default", "uid": f"{kind.plural}-{name}"}
        own |= {"resourceVersion": str(self.made), **body.pop("metadata", {})}
        self.items[(kind, name)] = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": own,
            **body,
        }
        return copy.deepcopy(self.items[(kind, name)])

    async def get(self, kind: Kind, _namespace: str, name: str) -> Object:
        if (kind, name) not in self.items:
            raise NotFoundError(name)
        return copy.deepcopy(self.items[(kind, name)])

    async def list(self, kind: Kind, _namespace: str, labels: str) -> AsyncIterator[Object]:
        self.lists.append((kind, labels))
        for own in [item for (of, _), item in self.items.items() if of == kind]:
            yield copy.deepcopy(own)

    async def create(self, kind: Kind, body: Object) -> Object:
        self._may_write()
        if (kind, body["metadata"]["name"]) in self.items:
            raise ConflictError("the name is taken")
        rest = {k: v for k, v in body.items() if k not in ("apiVersion", "kind")}
        return self.have(kind, body["metadata"]["name"], **copy.deepcopy(rest))

    async def apply(self, _kind: Kind, body: Object) -> Object:
        raise RefusedError(f"exceeded quota: no room for {body['metadata']['name']}")

    async def replace_status(self, kind: Kind, item: Object, status: Object) -> Object:
        self._may_write()
        self.made += 1
        kept = self.items[(kind, item["metadata"]["name"])]
        kept["status"] = status
        kept["metadata"]["resourceVersion"] = str(self.made)
        return copy.deepcopy(kept)

    async def delete(self, kind: Kind, target: Object) -> Object | None:
        self._may_write()
        return self.items.pop((kind, target["metadata"]["name"]), None)

    def _may_write(self) -> None:
        if not self.leads:
            raise NotLeaderError("this replica does not hold the lease")


class Place:
    """One Reconciler, what it knows, and the server behind it."""

    def __init__(self) -> None:
        self.server = Server()
        self.cache = Cache(lambda _: None)
        cluster: Any = self.server
        self.hands = Hands(cluster, self.cache, Settings("trainer:1", "vllm:1"))
        reporter = Reporter(cluster, self.cache, "controller-0")
        self.reconciler = Reconciler(
            cluster, self.cache, self.hands, reporter, SimpleNamespace(read=silent),  # type: ignore[arg-type]
            Metrics(), "trainer:1",
        )  # fmt: skip

    def know(self, kind: Kind, name: str, **body: Any) -> None:
        self.cache.put(kind, self.server.have(kind, name, **body))

    async def visit(self, kind: Kind) -> float | None:
        return await self.reconciler.run(Key(kind.kind, "default", "tickets"))

    def stalled(self, kind: Kind) -> tuple[str, str]:
        status = self.server.items[(kind, "tickets")].get("status", {})
        (found,) = (c for c in status.get("conditions", ()) if c["type"] == "Stalled")
        return found["status"], found["message"]


async def silent(_: Object) -> None:
    return None


@pytest.fixture
def place() -> Place:
    return Place()


def know_job(place: Place) -> None:
    for claim in ("models", "datasets", "tickets-workspace"):
        place.know(kind_of("v1", "PersistentVolumeClaim"), claim, status={"phase": "Bound"})
    place.know(FINE_TUNE_JOBS, "tickets", metadata={**NAME, "uid": "mine"}, spec=SPEC)


async def test_a_name_that_is_taken_stays_told_for_as_long_as_it_is(place: Place) -> None:
    know_job(place)
    place.server.have(JOBS, "tickets-prepare-1", spec={})
    for _ in range(3):
        with pytest.raises(RefusedError, match="belongs to somebody else"):
            await place.visit(FINE_TUNE_JOBS)
        state, why = place.stalled(FINE_TUNE_JOBS)
        assert (state, "Job tickets-prepare-1 exists" in why) == ("True", True)
    del place.server.items[(JOBS, "tickets-prepare-1")]
    await place.visit(FINE_TUNE_JOBS)
    assert place.stalled(FINE_TUNE_JOBS)[0] == "False"


async def test_a_refused_server_is_told_in_the_endpoint(place: Place) -> None:
    version = scenes.version()
    place.know(MODEL_VERSIONS, "tickets-v1", spec=version.spec.wire())
    mine = {**NAME, "uid": "mine"}
    place.know(MODEL_ENDPOINTS, "tickets", metadata=mine, spec={"model": "tickets"})
    versions = set()
    for _ in range(3):
        with pytest.raises(RefusedError, match="exceeded quota"):
            await place.visit(MODEL_ENDPOINTS)
        assert place.stalled(MODEL_ENDPOINTS) == ("True", "exceeded quota: no room for tickets")
        told = place.server.items[(MODEL_ENDPOINTS, "tickets")]
        assert "resourcequota" in ModelEndpoint.model_validate(told).status.diagnosis.next_step
        versions.add(told["metadata"]["resourceVersion"])
    assert len(versions) == 1


async def test_who_may_not_write_comes_back_for_a_lease_may_lapse_and_be_renewed(
    place: Place,
) -> None:
    know_job(place)
    place.server.leads = False
    wait = await place.visit(FINE_TUNE_JOBS)
    assert wait is not None
    assert wait <= 5
    place.server.leads = True
    await place.visit(FINE_TUNE_JOBS)
    assert (JOBS, "tickets-prepare-1") in place.server.items


async def test_what_has_changed_since_the_decision_is_not_deleted_on_it(place: Place) -> None:
    know_job(place)
    await place.visit(FINE_TUNE_JOBS)
    job = FineTuneJob.model_validate(place.server.items[(FINE_TUNE_JOBS, "tickets")])
    place.server.made += 1
    ended = place.server.items[(JOBS, "tickets-prepare-1")]
    ended["metadata"]["resourceVersion"] = str(place.server.made)
    ended["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    stopped = Children(keep=frozenset({("prepare", 1)}))
    assert await place.hands.clear(job, stopped)  # it has looked again, and so must the decision
    assert (JOBS, "tickets-prepare-1") in place.server.items
    assert not await place.hands.clear(job, stopped)


async def test_a_group_that_has_changed_is_deleted_at_the_second_look(place: Place) -> None:
    job = scenes.job()
    labels = {"oikyo.dev/job": "tickets", "oikyo.dev/stage": "train", "oikyo.dev/attempt": "1"}
    place.know(POD_GROUPS, "tickets-train-1", metadata={"labels": labels})
    place.server.items[(POD_GROUPS, "tickets-train-1")]["metadata"]["resourceVersion"] = "9"
    while await place.hands.clear(job, Children()):
        pass
    assert (POD_GROUPS, "tickets-train-1") not in place.server.items


async def test_pods_that_are_gone_are_asked_for_once(place: Place) -> None:
    know_job(place)
    await place.visit(FINE_TUNE_JOBS)
    ended = copy.deepcopy(place.server.items[(JOBS, "tickets-prepare-1")])
    ended["metadata"]["resourceVersion"] = str(place.server.made + 1)
    moment = scenes.NOW.isoformat()
    ended["status"] = {
        "conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": moment}]
    }
    place.cache.put(JOBS, ended)
    for _ in range(3):
        await place.visit(FINE_TUNE_JOBS)
    labels = f"{PODS.labels},oikyo.dev/job=tickets"
    assert place.server.lists == [(PODS, labels)]
