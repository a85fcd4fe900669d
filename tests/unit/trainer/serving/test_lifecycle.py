"""Loading, limits under load, draining, and versions that must not be served."""

from __future__ import annotations

import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from unit.trainer.serving.harness import ServerProcess, released

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
ASK = {"model": "words", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


def test_a_drain_under_load_fails_no_request_that_was_accepted(
    tmp_path: Path, classifier_model: Path
) -> None:
    record = released(tmp_path, classifier_model, "TextClassification")
    server = ServerProcess(tmp_path, record, max_concurrency=64).wait_ready()
    codes: list[int] = []
    broken: list[str] = []
    asked_at_signal = threading.Event()

    def load() -> None:
        sent: list[bool] = []

        def trace(event: str, _: object) -> None:
            if event == "http11.send_request_body.complete":
                sent.append(not asked_at_signal.is_set())

        body, told = {"input": "the cat"}, {"trace": trace}
        with httpx.Client(base_url=server.client.base_url, timeout=120) as client:
            while True:
                sent.clear()
                try:
                    code = client.post("/v1/classify", json=body, extensions=told).status_code
                except httpx.TransportError as error:
                    if any(sent):
                        broken.append(type(error).__name__)
                    return
                codes.append(code)
                if code == 503:
                    return

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 120
    while codes.count(200) <= 20:
        assert time.monotonic() < end, codes
        time.sleep(0.05)
    asked_at_signal.set()
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(120)
    assert server.exit_code() == 0, server.log_path.read_text()
    assert broken == []
    assert set(codes) <= {200, 503}


def test_a_long_answer_finishes_while_new_work_is_refused(
    tmp_path: Path, generator_model: Path
) -> None:
    record = released(tmp_path, generator_model, "TextGeneration")
    server = ServerProcess(tmp_path, record, max_concurrency=2).wait_ready()
    lines: list[str] = []
    body = ASK | {"max_tokens": 120, "stream": True}
    with server.client.stream("POST", CHAT, json=body) as response:
        stream = response.iter_lines()
        lines.append(next(stream))
        server.process.send_signal(signal.SIGTERM)
        lines += list(stream)
    assert "data: [DONE]" in lines
    assert server.exit_code() == 0
    server.stop()


def test_more_requests_than_places_get_429_with_retry_after(
    tmp_path: Path, generator_model: Path
) -> None:
    record = released(tmp_path, generator_model, "TextGeneration")
    server = ServerProcess(tmp_path, record, max_concurrency=2).wait_ready()
    try:
        refused: list[httpx.Response] = []
        with ThreadPoolExecutor(12) as pool:
            for _ in range(20):  # a busy machine may let them come one after the other
                answers = list(pool.map(lambda _: _ask(server), range(12)))
                assert {answer.status_code for answer in answers} <= {200, 429}
                if refused := [answer for answer in answers if answer.status_code == 429]:
                    break
        assert refused
        assert all(answer.headers["retry-after"] for answer in refused)
        assert server.metric("oikyo_server_inflight_requests") == 0
        assert _ask(server).status_code == 200
    finally:
        server.stop()


def _ask(server: ServerProcess) -> httpx.Response:
    url = f"http://127.0.0.1:{server.port}{CHAT}"
    return httpx.post(url, json=ASK | {"max_tokens": 100}, timeout=120)


def test_a_changed_weight_ends_the_server_with_64_and_a_sentence(
    tmp_path: Path, classifier_model: Path
) -> None:
    record = released(tmp_path, classifier_model, "TextClassification")
    weights = tmp_path / "versions/words/1/model.safetensors"
    body = bytearray(weights.read_bytes())
    weights.unlink()  # a hard link: the training's file must stay as it is
    body[-1] ^= 1
    weights.write_bytes(body)
    server = ServerProcess(tmp_path, record)
    assert server.exit_code() == 64
    failure = json.loads(server.words_path.read_text())["failure"]
    assert failure["reason"] == "VersionDamaged"
    assert "model.safetensors" in failure["message"]
    server.stop()


def test_a_rejected_version_is_not_served(tmp_path: Path, classifier_model: Path) -> None:
    record = released(tmp_path, classifier_model, "TextClassification", verdict="Rejected")
    server = ServerProcess(tmp_path, record)
    assert server.exit_code() == 64
    assert "did not pass its gates" in server.words_path.read_text()
    server.stop()
