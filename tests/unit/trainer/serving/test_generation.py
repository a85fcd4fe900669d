"""Chat completions and completions of a real server."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from unit.trainer.serving.harness import ServerProcess

ASK = {"model": "words", "messages": [{"role": "user", "content": "the cat is"}], "temperature": 0}
CHAT = "/v1/chat/completions"


def chat(server: ServerProcess, **changes: Any) -> dict[str, Any]:
    response = server.client.post(CHAT, json=ASK | changes)
    assert response.status_code == 200, response.text
    return response.json()


def events(server: ServerProcess, path: str, body: dict[str, Any]) -> list[str]:
    with server.client.stream("POST", path, json=body | {"stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return [line[6:] for line in response.iter_lines() if line.startswith("data: ")]


def test_an_answer_has_openais_form(generator: ServerProcess) -> None:
    answer = chat(generator, max_tokens=5)
    choice = answer["choices"][0]
    assert answer["object"] == "chat.completion"
    assert answer["id"].startswith("chatcmpl-")
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 5
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 5


def test_greedy_tokens_equal_those_of_the_model_itself(
    generator: ServerProcess, generator_model: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(generator_model)
    model = AutoModelForCausalLM.from_pretrained(generator_model).eval()
    prompt = tokenizer("a dog and a plum", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        whole = model.generate(prompt, max_new_tokens=30, do_sample=False)[0, prompt.shape[1] :]
    body = {"model": "words", "prompt": "a dog and a plum", "max_tokens": 30, "temperature": 0}
    answer = generator.client.post("/v1/completions", json=body).json()
    assert answer["choices"][0]["text"] == tokenizer.decode(whole, skip_special_tokens=True)


def test_a_stream_tells_the_same_text_piece_by_piece(generator: ServerProcess) -> None:
    whole = chat(generator, max_tokens=20)
    found = events(generator, CHAT, ASK | {"max_tokens": 20})
    assert found[-1] == "[DONE]"
    chunks = [json.loads(line) for line in found[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_a_stream_ends_with_usage_when_asked(generator: ServerProcess) -> None:
    body = ASK | {"max_tokens": 4, "stream_options": {"include_usage": True}}
    last = json.loads(events(generator, CHAT, body)[-2])
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4


def test_completions_stream_text(generator: ServerProcess) -> None:
    body = {"model": "words", "prompt": "a tiger", "max_tokens": 8, "temperature": 0}
    whole = generator.client.post("/v1/completions", json=body).json()
    chunks = [json.loads(x) for x in events(generator, "/v1/completions", body)[:-1]]
    assert "".join(x["choices"][0]["text"] for x in chunks) == whole["choices"][0]["text"]


def test_a_stop_string_ends_the_answer_before_it(generator: ServerProcess) -> None:
    whole = chat(generator, max_tokens=30)["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    choice = chat(generator, max_tokens=30, stop=[stop])["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == whole[: whole.index(stop)]


def test_a_seed_repeats_a_drawn_answer(generator: ServerProcess) -> None:
    drawn = [
        chat(generator, max_tokens=20, temperature=1.5, top_p=0.9, seed=seed)["choices"][0]
        for seed in (7, 7, 8)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_answers_computed_together_equal_answers_computed_alone(generator: ServerProcess) -> None:
    asks = [[{"role": "user", "content": "word " * n}] for n in range(1, 8)]
    alone = [chat(generator, messages=ask, max_tokens=25)["choices"] for ask in asks]
    with ThreadPoolExecutor(7) as pool:
        together = list(
            pool.map(lambda ask: chat(generator, messages=ask, max_tokens=25)["choices"], asks)
        )
    assert together == alone


def test_a_client_that_leaves_stops_its_computing(generator: ServerProcess) -> None:
    before = generator.metric("oikyo_server_requests_total", route=CHAT, code="499")
    # So small a model may have answered in full before the client is gone: then leave again.
    for _ in range(50):
        leave_amid_an_answer(generator)
        left = generator.metric("oikyo_server_requests_total", route=CHAT, code="499") - before
        if left:
            break
    assert left == 1
    told = generator.metric("oikyo_server_generated_tokens_total")
    time.sleep(0.3)
    assert generator.metric("oikyo_server_generated_tokens_total") == told


def leave_amid_an_answer(generator: ServerProcess) -> None:
    """Read one event, go away, and wait until the server holds no request."""
    body = ASK | {"max_tokens": 90, "stream": True}
    with generator.client.stream("POST", CHAT, json=body) as response:
        next(response.iter_lines())
    end = time.monotonic() + 60
    while generator.metric("oikyo_server_inflight_requests"):
        assert time.monotonic() < end, "the request is still held 60 s after its client left"
        time.sleep(0.02)


def test_metrics_count_tokens_and_requests(generator: ServerProcess) -> None:
    names = ("prompt_tokens_total", "generated_tokens_total")
    before = [generator.metric(f"oikyo_server_{name}") for name in names]
    usage = chat(generator, max_tokens=6)["usage"]
    after = [generator.metric(f"oikyo_server_{name}") for name in names]
    assert after[0] - before[0] == usage["prompt_tokens"]
    assert after[1] - before[1] == usage["completion_tokens"]
    duration = "oikyo_server_request_duration_seconds_count"
    assert generator.metric(duration, route=CHAT) > 0
    assert generator.metric("oikyo_server_ready", model="words", version="1") == 1
    assert generator.metric("oikyo_server_model_info", task="TextGeneration") == 1
    assert generator.metric("oikyo_server_queue_depth") == 0


def test_the_model_is_listed(generator: ServerProcess) -> None:
    (entry,) = generator.client.get("/v1/models").json()["data"]
    assert (entry["id"], entry["object"], entry["version"]) == ("words", "model", 1)
