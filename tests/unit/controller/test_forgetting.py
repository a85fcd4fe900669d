"""General rows through the controller: their files are mounted, the verdict names the levers and what is next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from oikyo.api.jobstatus import GateResult
from oikyo.api.stages import GeneralRows, LastWords
from oikyo.api.training import TrainingSpec
from oikyo.controller.conditions import find
from oikyo.controller.decide import decide
from oikyo.controller.observed import StageRun
from oikyo.controller.policies import forgetting
from oikyo.controller.resolve import claims_of, prepare_spec, secrets_of, train_spec
from scenes import DIGEST, NOW, done, job, result, seen, version

GENERAL = {"sources": [{"uri": "pvc://knowledge/texts.jsonl"}], "replay": "0.05"}
SAID = "general loss 2.5, base 2.1 (+0.4, at most +0.1) on 90 held-out general rows; replay 0.05"


def a_job(**training: Any) -> Any:
    return job(task="TextGeneration", training={"general": GENERAL, **training})


def judged(*, passed: bool) -> StageRun:
    gate = GateResult(
        metric="general_loss",
        rule="at most 0.1 above base",
        value="2.5",
        threshold="2.2",
        baseline="2.1",
        passed=passed,
    )
    told = result("evaluate").model_copy(
        update={"accepted": passed, "gates": (gate,), "forgetting": SAID}
    )
    return replace(done("evaluate"), words=LastWords(stage="evaluate", attempt=1, result=told))


def test_the_files_of_general_rows_are_mounted_and_found() -> None:
    made = a_job()
    assert claims_of(made.spec) == ("models", "datasets", "knowledge")
    (source,) = prepare_spec(made, seen().mounts, 1).general
    assert source.path == "/mnt/claims/knowledge/texts.jsonl"
    bucket = {"sources": [{"uri": "s3://know/all.jsonl", "secretName": "reader"}]}
    assert secrets_of(a_job(general=bucket).spec) == ("reader",)


def test_what_prepare_made_of_them_is_handed_on() -> None:
    rows = GeneralRows(dataset_digest=DIGEST, tokens_digest=DIGEST)
    data = result("prepare").model_copy(update={"general": rows})
    assert train_spec(a_job(), data, 1).general == rows  # type: ignore[arg-type]


def test_a_result_that_forgot_is_rejected_with_the_levers_and_the_next_ones() -> None:
    runs = (done("prepare"), done("train"), judged(passed=False))
    record = decide(a_job(), seen(*runs), NOW).children.version
    assert record is not None
    assert record.spec.forgetting == SAID
    rejected = version(accepted=False).model_copy(update={"spec": record.spec})
    pods_gone = seen(version=rejected)
    for world in (seen(*runs, version=rejected), pods_gone):
        status = decide(a_job(), world, NOW).status
        assert status.diagnosis is not None
        assert status.diagnosis.cause.endswith(SAID)
        assert "general_loss 2.5, needed at most 0.1 above base (2.2)" in status.diagnosis.cause
        assert 'training.general.replay: "0.1"' in status.diagnosis.next_step


def test_an_accepted_result_says_what_it_kept() -> None:
    runs = (done("prepare"), done("train"), judged(passed=True))
    evaluated = find(decide(a_job(), seen(*runs), NOW).status.conditions, "Evaluated")
    assert evaluated is not None
    assert evaluated.message.endswith(SAID)


@pytest.mark.parametrize(
    ("training", "says", "not_said"),
    [
        ({"method": "Full"}, "method: LoRA", "training.merge"),
        ({"merge": False}, "interpolation: Auto with training.merge: true", "method: LoRA"),
        ({"general": {**GENERAL, "interpolation": "Auto"}}, 'replay: "0.1"', "interpolation"),
        ({"method": "LoRA"}, 'replay: "0.1"', "method: LoRA"),
        ({"general": {**GENERAL, "replay": "0.3"}}, "learningRate half as high", "replay:"),
    ],
)
def test_a_lever_that_was_pulled_is_not_named_again(
    training: dict[str, Any], says: str, not_said: str
) -> None:
    step = forgetting.next_step(TrainingSpec.model_validate({"general": GENERAL, **training}))
    assert says in step
    assert not_said not in step
