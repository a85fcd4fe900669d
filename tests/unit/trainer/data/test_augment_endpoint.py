"""data.augment.endpoint: against the project's own server, and against one that fails in every way."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from oikyo.api.augment import Augment, Endpoint
from oikyo_trainer.data.augment import endpoint as client
from oikyo_trainer.errors import Refused, Retry
from unit.trainer.evaluation.tiny import save_causal
from unit.trainer.serving.harness import ServerProcess, released

TOKEN = "sk-only-a-test-token-0123456789"


def rows(count: int = 60) -> list[dict[str, str]]:
    return [{"text": f"where is my parcel {i}", "label": f"topic {i % 3}"} for i in range(count)]


def augment(url: str, **more: Any) -> Augment:
    given = {"url": url, "model": "words", "timeout_seconds": 60, "max_tokens": 16, **more}
    return Augment(endpoint=Endpoint.model_validate(given))


def made(desk: Any, result: Any) -> list[dict[str, Any]]:
    folder = desk.workspace / "datasets" / result.dataset_digest.removeprefix("sha256:")
    trained = pq.read_table(folder / "train.parquet").to_pylist()
    return [row for row in trained if row["synthetic"]]


def dropped(desk: Any, result: Any) -> dict[str, int]:
    folder = desk.workspace / "datasets" / result.dataset_digest.removeprefix("sha256:")
    found: dict[str, int] = json.loads((folder / "report.json").read_text())["augment"]["dropped"]
    return found


# ------------------------------------------------------------------ the project's own server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    model, workspace = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("workspace")
    save_causal(model, seed=3, chat=True, bias=0.7)  # some answers end by themselves
    record = released(workspace, model, "TextGeneration")
    server = ServerProcess(workspace, record, max_new_tokens=100)
    yield server.wait_ready()
    server.stop()


def test_the_projects_own_server_makes_rows_and_a_retry_asks_nothing(
    desk: Any, served: ServerProcess
) -> None:
    how = augment(
        f"http://127.0.0.1:{served.port}/v1", max_tokens=60, temperature="1", prompt="{text}"
    )
    path = desk.rows("rows.jsonl", rows())
    first = desk.prepare(path, augment=how)
    asked = served.metric("oikyo_server_requests_total", route="/v1/chat/completions")
    # An untrained model often speaks until it is cut off: such answers are dropped and counted.
    assert first.synthetic > 0
    assert sum(dropped(desk, first).values()) == first.train - 2 * first.synthetic
    assert asked >= first.train - first.synthetic
    again = desk.prepare(path, run="job-1", attempt=1, augment=how)
    assert again.dataset_digest == first.dataset_digest
    assert served.metric("oikyo_server_requests_total", route="/v1/chat/completions") == asked


def test_back_translation_asks_twice(desk: Any, fake: Fake) -> None:
    how = augment(fake.url, through=["German"])
    result = desk.prepare(desk.rows("rows.jsonl", rows()), augment=how)
    said = [body["messages"][0]["content"] for body in fake.bodies]
    there = [
        text for text in said if text.startswith("Translate the text between the lines into G")
    ]
    back = [text for text in said if text.startswith("Translate the text between the lines into E")]
    assert len(there) == len(back) == result.train - result.synthetic
    assert all("in other words" in text for text in back)


# ------------------------------------------------------------------ a server that fails


@dataclass
class Fake:
    """Answers like OpenAI's API, after the faults that it was told to have."""

    url: str = ""
    answer: Callable[[str], Any] = lambda text: f"{text} in other words"
    faults: list[Callable[[Any], None]] = field(default_factory=list)
    """One for each of the first requests."""
    every: Callable[[Any], None] | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    most: int = 0
    """Requests at once."""
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    fake: Fake
    lock = threading.Lock()
    now = 0

    def do_POST(self) -> None:
        kind = type(self)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with kind.lock:
            kind.now += 1
            self.fake.most = max(self.fake.most, kind.now)
            self.fake.bodies.append(body)
            self.fake.tokens.add(self.headers.get("Authorization", ""))
            fault = self.fake.faults.pop(0) if self.fake.faults else self.fake.every
        try:
            if fault is not None:
                fault(self)
            else:
                time.sleep(0.01)
                self.say(self.fake.answer(body["messages"][0]["content"]))
        finally:
            with kind.lock:
                kind.now -= 1

    def say(self, content: Any, finish: str = "stop", **message: Any) -> None:
        choice = {"message": {"role": "assistant", "content": content, **message}}
        self.reply(200, json.dumps({"choices": [{**choice, "finish_reason": finish}]}))

    def reply(self, status: int, body: str, **headers: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)
    fake = Fake()
    handler = type("Handler", (_Handler,), {"fake": fake, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield fake
    fake.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def garbage(handler: Any) -> None:
    handler.reply(200, "<html>gateway</html>")


def hang(handler: Any) -> None:
    """It never answers."""
    handler.fake.over.wait()


def test_what_passes_is_tried_again(desk: Any, fake: Fake) -> None:
    fake.faults = [
        lambda handler: handler.reply(429, "{}", Retry_After="0"),
        lambda handler: handler.reply(500, "oops"),
        lambda handler: handler.reply(503, ""),
        garbage,
        lambda handler: handler.connection.close(),
    ]
    result = desk.prepare(desk.rows("rows.jsonl", rows()), augment=augment(fake.url))
    assert result.synthetic == result.train - result.synthetic
    assert len(fake.bodies) == result.synthetic + 5
    assert 1 < fake.most <= 4


def test_a_request_that_hangs_is_made_again(desk: Any, fake: Fake) -> None:
    fake.faults = [hang]
    how = augment(fake.url, timeout_seconds=1)
    result = desk.prepare(desk.rows("rows.jsonl", rows()), augment=how)
    assert result.synthetic == result.train - result.synthetic
    # A busy machine may hold up another request for a second too, which is then made again as well.
    assert len(fake.bodies) > result.synthetic
    assert fake.bodies[0] in fake.bodies[1:]


def test_a_retry_of_the_stage_keeps_the_answers_it_has(desk: Any, fake: Fake) -> None:
    path = desk.rows("rows.jsonl", rows())
    how = augment(fake.url, concurrency=1)
    fake.faults = [lambda handler: handler.say(f"other words {len(fake.bodies)}")] * 20
    fake.every = lambda handler: handler.reply(500, "down")
    with pytest.raises(Retry, match="does not answer") as failed:
        desk.prepare(path, augment=how)
    assert "HTTP 500: down" in failed.value.evidence
    fake.every = None
    before = len(fake.bodies)
    result = desk.prepare(path, attempt=2, augment=how)
    asked = len(fake.bodies) - before
    assert asked == result.train - result.synthetic - 20
    (cache,) = (desk.workspace / "augment").iterdir()
    with cache.open("a") as file:
        file.write('{"key": "cut')  # as a kill leaves it
    again = desk.prepare(path, run="job-1", augment=how)
    assert again.dataset_digest == result.dataset_digest
    assert len(fake.bodies) == before + asked


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda text: "", "empty-answer"),
        (lambda text: None, "empty-answer"),
        (lambda text: "I'm sorry, but I can't help with that.", "refused-answer"),
        (lambda text: text.upper().lower(), "identical"),
        (lambda text: text + " call 212-555-0142 or mail jane.roe@example.com", "personal-data"),
        (lambda text: "word " * 200, "rambling-answer"),
    ],
)
def test_an_answer_that_is_no_row_is_dropped_and_counted(
    desk: Any, fake: Fake, answer: Callable[[str], Any], reason: str
) -> None:
    fake.answer = answer
    data = desk.rows("rows.jsonl", rows())
    result = desk.prepare(data, augment=augment(fake.url, prompt="{text}"))
    assert result.synthetic == 0
    assert dropped(desk, result) == {reason: result.train}


