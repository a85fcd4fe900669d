"""The cache: newer beats older, the dead stay dead, and exactly those wake who are concerned."""

from __future__ import annotations

from typing import Any

from oikyo.controller.cache import Cache, Key
from oikyo.controller.kinds import (
    CLAIMS,
    FINE_TUNE_JOBS,
    JOBS,
    MODEL_ENDPOINTS,
    MODEL_VERSIONS,
    PODS,
    WARNINGS,
    Object,
)


def thing(
    name: str, version: int = 1, *, uid: str = "", labels: dict[str, str] | None = None, **more: Any
) -> Object:
    metadata = {
        "name": name,
        "namespace": "ns",
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "labels": labels or {},
    }
    return {"metadata": metadata, **more}


class Wakes(list[Key]):
    def names(self) -> list[str]:
        told = [f"{key.kind}/{key.name}" for key in self]
        self.clear()
        return told


def cache() -> tuple[Cache, Wakes]:
    wakes = Wakes()
    return Cache(wakes.append), wakes


def test_an_older_or_equal_state_changes_nothing_and_wakes_nobody() -> None:
    known, wakes = cache()
    known.put(FINE_TUNE_JOBS, thing("a", 5, spec={"v": 5}))
    assert wakes.names() == ["FineTuneJob/a"]
    known.put(FINE_TUNE_JOBS, thing("a", 4, spec={"v": 4}))
    known.put(FINE_TUNE_JOBS, thing("a", 5, spec={"v": 5}))
    assert wakes.names() == []
    found = known.get(FINE_TUNE_JOBS, "ns", "a")
    assert found is not None
    assert found["spec"] == {"v": 5}


def test_versions_are_compared_as_numbers() -> None:
    known, _ = cache()
    known.put(JOBS, thing("a", 9))
    known.put(JOBS, thing("a", 10))
    found = known.get(JOBS, "ns", "a")
    assert found is not None
    assert found["metadata"]["resourceVersion"] == "10"


def test_a_late_event_does_not_bring_the_dead_back() -> None:
    known, _ = cache()
    known.put(JOBS, thing("a", 5))
    known.drop(JOBS, thing("a", 6))
    known.put(JOBS, thing("a", 4))
    known.put(JOBS, thing("a", 7))
    assert known.get(JOBS, "ns", "a") is None


def test_the_end_of_an_earlier_object_leaves_its_namesake_alone() -> None:
    known, _ = cache()
    known.put(JOBS, thing("a", 9, uid="new"))
    known.drop(JOBS, thing("a", 5, uid="old"))
    found = known.get(JOBS, "ns", "a")
    assert found is not None
    assert found["metadata"]["uid"] == "new"


def test_labels_are_found_and_follow_changes() -> None:
    known, _ = cache()
    known.put(PODS, thing("p", 1, labels={"oikyo.dev/job": "a"}))
    assert len(known.labelled(PODS, "ns", "oikyo.dev/job", "a")) == 1
    known.put(PODS, thing("p", 2, labels={"oikyo.dev/job": "b"}))
    assert known.labelled(PODS, "ns", "oikyo.dev/job", "a") == []
    assert len(known.labelled(PODS, "ns", "oikyo.dev/job", "b")) == 1
    known.drop(PODS, thing("p", 3))
    assert known.labelled(PODS, "ns", "oikyo.dev/job", "b") == []


def test_a_fresh_list_finds_ghosts_but_spares_what_came_after_it_began() -> None:
    known, wakes = cache()
    for name in ("stays", "ghost"):
        known.put(JOBS, thing(name, labels={"oikyo.dev/job": name}))
    before = known.snapshot(JOBS, None)
    known.put(JOBS, thing("newcomer", labels={"oikyo.dev/job": "newcomer"}))
    wakes.clear()
    assert known.replace(JOBS, before, [thing("stays", labels={"oikyo.dev/job": "stays"})]) == 1
    assert known.get(JOBS, "ns", "ghost") is None
    assert known.get(JOBS, "ns", "newcomer") is not None
    assert wakes.names() == ["FineTuneJob/ghost"]


