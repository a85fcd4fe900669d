"""What a client may ask, typed at the door. A field that would have no effect is refused, not ignored.

Fields of OpenAI's API that this server does not carry out are known here, with the one value that
means "off", so that clients which always send them still work.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..data import tools
from ..data.findings import RowFault
from ..evaluation.rendering import Chat, chat_of
from .errors import ApiError

Stops = Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)]


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class StreamOptions(Body):
    include_usage: bool = False


class Sampling(Body):
    """What chat completions and completions share."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: Stops | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:  # what the client sent, before it has a type
        return [value] if isinstance(value, str) else value

    @field_validator("n")
    @classmethod
    def _one_answer(cls, value: int | None) -> int | None:
        if value not in (None, 1):
            raise ValueError("this server gives one answer to a request: leave n out or write 1")
        return value

    @field_validator("frequency_penalty", "presence_penalty", "logit_bias")
    @classmethod
    def _off(cls, value: float | dict[str, float] | None) -> float | dict[str, float] | None:
        if value:
            raise ValueError("this server does not carry it out: leave it out")
        return value

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def most_tokens(self) -> int | None:
        return self.max_tokens


class TextPart(Body):
    type: Literal["text"]
    text: str


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: Annotated[str, Field(max_length=64)] | None = None
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=256)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing; only a turn that calls tools may leave it out")
        return self

    def plain(self) -> dict[str, Any]:
        """{role, content} as chat templates take it, and what belongs to tools."""
        parts = self.content or ""
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        role = "system" if self.role == "developer" else self.role
        told: dict[str, Any] = {"role": role, "content": text}
        if self.tool_calls:
            told["tool_calls"] = self.tool_calls
        if self.role == "tool":
            named = {"tool_call_id": self.tool_call_id, "name": self.name}
            told |= {key: value for key, value in named.items() if value is not None}
        return told


class ResponseFormat(Body):
    type: Literal["text"]


class ChatRequest(Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=4096)]
    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    response_format: ResponseFormat | None = None
    logprobs: Literal[False] | None = None

    @property
    def most_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @field_validator("tool_choice")
    @classmethod
    def _free(cls, value: str | dict[str, Any] | None) -> str | dict[str, Any] | None:
        if value not in (None, "auto", "none"):
            raise ValueError(
                "this server cannot make the model call a tool: leave it out, or write auto, or none"
            )
        return value

    @field_validator("parallel_tool_calls")
    @classmethod
    def _any_number(cls, value: bool | None) -> bool | None:
        if value is False:
            raise ValueError("this server cannot hold the model to one call: leave it out")
        return value

    @property
    def may_call(self) -> bool:
        """Whether calls in the answer are to be told as tool_calls."""
        return bool(self.tools) and self.tool_choice != "none"

    def chat(self) -> Chat:
        """What the model's template renders; ApiError for tools or calls that are broken."""
        messages = [message.plain() for message in self.messages]
        calling = any("tool_calls" in turn or turn["role"] == "tool" for turn in messages)
        if not calling and not self.tools:
            return Chat(messages)
        try:
            declared = tools.definitions(self.tools, "tools")
            for place, turn in enumerate(messages):
                if called := tools.calls(turn, f"messages[{place}]"):
                    turn["tool_calls"] = called
            tools.check(cast(list[tools.Turn], messages), declared, "messages")
        except RowFault as fault:
            raise ApiError(400, str(fault), param="messages") from None
        return chat_of({"messages": messages, "tools": declared})


class CompletionRequest(Sampling):
    """POST /v1/completions."""

    prompt: str
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    logprobs: None = None
    suffix: None = None

    @field_validator("prompt", mode="before")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:  # what the client sent, before it has a type
        if isinstance(value, list):
            if len(value) == 1 and isinstance(value[0], str):
                return value[0]
            raise ValueError("this server takes one prompt, as text")
        return value


class TextsRequest(Body):
    """POST /v1/regress."""

    input: Annotated[list[str], Field(min_length=1, max_length=256)]
    model: Annotated[str, Field(min_length=1, max_length=256)] | None = None

    @field_validator("input", mode="before")
    @classmethod
    def _one_text(cls, value: Any) -> Any:  # what the client sent, before it has a type
        return [value] if isinstance(value, str) else value


class ClassifyRequest(TextsRequest):
    """POST /v1/classify."""

    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = None


def parse_json(raw: bytes) -> object:
    """The JSON of a body; refuses NaN, lone surrogates and nesting that no request needs."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None
    except UnicodeEncodeError:
        raise ApiError(400, "the body holds half of a surrogate pair, which is no text") from None
    except UnicodeDecodeError as error:
        raise ApiError(400, f"the body is not UTF-8 at byte {error.start}") from None
    except ValueError as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ApiError(400, f"the body is not valid JSON{where}") from None
    if not isinstance(value, dict):
        raise ApiError(400, "the body must be a JSON object")
    return value


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")
