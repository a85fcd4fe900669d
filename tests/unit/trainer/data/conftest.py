"""Builders of specs, base models and files, and a small hub that the real client talks to."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save_file

from oikyo.api.checks import in_force
from oikyo.api.stages import PrepareResult, PrepareSpec, Source
from oikyo_trainer.context import Context
from oikyo_trainer.data.examine import Examined, examine
from oikyo_trainer.data.findings import FILE, Findings
from oikyo_trainer.data.intake import Intake
from oikyo_trainer.data.prepare import prepare
from oikyo_trainer.progress import Reporter

TOKENIZER = {
    "version": "1.0",
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"},
}
"""A token is a word."""


def make_model(folder: Path, **config: Any) -> Path:
    """The least folder that counts as a base model."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"weight": np.zeros((4, 4), dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


def looked_at(spec: PrepareSpec, folder: Path) -> tuple[Examined, Intake, dict[str, Any]]:
    """The rows that the prepare stage would make a version of, and what it would tell; in `folder`."""
    intake, told = Intake(Findings(in_force(spec.checks))), dict[str, Any]()
    folder.mkdir()
    with intake.findings.written(folder / FILE):
        found = examine(
            spec,
            (spec.sources, spec.test_sources),
            staging=folder,
            intake=intake,
            told=told,
            tell=lambda *_: None,
            model=None,
        )
    return found, intake, told


@dataclass
class Desk:
    """A workspace with a base model beside it, and the way to prepare files in it."""

    root: Path
    model: Path

    @property
    def workspace(self) -> Path:
        return self.root / "workspace"

    def file(self, name: str, body: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
        return path

    def rows(self, name: str, rows: list[dict[str, Any]]) -> Path:
        return self.file(name, "".join(json.dumps(row) + "\n" for row in rows))

    def spec(self, *paths: Path, tests: tuple[Path, ...] = (), **more: Any) -> PrepareSpec:
        given: dict[str, Any] = {
            "run": "job-00000000",
            "task": "TextClassification",
            "model": source(self.model),
            "sources": tuple(source(path) for path in paths),
            "test_sources": tuple(source(path) for path in tests),
            "min_test_rows": 1,
            **more,
        }
        return PrepareSpec(**given)

    def context(self) -> Context:
        self.workspace.mkdir(exist_ok=True)
        return Context(self.workspace, Reporter("prepare", 1, "job-00000000"))

    def prepare(self, *paths: Path, **more: Any) -> PrepareResult:
        return prepare(self.spec(*paths, **more), self.context())


def source(path: Path) -> Source:
    return Source(uri=path.as_uri(), path=str(path))


@pytest.fixture
def desk(tmp_path: Path, model: Path) -> Desk:
    return Desk(tmp_path, model)


@pytest.fixture
def a_desk(tmp_path: Path) -> Callable[[str], Desk]:
    """Several desks in one test."""
    return lambda name: Desk(tmp_path / name, make_model(tmp_path / name / "model"))


@dataclass
class Hub:
    """What the small hub serves, and what it was asked."""

    url: str = ""
    commit: str = "a" * 40
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """`models/org/name` or `datasets/org/name` -> files."""
    fault: int = 0
    """HTTP status that every answer has; 0: none."""
    asked: list[str] = field(default_factory=list)

    def add(self, repository: str, folder: Path) -> None:
        self.repositories[repository] = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }


class _HubHandler(BaseHTTPRequestHandler):
    """The part of the hub's API that a snapshot download uses."""

    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(f"{self.command} /{path}")
        if self.hub.fault:
            self._answer(self.hub.fault, b"", {})
        elif path.startswith("api/"):
            self._api(path.removeprefix("api/").split("/"))
        else:
            self._file(path)

    def _api(self, parts: list[str]) -> None:
        name, (verb, revision) = "/".join(parts[:3]), parts[3:5]
        files = self.hub.repositories.get(name)
        if files is None:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", self.hub.commit):
            self._answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif verb == "revision":
            siblings = [{"rfilename": file} for file in files]
            info = {"id": "/".join(parts[1:3]), "sha": self.hub.commit, "siblings": siblings}
            self._json(info)
        else:
            self._json([_entry(file, body) for file, body in files.items()])

    def _file(self, path: str) -> None:
        name, _, rest = path.partition("/resolve/")
        kind = name if name.startswith("datasets/") else f"models/{name}"
        body = self.hub.repositories[kind][rest.partition("/")[2]]
        tag = hashlib.sha1(body).hexdigest()
        self._answer(200, body, {"ETag": f'"{tag}"', "X-Repo-Commit": self.hub.commit})

    def _json(self, value: Any) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _entry(file: str, body: bytes) -> dict[str, Any]:
    return {
        "type": "file",
        "path": file,
        "size": len(body),
        "oid": hashlib.sha1(body).hexdigest(),
    }


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    handler = type("Handler", (_HubHandler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()