def test_children_wake_their_parents() -> None:
    known, wakes = cache()
    known.put(PODS, thing("p", labels={"oikyo.dev/job": "a"}))
    known.put(PODS, thing("s", labels={"oikyo.dev/endpoint": "e"}))
    assert wakes.names() == ["FineTuneJob/a", "ModelEndpoint/e"]


def test_a_claim_wakes_the_jobs_that_name_it() -> None:
    known, wakes = cache()
    source = {
        "data": {"sources": [{"uri": "pvc://datasets/x.jsonl"}]},
        "model": {"base": "hf://a/b"},
    }
    known.put(FINE_TUNE_JOBS, thing("by-source", spec=source))
    known.put(FINE_TUNE_JOBS, thing("by-storage", spec={"storage": {"claimName": "datasets"}}))
    known.put(FINE_TUNE_JOBS, thing("by-base", spec={"model": {"base": "pvc://datasets"}}))
    general = {"training": {"general": {"sources": [{"uri": "pvc://datasets/general.jsonl"}]}}}
    known.put(FINE_TUNE_JOBS, thing("by-general", spec=general))
    known.put(FINE_TUNE_JOBS, thing("other", spec={"model": {"base": "pvc://datasets-2/x"}}))
    wakes.clear()
    known.put(CLAIMS, thing("datasets"))
    assert sorted(wakes.names()) == [
        "FineTuneJob/by-base",
        "FineTuneJob/by-general",
        "FineTuneJob/by-source",
        "FineTuneJob/by-storage",
    ]


def test_a_version_wakes_the_endpoint_and_the_job_of_its_model() -> None:
    known, wakes = cache()
    known.put(FINE_TUNE_JOBS, thing("intents", spec={"model": {}}))
    known.put(FINE_TUNE_JOBS, thing("other", spec={"model": {"name": "else"}}))
    known.put(MODEL_ENDPOINTS, thing("serving", spec={"model": "intents"}))
    wakes.clear()
    known.put(MODEL_VERSIONS, thing("intents-v1", spec={"model": "intents"}))
    assert wakes.names() == ["ModelEndpoint/serving", "FineTuneJob/intents"]


def test_a_warning_about_a_pod_is_kept_by_uid_and_wakes_its_job() -> None:
    known, wakes = cache()
    known.put(PODS, thing("p", labels={"oikyo.dev/job": "a"}))
    wakes.clear()
    about = {"kind": "Pod", "namespace": "ns", "name": "p", "uid": "uid-p"}
    event = thing("e", involvedObject=about, reason="FailedMount", message="no secret hub")
    known.put(WARNINGS, event)
    assert wakes.names() == ["FineTuneJob/a"]
    assert known.warning("uid-p") == {"reason": "FailedMount", "message": "no secret hub"}
    known.drop(PODS, thing("p", 2))
    assert known.warning("uid-p") is None


def test_the_warning_that_was_written_last_stands_in_whatever_order_they_come() -> None:
    """A watch that lists anew gives them by name; the words that a person needs must not go."""
    known, wakes = cache()
    known.put(PODS, thing("p", labels={"oikyo.dev/job": "a"}))
    about = {"kind": "Pod", "namespace": "ns", "name": "p", "uid": "uid-p"}

    def event(name: str, version: int, message: str) -> Object:
        return thing(name, version, involvedObject=about, reason="FailedMount", message=message)

    newest = event("p.1", 9, 'configmap "nowhere" not found')
    older = event("p.2", 7, "failed to sync configmap cache")
    for first, second in ((newest, older), (older, newest)):
        known.put(WARNINGS, first)
        known.put(WARNINGS, second)
        warning = known.warning("uid-p")
        assert warning is not None
        assert "not found" in warning["message"]
    wakes.clear()
    known.put(WARNINGS, older)
    assert wakes.names() == []
