"""Which specs count as the same work."""

from __future__ import annotations

from oikyo.api.evaluation import EvaluationSpec
from oikyo.api.stages import EvaluateSpec
from oikyo.api.training import TrainingSpec

DIGEST = "sha256:" + "0" * 64
SPEC = EvaluateSpec(
    run="intents-00000000",
    attempt=1,
    task="TextClassification",
    job="intents",
    job_uid="00000000-0000-0000-0000-000000000000",
    dataset_digest=DIGEST,
    model_digest=DIGEST,
    base_uri="pvc://models/base",
    model_name="intents",
    training=TrainingSpec(),
    evaluation=EvaluationSpec(),
)


def test_a_later_attempt_finds_the_result_of_the_first_though_versions_appeared() -> None:
    later = SPEC.model_copy(update={"attempt": 2, "min_version": 7})
    assert later.input_digest() == SPEC.input_digest()


def test_other_data_is_other_work() -> None:
    other = SPEC.model_copy(update={"dataset_digest": "sha256:" + "1" * 64})
    assert other.input_digest() != SPEC.input_digest()
