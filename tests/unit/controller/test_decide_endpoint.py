"""Which version an endpoint serves, and when it may be called ready."""

from __future__ import annotations

from datetime import timedelta

from oikyo.controller.conditions import find, holds
from oikyo.controller.endpoint import decide_endpoint
from oikyo.controller.observed import EndpointObserved
from scenes import NOW, endpoint, version


def serving(number: int, **fields):
    known = {"served_version": number, "ready_replicas": 1, "replicas": 1, "rolled_out": True}
    return EndpointObserved(**{"versions": (version(1), version(2)), **known, **fields})


def test_the_latest_accepted_version_is_served_and_a_rejected_one_never():
    versions = (version(1), version(2), version(3, accepted=False))
    decision = decide_endpoint(endpoint(), EndpointObserved(versions=versions), NOW)
    assert decision.server.spec.version == 2
    assert decision.server.claim == "tickets-workspace"
    assert holds(decision.status.conditions, "Ready", "False")
    assert decision.wake_after == timedelta(seconds=15)


def test_ready_only_when_the_wanted_version_answers():
    old = decide_endpoint(endpoint(), serving(1), NOW)
    assert holds(old.status.conditions, "Ready", "False")
    new = decide_endpoint(endpoint(), serving(2), NOW)
    assert holds(new.status.conditions, "Ready", "True")
    assert new.status.url == "http://tickets.default.svc"
    assert [event.reason for event in new.events] == ["Serving"]


def test_a_pinned_version_is_served_even_when_a_newer_one_exists():
    pinned = endpoint(versionPolicy="Pinned", version=1)
    assert decide_endpoint(pinned, serving(1), NOW).server.spec.version == 1


def test_a_pinned_version_that_failed_its_gates_is_refused():
    seen = EndpointObserved(versions=(version(1, accepted=False),))
    decision = decide_endpoint(endpoint(versionPolicy="Pinned", version=1), seen, NOW)
    assert decision.server is None
    assert find(decision.status.conditions, "Stalled").reason == "VersionRejected"
    assert decision.status.diagnosis.next_step == "kubectl get mv -n default"


def test_without_an_accepted_version_nothing_is_served_and_nobody_is_alarmed():
    decision = decide_endpoint(endpoint(), EndpointObserved(), NOW)
    assert decision.server is None
    assert holds(decision.status.conditions, "Stalled", "False")
    assert find(decision.status.conditions, "Ready").reason == "NoAcceptedVersion"


def test_the_root_cause_in_a_server_pod_reaches_the_endpoint():
    seen = serving(1, trouble="pod tickets-x: ImagePullBackOff", ready_replicas=0)
    decision = decide_endpoint(endpoint(), seen, NOW)
    assert decision.status.diagnosis.cause == "pod tickets-x: ImagePullBackOff"
    assert "kubectl describe pods" in decision.events[0].message


def test_deciding_twice_changes_nothing():
    first = decide_endpoint(endpoint(), serving(2), NOW)
    again = endpoint().model_copy(update={"status": first.status})
    second = decide_endpoint(again, serving(2), NOW + timedelta(minutes=1))
    assert second.status == first.status
    assert second.events == ()
