"""Tools in chats: what is declared, who calls it with what, and which answer belongs to which call.

Read from OpenAI's form (tools, tool_calls, tool_call_id; function_call of old), from ShareGPT's
function_call turns, and from the JSON text that Parquet files hold instead. Kept as JSON text in OpenAI's
form: arguments are of any type, and a column of Arrow is of one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict, cast

from .findings import RowFault, excerpt

MOST = 1024
"""Tools of a chat, and calls of a turn."""


class Turn(TypedDict):
    role: str
    content: str
    name: NotRequired[str]
    tool_calls: NotRequired[str]
    """JSON: a list of {id, type, function: {name, arguments}} with an object of arguments."""
    tool_call_id: NotRequired[str]


def definitions(value: Any, column: str) -> str | None:
    """The declared tools as JSON in OpenAI's form; None: none. RowFault for what declares none."""
    value = _loaded(value, column, "tool-definition", "a list of tools")
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) > MOST:
        raise RowFault("tool-definition", f"{column!r} is no list of tools")
    return _text([_definition(item, f"{column}[{n}]") for n, item in enumerate(value)])


def _definition(item: Any, place: str) -> dict[str, Any]:
    function = item.get("function", item) if isinstance(item, dict) else None
    if not isinstance(function, dict) or not _is_name(function.get("name")):
        raise RowFault("tool-definition", f"{place} has no name; write {{name, parameters}}")
    parameters = _loaded(
        function.get("parameters"), f"{place}.parameters", "tool-definition", "an object"
    )
    if parameters is not None and not isinstance(parameters, dict):
        raise RowFault("tool-definition", f"{place}.parameters is no object: write a JSON schema")
    declared = _filled(function)
    if parameters is not None:
        declared["parameters"] = _filled(parameters)
    return {"type": "function", "function": declared}


def calls(item: dict[str, Any], place: str) -> str | None:
    """The calls of a turn as JSON; None: it calls nothing. RowFault for a broken call."""
    given = _loaded(item.get("tool_calls"), f"{place}.tool_calls", "tool-arguments", "a list")
    if not given and item.get("function_call"):
        given = [{"function": item["function_call"]}]
    if not given:
        return None
    if not isinstance(given, list) or len(given) > MOST:
        raise RowFault("tool-arguments", f"{place}.tool_calls is no list of calls")
    return _text([_call(one, f"{place}.tool_calls[{n}]") for n, one in enumerate(given)])


def spoken_call(text: Any, place: str) -> str:
    """The call that ShareGPT's function_call turn holds as its text, as JSON."""
    value = _loaded(text, place, "tool-arguments", "{name, arguments}")
    return _text([_call({"function": value}, place)])


def _call(call: Any, place: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not _is_name(function.get("name")):
        raise RowFault("tool-arguments", f"{place} names no function; write {{name, arguments}}")
    arguments = _loaded(
        function.get("arguments"), f"{place}.arguments", "tool-arguments", "an object"
    )
    if arguments is not None and not isinstance(arguments, dict):
        raise RowFault(
            "tool-arguments", f"{place}.arguments is no JSON object: write {{}} for none"
        )
    made: dict[str, Any] = {"type": "function"}
    if isinstance(call.get("id"), str) and call["id"]:
        made = {"id": call["id"], **made}
    return {**made, "function": {"name": function["name"], "arguments": _filled(arguments or {})}}


def answers(item: dict[str, Any]) -> Turn:
    """Of which call, and of which tool, a turn has the answer."""
    found = {key: item[key] for key in ("tool_call_id", "name") if _is_name(item.get(key))}
    return cast(Turn, found)


def check(chat: Sequence[Turn], tools: str | None, column: str) -> None:
    """RowFault unless each call is of a declared tool and has its answer, and each answer its call.

    A chat that writes its calls as plain text has none to check.
    """
    structured = any("tool_calls" in turn or "tool_call_id" in turn for turn in chat)
    if not structured:
        return
    declared = {tool["function"]["name"] for tool in json.loads(tools)} if tools else None
    waiting: list[str] = []
    for place, turn in enumerate(chat):
        where = f"{column}[{place}]"
        if turn["role"] == "tool":
            waiting = _answered(turn, waiting, where)
            continue
        if waiting:
            raise RowFault(
                "unanswered-call",
                f"{where} follows while the call {excerpt(waiting[0])} has no answer: add its tool turn",
            )
        if "tool_calls" in turn:
            waiting = _called(turn, declared, where)


def _answered(turn: Turn, waiting: list[str], where: str) -> list[str]:
    """The calls that still wait after this answer; without an id it answers the first."""
    named = turn.get("tool_call_id")
    if not waiting or (named is not None and named not in waiting):
        which = f" {excerpt(named)}" if named else ""
        raise RowFault(
            "tool-answer", f"{where} answers the call{which}, which no turn before it makes"
        )
    left = list(waiting)
    left.remove(named if named is not None else waiting[0])
    return left


def _called(turn: Turn, declared: set[str] | None, where: str) -> list[str]:
    if turn["role"] != "assistant":
        raise RowFault(
            "role-order", f"{where} is {turn['role']} and calls a tool; expected assistant"
        )
    ids = []
    for number, call in enumerate(json.loads(turn["tool_calls"])):
        name = call["function"]["name"]
        if declared is not None and name not in declared:
            raise RowFault(
                "unknown-tool",
                f"{where} calls {excerpt(name)!r}, which is none of the declared tools: declare it",
            )
        ids.append(str(call.get("id", f"call_{number}")))
    return ids


def said(turn: Turn) -> tuple[str, ...]:
    """What of a turn counts when chats are compared."""
    return (turn["role"], turn["content"], *([turn["tool_calls"]] if "tool_calls" in turn else []))


def _loaded(value: Any, place: str, code: str, wanted: str) -> Any:
    """The value, out of its JSON text if it is one."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise RowFault(code, f"{place} is no JSON: write {wanted}") from None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def _filled(value: Any) -> Any:
    """Without the empty fields that a file of columns adds to every object."""
    if isinstance(value, dict):
        return {key: _filled(part) for key, part in value.items() if part is not None}
    return [_filled(part) for part in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise RowFault("tool-arguments", "a tool holds a value that JSON cannot hold") from None
