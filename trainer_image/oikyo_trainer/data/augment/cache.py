"""Answers of a language model, kept in the workspace by what was asked: a retry asks nothing twice.

One line of JSON for each, appended and flushed as it comes, so that a kill loses what was under way alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "augment"


class Answer(NamedTuple):
    """A text, or why there is none."""

    text: str
    fault: str = ""
    """Code of what is counted; empty: a good answer."""


class Cache:
    """The answers of one endpoint and model."""

    def __init__(self, workspace: Path, url: str, model: str) -> None:
        name = sha256(f"{url}\0{model}".encode()).hexdigest()[:16]
        self._path = workspace / FOLDER / f"{name}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._answers = dict(self._read())
        self._file = self._path.open("a", encoding="utf-8")

    def _read(self) -> list[tuple[str, Answer]]:
        if not self._path.is_file():
            return []
        found = []
        with self._path.open("rb") as file:
            for line in file:
                try:
                    value = json.loads(line)
                    found.append((str(value["key"]), Answer(value["text"], value["fault"])))
                except (ValueError, KeyError, TypeError):
                    continue  # the line that a kill cut off
        return found

    def get(self, body: Mapping[str, Any]) -> Answer | None:
        return self._answers.get(_key(body))

    def put(self, body: Mapping[str, Any], answer: Answer) -> None:
        key = _key(body)
        self._answers[key] = answer
        line = json.dumps({"key": key, **answer._asdict()}, ensure_ascii=False)
        # A newline in front: what a kill left of the last line must not spoil this one.
        self._file.write(f"\n{line}\n")
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def _key(body: Mapping[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
