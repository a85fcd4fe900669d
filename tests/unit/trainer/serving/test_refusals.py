"""Every bad request gets a 4xx in OpenAI's form, and the server goes on."""

from __future__ import annotations

from typing import Any

import pytest

from unit.trainer.serving.harness import ServerProcess

GOOD: dict[str, Any] = {"model": "words", "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"


def asked(**changes: Any) -> dict[str, Any]:
    return GOOD | changes


def said(role: str, content: Any) -> dict[str, Any]:
    return GOOD | {"messages": [{"role": role, "content": content}]}


BAD_FIELDS = {
    "an unknown field": (asked(tempratur=1), 400, "tempratur"),
    "no messages": ({"model": "words"}, 400, "messages"),
    "an empty list of messages": (asked(messages=[]), 400, "messages"),
    "an unknown role": (said("wizard", "hi"), 400, "messages.0.role"),
    "a content that is no text": (said("user", 5), 400, "messages.0.content"),
    "more than one answer": (asked(n=2), 400, "n"),
    "a penalty that has no effect": (asked(presence_penalty=0.5), 400, "presence_penalty"),
    "a temperature out of range": (asked(temperature=9), 400, "temperature"),
    "a temperature as text": (asked(temperature="1"), 400, "temperature"),
    "a top_p of zero": (asked(top_p=0), 400, "top_p"),
    "no tokens": (asked(max_tokens=0), 400, "max_tokens"),
    "more tokens than the server gives": (asked(max_tokens=101), 400, "max_tokens"),
    "an empty stop string": (asked(stop=""), 400, "stop.0"),
    "another model": (asked(model="other"), 404, "words"),
    "a template of the client's": (asked(chat_template="{{ 1 }}"), 400, "template"),
    "a prompt longer than the context": (said("user", "cat " * 200), 400, "context"),
}


@pytest.mark.parametrize(("body", "code", "word"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_is_named(
    generator: ServerProcess, body: dict[str, Any], code: int, word: str
) -> None:
    response = generator.client.post(CHAT, json=body)
    assert response.status_code == code, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert word in f"{error['param']} {error['message']}"


BAD_BODIES = {
    "not JSON": (b"{", 400),
    "no bytes": (b"", 400),
    "a list": (b"[]", 400),
    "not UTF-8": (b'{"model": "\xff"}', 400),
    "NaN": (b'{"model": "words", "temperature": NaN}', 400),
    "a number beyond all": (b'{"model": "words", "temperature": 1e999}', 400),
    "a number of five thousand digits": (b'{"n": ' + b"9" * 5000 + b"}", 400),
    "a lone surrogate": (b'{"model": "words", "messages": [{"role": "\\ud800"}]}', 400),
    "deep nesting": (b'{"a":' * 3000 + b"1" + b"}" * 3000, 400),
    "deep lists": (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", 400),
    "too many bytes": (b'{"model": "' + b"x" * 30_000 + b'"}', 413),
}


@pytest.mark.parametrize(("raw", "code"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_bad_body_is_refused(generator: ServerProcess, raw: bytes, code: int) -> None:
    for path in (CHAT, "/v1/completions"):
        headers = {"Content-Type": "application/json"}
        response = generator.client.post(path, content=raw, headers=headers)
        assert response.status_code == code, response.text
        assert response.json()["error"]["message"]


def test_a_body_without_length_is_limited_too(generator: ServerProcess) -> None:
    def chunks() -> Any:
        for _ in range(30):
            yield b" " * 1000

    headers = {"Content-Type": "application/json"}
    assert generator.client.post(CHAT, content=chunks(), headers=headers).status_code == 413


def test_another_content_type_is_refused(generator: ServerProcess) -> None:
    response = generator.client.post(CHAT, content=b"{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/classify", 404),
    ],
)
def test_an_unknown_way_in_gets_an_answer(
    generator: ServerProcess, method: str, path: str, code: int
) -> None:
    response = generator.client.request(method, path, json={"input": "x"})
    assert response.status_code == code
    assert response.json()["error"]["message"]


def test_a_classifier_sends_chats_elsewhere(classifier: ServerProcess) -> None:
    response = classifier.client.post(CHAT, json=GOOD)
    assert response.status_code == 404
    assert "/v1/classify" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [{}, {"input": []}, {"input": 1}, {"input": ["a", 2]}, {"input": "a", "top_k": 0}],
    ids=["no input", "no texts", "a number", "a number among texts", "a top_k of 0"],
)
def test_a_bad_classification_is_refused(classifier: ServerProcess, body: dict[str, Any]) -> None:
    assert classifier.client.post("/v1/classify", json=body).status_code == 400


def test_unknown_paths_make_one_series(generator: ServerProcess) -> None:
    before = generator.metric("oikyo_server_requests_total", route="other")
    for number in range(5):
        generator.client.get(f"/nowhere/{number}")
    assert generator.metric("oikyo_server_requests_total", route="other") == before + 5
    assert "nowhere" not in generator.client.get("/metrics").text


def test_prompts_are_never_logged(generator: ServerProcess) -> None:
    secret = "xyzzy-secret"
    generator.client.post(CHAT, json=said("user", secret) | {"max_tokens": 3})
    generator.client.post(CHAT, json=asked(max_tokens=3, stop=secret, n=secret))
    assert secret not in generator.log_path.read_text()
