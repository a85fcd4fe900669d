"""POST /v1/regress of a real server."""

from __future__ import annotations

from typing import Any

import pytest

from unit.trainer.evaluation.tiny import WORDS
from unit.trainer.serving.conftest import MEAN, STD
from unit.trainer.serving.harness import ServerProcess


def asked(server: ServerProcess, **body: Any) -> dict[str, Any]:
    response = server.client.post("/v1/regress", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_text_gets_a_number_in_the_units_of_the_data(regressor: ServerProcess) -> None:
    answer = asked(regressor, input="the tiger")
    assert (answer["model"], answer["version"]) == ("words", 1)
    (entry,) = answer["data"]
    assert entry.keys() == {"index", "value"}
    assert abs(entry["value"] - MEAN) < 10 * STD


def test_texts_are_answered_in_order_and_alone_as_together(regressor: ServerProcess) -> None:
    texts = [f"one {word} and more of the same"[: 10 + 4 * n] for n, word in enumerate(WORDS)]
    together = asked(regressor, input=texts)["data"]
    assert [entry["index"] for entry in together] == [0, 1, 2]
    for text, entry in zip(texts, together, strict=True):
        (alone,) = asked(regressor, input=[text])["data"]
        assert alone["value"] == pytest.approx(entry["value"], abs=1e-4 * STD)


@pytest.mark.parametrize(
    ("body", "code"), [({}, 400), ({"input": []}, 400), ({"input": "a", "top_k": 1}, 400)]
)
def test_a_bad_request_is_refused(
    regressor: ServerProcess, body: dict[str, Any], code: int
) -> None:
    assert regressor.client.post("/v1/regress", json=body).status_code == code


def test_each_kind_of_model_names_its_own_route(
    regressor: ServerProcess, classifier: ServerProcess
) -> None:
    for server, path, own in (
        (regressor, "/v1/classify", "says numbers: POST /v1/regress"),
        (classifier, "/v1/regress", "classifies text: POST /v1/classify"),
    ):
        response = server.client.post(path, json={"input": "x"})
        assert response.status_code == 404
        assert own in response.json()["error"]["message"]
    assert regressor.metric("oikyo_server_requests_total", route="/v1/regress", code="200") >= 1