def test_an_answer_that_was_cut_off_or_filtered_is_dropped(desk: Any, fake: Fake) -> None:
    fake.faults = [
        lambda handler: handler.say("half a sen", finish="length"),
        lambda handler: handler.say("bad", finish="content_filter"),
        lambda handler: handler.say(None, refusal="no"),
        lambda handler: handler.reply(400, '{"error": "context length"}'),
    ]
    result = desk.prepare(desk.rows("rows.jsonl", rows()), augment=augment(fake.url))
    assert dropped(desk, result) == {"refused-answer": 3, "truncated-answer": 1}


@pytest.mark.parametrize(
    ("every", "sentence", "step"),
    [
        (lambda h: h.reply(401, f"bad token {TOKEN}"), "HTTP 401", "token"),
        (lambda h: h.reply(404, "no such model"), "HTTP 404", "url and model"),
        (
            lambda h: h.reply(400, '{"error": "model words is unknown"}'),
            "HTTP 400",
            "url and model",
        ),
        (lambda h: h.reply(301, "", Location="/v2"), "HTTP 301", "url and model"),
        (garbage, "no chat completion", "before /chat/completions"),
    ],
)
def test_what_a_person_must_change_is_refused_without_the_token(
    desk: Any, fake: Fake, tmp_path: Path, every: Any, sentence: str, step: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    fake.every = every
    secret = tmp_path / "secrets/paraphraser"
    secret.mkdir(parents=True)
    (secret / "token").write_text(TOKEN + "\n")
    with pytest.raises(Refused, match=sentence) as refused:
        desk.prepare(
            desk.rows("rows.jsonl", rows(30)), augment=augment(fake.url), augment_secret=str(secret)
        )
    assert step in refused.value.next_step
    assert fake.tokens == {f"Bearer {TOKEN}"}
    error = refused.value
    assert TOKEN not in f"{error.message}{error.evidence}{error.next_step}{caplog.text}"
    assert TOKEN not in "".join(p.read_text() for p in (desk.workspace / "augment").iterdir())


def test_requests_stop_at_the_budget(desk: Any, fake: Fake) -> None:
    how = augment(fake.url, max_requests=10)
    result = desk.prepare(desk.rows("rows.jsonl", rows()), augment=how)
    assert (len(fake.bodies), result.synthetic) == (10, 10)
    assert dropped(desk, result) == {"over-budget": result.train - 20}


def test_a_secret_without_a_token_is_refused(desk: Any, fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="has no key token"):
        desk.prepare(
            desk.rows("rows.jsonl", rows(30)),
            augment=augment(fake.url),
            augment_secret=str(tmp_path / "empty"),
        )
