"""Which version an endpoint serves, and when it may be called ready."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from oikyo.api.modelversion import AdapterFacts, ModelVersion, Storage
from oikyo.api.stages import AdapterSpec, ServeSpec
from oikyo.api.training import TrainingSpec
from oikyo.controller.conditions import find, holds
from oikyo.controller.endpoint import decide_endpoint
from oikyo.controller.observed import EndpointDecision, EndpointObserved
from oikyo.controller.policies.adapters import facts
from scenes import DIGEST, NOW, endpoint, version


def told(number: int, *adapters: AdapterSpec, **fields: Any) -> ServeSpec:
    """What the server of `version(number)` is told."""
    known = {"model_name": "tickets", "version": number, "task": "TextClassification"}
    path = f"versions/tickets/{number}"
    return ServeSpec(**{**known, "path": path, "adapters": adapters, **fields})


def serving(number: int, **fields: Any) -> EndpointObserved:
    known = {"served": told(number), "ready_replicas": 1, "replicas": 1, "rolled_out": True}
    return EndpointObserved(**{"versions": (version(1), version(2)), **known, **fields})


def test_the_latest_accepted_version_is_served_and_a_rejected_one_never() -> None:
    versions = (version(1), version(2), version(3, accepted=False))
    decision = decide_endpoint(endpoint(), EndpointObserved(versions=versions), NOW)
    assert decision.server.spec.version == 2
    assert decision.server.claim == "tickets-workspace"
    assert holds(decision.status.conditions, "Ready", "False")
    assert decision.wake_after == timedelta(seconds=15)


def test_ready_only_when_the_wanted_version_answers() -> None:
    old = decide_endpoint(endpoint(), serving(1), NOW)
    assert holds(old.status.conditions, "Ready", "False")
    new = decide_endpoint(endpoint(), serving(2), NOW)
    assert holds(new.status.conditions, "Ready", "True")
    assert new.status.url == "http://tickets.default.svc"
    assert [event.reason for event in new.events] == ["Serving"]


def test_a_pinned_version_is_served_even_when_a_newer_one_exists() -> None:
    pinned = endpoint(versionPolicy="Pinned", version=1)
    assert decide_endpoint(pinned, serving(1), NOW).server.spec.version == 1


def test_a_pinned_version_that_failed_its_gates_is_refused() -> None:
    seen = EndpointObserved(versions=(version(1, accepted=False),))
    decision = decide_endpoint(endpoint(versionPolicy="Pinned", version=1), seen, NOW)
    assert decision.server is None
    assert find(decision.status.conditions, "Stalled").reason == "VersionRejected"
    assert decision.status.diagnosis.next_step == "kubectl get mv -n default"


def test_without_an_accepted_version_nothing_is_served_and_nobody_is_alarmed() -> None:
    decision = decide_endpoint(endpoint(), EndpointObserved(), NOW)
    assert decision.server is None
    assert holds(decision.status.conditions, "Stalled", "False")
    assert find(decision.status.conditions, "Ready").reason == "NoAcceptedVersion"


def test_the_root_cause_in_a_server_pod_reaches_the_endpoint() -> None:
    seen = serving(1, trouble="pod tickets-x: ImagePullBackOff", ready_replicas=0)
    decision = decide_endpoint(endpoint(), seen, NOW)
    assert decision.status.diagnosis.cause == "pod tickets-x: ImagePullBackOff"
    assert "kubectl describe pods" in decision.events[0].message


def test_deciding_twice_changes_nothing() -> None:
    first = decide_endpoint(endpoint(), serving(2), NOW)
    again = endpoint().model_copy(update={"status": first.status})
    second = decide_endpoint(again, serving(2), NOW + timedelta(minutes=1))
    assert second.status == first.status
    assert second.events == ()


LORA = AdapterFacts(method="LoRA", rank=8, variant="Standard")
BASE = "models/" + DIGEST.removeprefix("sha256:")
REFUNDS = AdapterSpec(name="refunds", model_name="refunds", version=2, path="versions/refunds/2")


def adapter(number: int = 2, model: str = "refunds", **fields: Any) -> ModelVersion:
    return version(number, model=model, **{"adapter": LORA, **fields})


def beside(
    *versions: ModelVersion, adapters: Any = ({"name": "refunds"},), **spec: Any
) -> EndpointDecision:
    """The decision about an endpoint whose own version is adapter 1 of tickets."""
    seen = EndpointObserved(versions=(adapter(1, "tickets"), *versions))
    return decide_endpoint(endpoint(adapters=adapters, **spec), seen, NOW)


def test_adapters_are_served_beside_the_model_by_the_newest_accepted_or_the_named_version() -> None:
    versions = (adapter(1), adapter(2), adapter(3, accepted=False))
    assert beside(*versions).server.spec == told(1, REFUNDS, base=BASE, lora_rank=8)
    old = beside(*versions, adapters=({"name": "old", "model": "refunds", "version": 1},))
    (served,) = old.server.spec.adapters
    assert (served.name, served.model_name, served.version) == ("old", "refunds", 1)


@pytest.mark.parametrize(
    ("reason", "words", "versions"),
    [
        ("VersionMissing", "spec.adapters[refunds]: no version of refunds has passed", ()),
        ("NotAnAdapter", "version 2 of refunds is a whole model", (adapter(adapter=None),)),
        (
            "AdapterDiffers",
            "version 2 of refunds has the task TextGeneration, and version 1 of tickets has",
            (adapter(task="TextGeneration"),),
        ),
        (
            "AdapterDiffers",
            "has the base model sha256:" + "cd" * 32,
            (
                adapter(
                    lineage=adapter().spec.lineage.model_copy(
                        update={"base_digest": "sha256:" + "cd" * 32}
                    )
                ),
            ),
        ),
        (
            "AdapterDiffers",
            "has the workspace claim other, and version 1 of tickets has tickets-workspace",
            (adapter(storage=Storage(claim_name="other", path="versions/refunds/2")),),
        ),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_and_nothing_is_made(
    reason: str, words: str, versions: tuple[ModelVersion, ...]
) -> None:
    decision = beside(*versions)
    assert (decision.server, decision.keep) == (None, False)
    stalled = find(decision.status.conditions, "Stalled")
    assert (stalled.status, stalled.reason) == ("True", reason)
    assert words in stalled.message
    assert decision.status.diagnosis.evidence == "spec.adapters[refunds]"
    assert [event.reason for event in decision.events] == [reason]


def test_a_named_version_that_is_missing_or_rejected_is_told_apart() -> None:
    pinned = ({"name": "refunds", "version": 3},)
    gone = beside(adapter(2), adapters=pinned)
    assert find(gone.status.conditions, "Stalled").reason == "VersionMissing"
    bad = beside(adapter(3, accepted=False), adapters=pinned)
    assert find(bad.status.conditions, "Stalled").reason == "VersionRejected"


def test_a_whole_model_takes_no_adapters() -> None:
    seen = EndpointObserved(versions=(version(1), adapter()))
    decision = decide_endpoint(endpoint(adapters=({"name": "refunds"},)), seen, NOW)
    stalled = find(decision.status.conditions, "Stalled")
    assert stalled.reason == "NotAnAdapter"
    assert stalled.message.startswith("spec.model: version 1 of tickets is a whole model")
    assert "training.merge: false" in decision.status.diagnosis.next_step


def test_an_adapter_that_does_not_fit_leaves_what_runs() -> None:
    before = told(1, REFUNDS, base=BASE, lora_rank=8)
    versions = (adapter(1, "tickets"), adapter(2))
    seen = EndpointObserved(versions=versions, served=before, replicas=1, ready_replicas=1)
    wanted = endpoint(adapters=({"name": "refunds"}, {"name": "nobody"}))
    decision = decide_endpoint(wanted, seen, NOW)
    assert (decision.server, decision.keep) == (None, True)
    assert holds(decision.status.conditions, "Ready", "False")
    assert [(one.name, one.version) for one in decision.status.adapters] == [("refunds", 2)]
    assert decision.status.version == 1
    assert decision.status.diagnosis.tried == "what served before goes on serving"


def test_ready_waits_for_the_server_that_was_told_of_the_adapter() -> None:
    versions = (adapter(1, "tickets"), adapter(2))
    wanted = endpoint(adapters=({"name": "refunds"},))
    up: dict[str, Any] = {
        "versions": versions,
        "replicas": 1,
        "ready_replicas": 1,
        "rolled_out": True,
    }
    before = told(1, base=BASE, lora_rank=8)
    old = decide_endpoint(wanted, EndpointObserved(served=before, **up), NOW)
    assert "with 1 adapter is rolling out" in find(old.status.conditions, "Ready").message
    new = decide_endpoint(wanted, EndpointObserved(served=old.server.spec, **up), NOW)
    assert find(new.status.conditions, "Ready").message == (
        "version 1 of tickets with 1 adapter answers"
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ({"method": "IA3"}, "was made by IA3"),
        ({"method": "LoRA", "rank": 8, "variant": "DoRA"}, "is of the variant DoRA"),
        ({"method": "LoRA", "rank": 1024, "variant": "Standard"}, "has rank 1024, above 512"),
    ],
)
def test_what_vllm_cannot_carry_out_is_told_before_a_pod_starts(
    kind: dict[str, Any], words: str
) -> None:
    text = {"task": "TextGeneration"}
    seen = EndpointObserved(
        versions=(adapter(1, "tickets", **text), adapter(2, adapter=AdapterFacts(**kind), **text))
    )
    wanted = endpoint(runtime="VLLM", adapters=({"name": "refunds"},))
    stalled = find(decide_endpoint(wanted, seen, NOW).status.conditions, "Stalled")
    assert (stalled.reason, words in stalled.message) == ("RuntimeUnfit", True)


def test_vllm_takes_no_adapter_that_classifies() -> None:
    decision = beside(adapter(), runtime="VLLM")
    assert "has the task TextClassification" in find(decision.status.conditions, "Stalled").message


def test_vllm_serves_no_version_that_says_numbers() -> None:
    one = version(1)
    numbers = one.model_copy(
        update={"spec": one.spec.model_copy(update={"task": "TextRegression"})}
    )
    seen = EndpointObserved(versions=(numbers,))
    decision = decide_endpoint(endpoint(runtime="VLLM"), seen, NOW)
    stalled = find(decision.status.conditions, "Stalled")
    assert (stalled.reason, decision.server) == ("RuntimeUnfit", None)
    assert "would answer in standard deviations" in stalled.message
    assert decision.status.diagnosis.next_step == "write runtime: Oikyo"
    assert decide_endpoint(endpoint(), seen, NOW).server.spec.task == "TextRegression"


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"method": "LoRA"}, None),
        ({"method": "Full", "merge": False}, None),
        ({"method": "IA3", "merge": False}, AdapterFacts(method="IA3")),
        (
            {"method": "LoRA", "merge": False, "lora": {"rank": 4, "variant": "DoRA"}},
            AdapterFacts(method="LoRA", rank=4, variant="DoRA"),
        ),
    ],
)
def test_the_record_says_what_kind_of_adapter_a_version_is(
    training: dict[str, Any], expected: AdapterFacts | None
) -> None:
    assert facts(TrainingSpec.model_validate(training)) == expected
