"""Calls of tools in an answer: what the model's chat template taught it to write, as OpenAI's tool_calls.

Two forms are read. Hermes and Qwen: <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number of
them, with text around. Llama 3: the whole answer is {"name": ..., "parameters": {...}}, several divided by
semicolons. What is no whole call of a declared tool stays the text that it is.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

Style = Literal["Hermes", "Llama3"]
OPEN = "<tool_call>"
BLOCK = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)
OTHER_MARKS = ("<function=", "<arg_key>")
"""Of templates that write <tool_call> around something else than JSON."""


@dataclass(frozen=True)
class Call:
    """One call as the model wrote it."""

    name: str
    arguments: str
    """A JSON object, as text."""
    id: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    def wire(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


def style_of(template: str) -> Style | None:
    """The form in which a chat template writes calls; None for one that is not read here."""
    if OPEN in template:
        return None if any(mark in template for mark in OTHER_MARKS) else "Hermes"
    return "Llama3" if "ipython" in template and '"parameters": ' in template else None


class CallReader:
    """Tells an answer's text as it comes, and holds back what may be a call until the end."""

    def __init__(self, style: Style, names: Collection[str]) -> None:
        self._style = style
        self._names = names
        self._held = ""
        self._mode: Literal["Unsure", "Call", "Text"] = "Unsure"

    def push(self, text: str) -> str:
        """Text that is no part of a call."""
        self._held += text
        if self._mode == "Unsure":
            begin = self._begin()
        else:
            begin = len(self._held) if self._mode == "Text" else 0
        told, self._held = self._held[:begin], self._held[begin:]
        return told

    def end(self) -> tuple[str, tuple[Call, ...]]:
        """The text that was held back and is no call, and the calls."""
        read = self._blocks if self._style == "Hermes" else self._objects
        found = read() if self._mode == "Call" else None
        if found is None:
            return self._held, ()
        return found

    def _begin(self) -> int:
        """How much of what is held can be no call; finds out what follows."""
        if self._style == "Llama3":
            if start := self._held.lstrip():
                self._mode = "Call" if start[0] == "{" else "Text"
            return len(self._held) if self._mode == "Text" else 0
        if (at := self._held.find(OPEN)) >= 0:
            self._mode = "Call"
            return at
        ends = (n for n in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:n]))
        return len(self._held) - next(ends, 0)

    def _blocks(self) -> tuple[str, tuple[Call, ...]] | None:
        rest = BLOCK.sub("", self._held).strip()
        calls = [self._call(_loaded(block), "arguments") for block in BLOCK.findall(self._held)]
        known = tuple(call for call in calls if call is not None)
        return None if OPEN in rest or len(known) < len(calls) else (rest, known)

    def _objects(self) -> tuple[str, tuple[Call, ...]] | None:
        decoder, text, calls = json.JSONDecoder(), self._held.strip(), []
        while text:
            try:
                value, end = decoder.raw_decode(text)
            except (ValueError, RecursionError):
                return None
            call = self._call(value, "parameters")
            if call is None:
                return None
            calls.append(call)
            text = text[end:].lstrip("; \n")
        return "", tuple(calls)

    def _call(self, value: Any, key: str) -> Call | None:
        """The call that a JSON value is; None for anything else."""
        if not isinstance(value, dict) or value.get("name") not in self._names:
            return None
        arguments = value.get(key, {})
        if not isinstance(arguments, dict):
            return None
        return Call(value["name"], json.dumps(arguments, ensure_ascii=False))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
