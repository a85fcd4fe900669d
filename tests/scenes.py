"""Builders of what a controller sees, and a world in memory that does what a Decision says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.jobstatus import GateResult
from oikyo.api.meta import Metric, ObjectMeta
from oikyo.api.modelendpoint import ModelEndpoint, ModelEndpointSpec
from oikyo.api.modelversion import Lineage, ModelVersion, ModelVersionSpec, Storage
from oikyo.api.stages import (
    EvaluateResult,
    Failure,
    LastWords,
    PrepareResult,
    Stage,
    TrainResult,
)
from oikyo.controller.decide import decide
from oikyo.controller.observed import Claim, Decision, Observed, StageRun, Worker

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32


def job(status: Any = None, *, name: str = "tickets", **spec: Any) -> FineTuneJob:
    """A FineTuneJob; keywords are fields of its spec, as in a manifest."""
    manifest = {
        "apiVersion": "oikyo.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "name": name,
            "uid": "0123456789ab",
            "creationTimestamp": "2026-11-23T12:00:00Z",
        },
        "spec": {
            "model": {"base": "pvc://models/minilm"},
            "task": "TextClassification",
            "data": {"sources": [{"uri": "pvc://datasets/tickets.jsonl"}]},
            **spec,
        },
    }
    made = FineTuneJob.model_validate(manifest)
    return made if status is None else made.model_copy(update={"status": status})


PREPARED = PrepareResult(
    dataset_digest=DIGEST, model_digest=DIGEST, train=80, validation=10, test=10
)


def result(stage: Stage, *, accepted: bool = True) -> PrepareResult | TrainResult | EvaluateResult:
    if stage == "prepare":
        return PREPARED
    if stage == "train":
        return TrainResult(
            steps=9, total_steps=9, metrics=(Metric(name="train_loss", value="0.5"),)
        )
    gate = GateResult(
        metric="f1_macro", rule="min 0.80", value="0.9", threshold="0.80", passed=accepted
    )
    return EvaluateResult(
        accepted=accepted,
        metrics=(Metric(name="f1_macro", value="0.9"),),
        baseline=(Metric(name="f1_macro", value="0.6"),),
        gates=(gate,),
        version=1,
        path="versions/tickets/1",
        digest=DIGEST,
    )


def done(stage: Stage, attempt: int = 1, *, accepted: bool = True, words: bool = True) -> StageRun:
    """An attempt that ended well."""
    said = LastWords(stage=stage, attempt=attempt, result=result(stage, accepted=accepted))
    return StageRun(
        stage, attempt, "Succeeded", started=NOW, finished=NOW, words=said if words else None
    )


def running(stage: Stage, attempt: int = 1) -> StageRun:
    return StageRun(stage, attempt, "Running", (Worker("pod-0", 0, "Running"),), started=NOW)


def failed(
    stage: Stage,
    attempt: int = 1,
    *,
    kind: Literal["Refused", "Retry", "Crashed"] | None = None,
    reason: str = "Error",
    message: str = "line 7 of tickets.jsonl is not JSON",
    code: int = 1,
    finished: datetime = NOW,
    checkpoint: int | None = None,
    **more: Any,
) -> StageRun:
    """An attempt that failed; `kind` is what its last words say, None when it said none."""
    words = None
    if kind is not None:
        failure = Failure(kind=kind, reason=reason, message=message, next_step="mend it", **more)
        words = LastWords(stage=stage, attempt=attempt, failure=failure)
    name = f"tickets-{stage}-{attempt}-0"
    log = f"kubectl logs -n demo {name}"
    worker = Worker(
        name, 0, "Failed", code, reason, words=words, checkpoint_step=checkpoint, log=log
    )
    return StageRun(
        stage, attempt, "Failed", (worker,), started=NOW, finished=finished, words=words
    )


def pending(stage: Stage, reason: str, message: str = "") -> StageRun:
    worker = Worker("tickets-pod-0", 0, "Pending", reason=reason, message=message)
    return StageRun(stage, 1, "Pending", (worker,))


def seen(*runs: StageRun, **fields: Any) -> Observed:
    """What is seen: these attempts, and a bound workspace."""
    fields.setdefault("workspace", Claim("tickets-workspace", "Bound", ("ReadWriteMany",)))
    return Observed(runs=runs, **fields)


def version(
    number: int = 1, *, accepted: bool = True, model: str = "tickets", **fields: Any
) -> ModelVersion:
    spec = ModelVersionSpec(
        model=model,
        version=number,
        task="TextClassification",
        verdict="Accepted" if accepted else "Rejected",
        digest=DIGEST,
        storage=Storage(claim_name="tickets-workspace", path=f"versions/{model}/{number}"),
        lineage=Lineage(
            job="tickets",
            job_uid="0123456789ab",
            base="pvc://models/minilm",
            base_digest=DIGEST,
            dataset_digest=DIGEST,
        ),
        created="2026-11-23T12:00:00Z",
    ).model_copy(update=fields)
    return ModelVersion(metadata=ObjectMeta(name=f"{model}-v{number}"), spec=spec)


def endpoint(**spec: Any) -> ModelEndpoint:
    return ModelEndpoint(
        metadata=ObjectMeta(name="tickets"),
        spec=ModelEndpointSpec.model_validate({"model": "tickets", **spec}),
    )


class World:
    """Children in memory: carries out decisions, one after the other, until nothing changes."""

    def __init__(self, of: FineTuneJob) -> None:
        self.job = of
        self.seen = Observed()
        self.now = NOW
        self.writes = 0
        self.phases: list[str] = []
        self.events: list[str] = []

    def step(self) -> Decision:
        decision = decide(self.job, self.seen, self.now)
        if decision.status != self.job.status:
            self.writes += 1
            self.job = self.job.model_copy(update={"status": decision.status})
            self.events += [event.reason for event in decision.events]
        if decision.status.phase and decision.status.phase not in self.phases[-1:]:
            self.phases.append(decision.status.phase)
        self._apply(decision)
        return decision

    def _apply(self, decision: Decision) -> None:
        children = decision.children
        wanted = {plan.key for plan in children.stages}
        ended = [r for r in self.seen.runs if r.state in ("Succeeded", "Failed")]
        kept = [r for r in ended if (r.stage, r.attempt) in children.keep | wanted]
        active = [r for r in self.seen.runs if r not in ended and (r.stage, r.attempt) in wanted]
        known = {(r.stage, r.attempt) for r in (*kept, *active)}
        for plan in children.stages:
            if plan.key not in known:
                key = (plan.spec.stage, plan.spec.attempt)
                active.append(StageRun(*key, "Pending", nodes=plan.nodes, group=plan.group))
        self.seen = replace(self.seen, runs=(*kept, *active))
        if children.claim is not None:
            claim = Claim(children.claim.name, "Bound", (children.claim.access_mode,))
            self.seen = replace(self.seen, workspace=claim)
        if children.version is not None:
            record = ModelVersion(
                metadata=ObjectMeta(name=children.version.name), spec=children.version.spec
            )
            self.seen = replace(self.seen, version=record, versions=(record,))
        if children.endpoint is not None:
            made = ModelEndpoint(
                metadata=ObjectMeta(name=children.endpoint.name), spec=children.endpoint.spec
            )
            self.seen = replace(self.seen, endpoint=made)

    def settle(self, limit: int = 20) -> Decision:
        """Step until a decision changes nothing; fails when it never does."""
        for _ in range(limit):
            before = (self.job, self.seen)
            decision = self.step()
            if (self.job, self.seen) == before:
                return decision
        raise AssertionError("decisions never come to rest")

    def active(self) -> StageRun | None:
        return next((r for r in self.seen.runs if r.state in ("Pending", "Running")), None)

    def replace_active(self, run: StageRun) -> None:
        others = tuple(
            r for r in self.seen.runs if (r.stage, r.attempt) != (run.stage, run.attempt)
        )
        self.seen = replace(self.seen, runs=(*others, run))

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
