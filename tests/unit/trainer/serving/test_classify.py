"""POST /v1/classify of a real server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from unit.trainer.evaluation.tiny import classification_rows
from unit.trainer.serving.harness import ServerProcess


def classify(server: ServerProcess, **body: Any) -> dict[str, Any]:
    response = server.client.post("/v1/classify", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_text_gets_its_label_and_all_scores(classifier: ServerProcess) -> None:
    answer = classify(classifier, input="the tiger")
    assert (answer["model"], answer["version"]) == ("words", 1)
    (entry,) = answer["data"]
    assert entry["label"] == "animal"
    assert entry["scores"][0] == {"label": "animal", "score": entry["score"]}
    assert sum(score["score"] for score in entry["scores"]) == pytest.approx(1, abs=1e-5)


def test_texts_are_answered_in_order_and_top_k_shortens(classifier: ServerProcess) -> None:
    answer = classify(classifier, input=["the saw", "the pear"], top_k=1)
    assert [entry["label"] for entry in answer["data"]] == ["tool", "fruit"]
    assert [len(entry["scores"]) for entry in answer["data"]] == [1, 1]


def test_answers_of_one_batch_equal_answers_alone(classifier: ServerProcess) -> None:
    texts = [row["text"] for row in classification_rows("test")]
    alone = [classify(classifier, input=text)["data"][0] for text in texts]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda text: classify(classifier, input=text)["data"][0], texts))
    for one, other in zip(alone, together, strict=True):
        assert one["label"] == other["label"]
        assert one["score"] == pytest.approx(other["score"], abs=2e-6)


def test_a_long_text_is_cut_where_training_cut(classifier: ServerProcess) -> None:
    before = classifier.metric("oikyo_server_prompt_tokens_total")
    classify(classifier, input="cat " * 2000)
    assert classifier.metric("oikyo_server_prompt_tokens_total") == before + 64
