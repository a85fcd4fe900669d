"""Which attempt has whose PodGroup, what it looks like, and how it is known though nobody watches it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import scenes
from oikyo.api.finetunejob import FineTuneJob
from oikyo.controller import manifests
from oikyo.controller.apply import Hands
from oikyo.controller.cache import Cache, Key
from oikyo.controller.cluster import NotFoundError
from oikyo.controller.conditions import find
from oikyo.controller.decide import decide
from oikyo.controller.features import FRESH_SECONDS, Features
from oikyo.controller.kinds import JOBS, POD_GROUPS, PODS, VOLCANO_GROUPS, Kind, Object
from oikyo.controller.manifests import Manifest, Settings
from oikyo.controller.observe import observe
from oikyo.controller.observed import Children, GroupApi, StagePlan, StageRun, Worker
from oikyo.controller.podgroups import PodGroups
from oikyo.controller.policies import gang, groups
from oikyo.controller.resolve import train_spec

IMAGES = Settings("trainer:1", "vllm:1")
SHARED = {"accessMode": "ReadWriteMany"}
KEY = Key("FineTuneJob", "default", "tickets")


def several(nodes: int = 2, least: int | None = None, **scheduling: Any) -> FineTuneJob:
    training = {"nodes": nodes} | ({} if least is None else {"minNodes": least})
    return scenes.job(training=training, storage=SHARED, scheduling=scheduling)


def plan(job: FineTuneJob, nodes: int, group: GroupApi | None) -> StagePlan:
    return StagePlan(train_spec(job, scenes.PREPARED, 1), nodes, 1, group)


@pytest.mark.parametrize(
    ("scheduling", "served", "nodes", "expected"),
    [
        ({}, {"Kubernetes"}, 2, "Kubernetes"),
        ({}, {"Kubernetes"}, 1, None),  # an elastic job that goes on with one
        ({}, set(), 2, None),
        ({"schedulerName": "bin-packing"}, {"Kubernetes"}, 2, "Kubernetes"),
        ({"queueName": "team-a"}, {"Kubernetes"}, 2, None),  # Kueue admits all or none
        ({"schedulerName": "volcano"}, {"Volcano"}, 2, "Volcano"),
        ({"schedulerName": "volcano"}, {"Volcano"}, 1, "Volcano"),
        ({"schedulerName": "volcano", "queueName": "team-a"}, {"Volcano"}, 2, "Volcano"),
        ({"schedulerName": "volcano"}, {"Kubernetes"}, 2, None),
    ],
)
def test_one_gate_at_a_time(
    scheduling: dict[str, Any], served: set[str], nodes: int, expected: str | None
) -> None:
    seen = scenes.seen(groups=frozenset(served))
    assert groups.choice(several(**scheduling), seen, None, nodes) == expected


@pytest.mark.parametrize("made_with", [None, "Kubernetes"])
def test_an_attempt_keeps_the_group_that_its_pods_were_made_with(
    made_with: GroupApi | None,
) -> None:
    served = frozenset({"Kubernetes"} if made_with is None else ())
    run = StageRun("train", 1, "Pending", nodes=2, group=made_with)
    seen = scenes.seen(scenes.done("prepare"), run, groups=served)
    (kept,) = decide(several(), seen, scenes.NOW).children.stages
    assert kept.group == made_with


def test_a_group_is_made_before_the_job_whose_pods_name_it_and_of_their_priority() -> None:
    job = several(priorityClassName="high")
    service, group, made = manifests.stage(job, plan(job, 2, "Kubernetes"), IMAGES)
    assert (group["apiVersion"], group["kind"]) == ("scheduling.k8s.io/v1beta1", "PodGroup")
    assert group["metadata"]["ownerReferences"] == service["metadata"]["ownerReferences"]
    assert group["spec"] == {
        "schedulingPolicy": {"gang": {"minCount": 2}},
        "disruptionMode": {"all": {}},
        "priorityClassName": "high",
    }
    pod = made["spec"]["template"]["spec"]
    assert pod["schedulingGroup"] == {"podGroupName": group["metadata"]["name"]}
    assert pod["priorityClassName"] == "high"


def test_volcano_is_told_by_annotation_and_has_the_queue() -> None:
    job = several(schedulerName="volcano", queueName="team-a", priorityClassName="high")
    _, group, made = manifests.stage(job, plan(job, 2, "Volcano"), IMAGES)
    assert group["apiVersion"] == "scheduling.volcano.sh/v1beta1"
    assert group["spec"] == {"minMember": 2, "queue": "team-a", "priorityClassName": "high"}
    template = made["spec"]["template"]
    named = template["metadata"]["annotations"]["scheduling.k8s.io/group-name"]
    assert (named, template["spec"]["schedulerName"]) == (group["metadata"]["name"], "volcano")
    assert "schedulingGroup" not in template["spec"]
    assert "suspend" not in made["spec"]
    assert "kueue.x-k8s.io/queue-name" not in made["metadata"]["labels"]


def test_without_a_group_nothing_speaks_of_one() -> None:
    job = several()
    kinds = [made["kind"] for made in manifests.stage(job, plan(job, 2, None), IMAGES)]
    made = manifests.stage(job, plan(job, 2, None), IMAGES)[-1]["spec"]["template"]
    assert kinds == ["Service", "Job"]
    assert not {"schedulingGroup", "schedulerName"} & made["spec"].keys()
    assert "scheduling.k8s.io/group-name" not in made["metadata"]["annotations"]


@pytest.mark.parametrize(("nodes", "least", "expected"), [(4, None, 4), (4, 2, 2), (3, 2, 2)])
def test_an_elastic_gang_needs_no_more_than_it_can_go_on_with(
    nodes: int, least: int | None, expected: int
) -> None:
    assert groups.least(several(4, least), nodes) == expected


def test_volcano_that_is_not_there_is_told_before_a_job_waits_for_ever() -> None:
    job = several(schedulerName="volcano")
    decision = decide(job, scenes.seen(), scenes.NOW)
    assert decision.children.stages == ()
    assert "the cluster has no Volcano" in decision.status.diagnosis.cause
    assert find(decision.status.conditions, "Stalled").status == "True"
    there = decide(job, scenes.seen(groups=frozenset({"Volcano"})), scenes.NOW)
    assert [stage.group for stage in there.children.stages] == ["Volcano"]
    running = scenes.seen(scenes.running("prepare"))
    assert [p.key for p in decide(job, running, scenes.NOW).children.stages] == [("prepare", 1)]


def test_the_words_about_a_group_are_told_once() -> None:
    waits = Worker("a", 0, "Pending", reason="Unschedulable", message="minCount (2): 1 remaining")
    run = StageRun(
        "train", 1, "Pending", (waits,), unplaced="Unschedulable: minCount (2): 1 remaining"
    )
    assert gang.told(run) == "a (Unschedulable: minCount (2): 1 remaining)"
    silent = replace(run, workers=(replace(waits, reason="", message="", node="n"),))
    assert gang.told(silent) == (
        "a (starting on node n); their PodGroup: Unschedulable: minCount (2): 1 remaining"
    )


class Server:
    """An API server as far as these tests ask it: PodGroups, and who asked for what."""

    def __init__(self, *items: tuple[Kind, Object]) -> None:
        self.items = {(kind, item["metadata"]["name"]): item for kind, item in items}
        self.asked: list[str] = []
        self.deleted: list[str] = []

    async def get(self, kind: Kind, _namespace: str, name: str) -> Object:
        self.asked.append(name)
        if (kind, name) not in self.items:
            raise NotFoundError(name)
        return dict(self.items[(kind, name)])

    async def delete(self, kind: Kind, target: Object) -> Object:
        self.deleted.append(f"{kind.kind} {target['metadata']['name']}")
        return {**target, "kind": kind.kind}


def metadata(uid: str, owner: str) -> Object:
    labels = {"oikyo.dev/job": "tickets", "oikyo.dev/stage": "train", "oikyo.dev/attempt": "1"}
    return {
        "name": "tickets-train-1",
        "namespace": "default",
        "uid": uid,
        "resourceVersion": "1",
        "labels": labels,
        "ownerReferences": [{"uid": owner}],
    }


def stage_job(kind: Kind = POD_GROUPS, owner: str = "0123456789ab") -> Object:
    template: Manifest = {"spec": {"schedulingGroup": {"podGroupName": "tickets-train-1"}}}
    if kind is VOLCANO_GROUPS:
        named = {"scheduling.k8s.io/group-name": "tickets-train-1"}
        template = {"metadata": {"annotations": named}, "spec": {}}
    return {
        "metadata": metadata("job-uid", owner),
        "spec": {"completions": 1, "template": template},
    }


def pod(node: str = "") -> Object:
    made = {**metadata("pod-uid", "job-uid"), "name": "tickets-train-1-0-x"}
    return {"metadata": made, "spec": {"nodeName": node} if node else {}, "status": {}}


def pod_group(uid: str = "group-uid", owner: str = "0123456789ab", **condition: str) -> Object:
    return {
        "metadata": metadata(uid, owner),
        "status": {"conditions": [condition] if condition else []},
    }


def known(*items: tuple[Kind, Object]) -> Cache:
    made = Cache(lambda _: None)
    for kind, item in items:
        made.put(kind, item)
    return made


def cached(cache: Cache, kind: Kind = POD_GROUPS) -> Object | None:
    return cache.get(kind, "default", "tickets-train-1")


@pytest.mark.parametrize(
    ("kind", "condition", "told"),
    [
        (POD_GROUPS, ("PodGroupInitiallyScheduled", "False", "Unschedulable"), True),
        (POD_GROUPS, ("PodGroupInitiallyScheduled", "True", "Scheduled"), False),
        (VOLCANO_GROUPS, ("Unschedulable", "True", "NotEnoughResources"), True),
        (VOLCANO_GROUPS, ("Scheduled", "True", "tasks in gang are ready"), False),
    ],
)
async def test_what_the_scheduler_says_of_a_group_is_seen(
    kind: Kind, condition: tuple[str, str, str], told: bool
) -> None:
    words = dict(zip(("type", "status", "reason"), condition, strict=True), message="no room")
    cache = known((JOBS, stage_job(kind)))
    await PodGroups(Server((kind, pod_group(**words))), cache).look(several())  # type: ignore[arg-type]

    async def silent(_: Object) -> None:
        return None

    (run,) = (await observe(several(), cache, silent, "image")).runs
    assert run.group == ("Kubernetes" if kind is POD_GROUPS else "Volcano")
    assert run.unplaced == (f"{condition[2]}: no room" if told else "")


@pytest.mark.parametrize(
    ("refused", "placed", "told"),
    [
        ("10:00:01", "10:00:02", False),
        ("10:00:01", "10:00:01", False),
        ("10:00:03", "10:00:02", True),
    ],
)
async def test_of_what_volcano_says_of_a_group_the_later_stands(
    refused: str, placed: str, told: bool
) -> None:
    """It never takes a refusal back, not even of the moment when only one of two pods was there."""
    group = pod_group()
    group["status"]["conditions"] = [
        {
            "type": kind,
            "status": "True",
            "message": "no room",
            "lastTransitionTime": f"2026-01-01T{at}Z",
        }
        for kind, at in (("Unschedulable", refused), ("Scheduled", placed))
    ]
    run = await seen_with((JOBS, stage_job(VOLCANO_GROUPS)), (VOLCANO_GROUPS, group))
    assert bool(run.unplaced) is told


@pytest.mark.parametrize("kind", [POD_GROUPS, VOLCANO_GROUPS])
async def test_nothing_is_told_of_a_group_once_all_of_its_pods_have_a_place(kind: Kind) -> None:
    """Nobody asks for it any more, so what is known may be from before."""
    no = (
        ("PodGroupInitiallyScheduled", "False") if kind is POD_GROUPS else ("Unschedulable", "True")
    )
    group = pod_group(type=no[0], status=no[1], reason="NoRoom", message="no room")
    waits = await seen_with((JOBS, stage_job(kind)), (kind, group), (PODS, pod()))
    starts = await seen_with((JOBS, stage_job(kind)), (kind, group), (PODS, pod("node")))
    assert (waits.unplaced, starts.unplaced) == ("NoRoom: no room", "")


async def seen_with(*items: tuple[Kind, Object]) -> StageRun:
    async def silent(_: Object) -> None:
        return None

    (run,) = (await observe(several(), known(*items), silent, "image")).runs
    return run


async def test_a_group_is_asked_for_while_pods_wait_and_not_once_they_have_a_place() -> None:
    server, cache = Server((POD_GROUPS, pod_group())), known((JOBS, stage_job()), (PODS, pod()))
    seen = PodGroups(server, cache)  # type: ignore[arg-type]
    await seen.look(several())
    await seen.look(several())
    assert len(server.asked) == 2
    placed = {**pod("node"), "metadata": {**pod()["metadata"], "resourceVersion": "2"}}
    cache.put(PODS, placed)
    await seen.look(several())
    assert len(server.asked) == 2
    assert cached(cache) is not None


async def test_a_group_that_is_gone_is_forgotten_so_that_it_is_made_again() -> None:
    cache = known((JOBS, stage_job()), (POD_GROUPS, pod_group()))
    await PodGroups(Server(), cache).look(several())  # type: ignore[arg-type]
    assert cached(cache) is None


async def test_the_group_of_an_earlier_job_of_the_same_name_is_not_this_ones() -> None:
    cache = known((POD_GROUPS, pod_group(owner="earlier")))
    seen = PodGroups(Server(), cache)  # type: ignore[arg-type]
    await seen.look(several())
    assert cached(cache) is None
    cache.put(POD_GROUPS, pod_group("another"))
    seen.forget(KEY)
    assert cached(cache) is None


async def test_a_group_goes_before_its_job_and_an_attempt_that_stays_keeps_it() -> None:
    item, group = stage_job(), pod_group()
    cache, server = (
        known((JOBS, item), (POD_GROUPS, group)),
        Server((JOBS, item), (POD_GROUPS, group)),
    )
    hands = Hands(server, cache, IMAGES)  # type: ignore[arg-type]
    kept = Children(stages=(plan(several(), 2, "Kubernetes"),))
    assert not await hands.clear(several(), kept)
    while await hands.clear(several(), Children()):
        assert len(server.deleted) < 3
        cache.drop(JOBS, item) if len(server.deleted) == 2 else None
    assert server.deleted == ["PodGroup tickets-train-1", "Job tickets-train-1"]


async def test_a_resource_is_asked_for_once_a_minute_and_may_go_again() -> None:
    class Discovery:
        asked = 0

        async def resources(self, _: str) -> frozenset[str]:
            self.asked += 1
            return frozenset({"podgroups"} if self.asked == 2 else {"priorityclasses"})

    server, now = Discovery(), [0.0]
    features = Features(server, lambda: now[0])  # type: ignore[arg-type]
    for moment, offered, asked in ((0, False, 1), (59, False, 1), (60, True, 2), (120, False, 3)):
        now[0] = moment * FRESH_SECONDS / 60
        assert (await features.serves(POD_GROUPS), server.asked) == (offered, asked)
