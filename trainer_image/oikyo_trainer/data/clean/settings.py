"""The steps as words of a command line: `unicode=NFC languages=en,de quality quality.minWords=3`."""

from __future__ import annotations

import argparse
from typing import Any

from pydantic import ValidationError

from oikyo.api.clean import Clean

from ...errors import Refused

ALONE: dict[str, Any] = {
    "unicode": "NFC",
    "mojibake": "Repair",
    "invisible": "Remove",
    "html": "Inputs",
    "boilerplate": "0.1",
    "whitespace": "Trim",
    "personalData": {},
    "quality": {},
}
"""What a step means that is written without a value."""
LISTS = ("languages", "personalData.kinds")


def add_steps(parser: argparse.ArgumentParser, option: str, *, required: bool = False) -> None:
    parser.add_argument(
        option,
        nargs="+",
        action="extend",
        required=required,
        default=None if required else [],
        metavar="STEP[=VALUE]",
        help=f"steps of data.clean: {', '.join(ALONE)}, languages=en,de; their fields with a dot, for "
        "example quality.minWords=3, personalData=Drop, personalData.kinds=Email,Phone",
    )


def settings(given: list[str], option: str) -> Clean:
    """The steps that are `given`; Refused with what to write when one is none."""
    made: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals and name not in ALONE:
            raise _usage(option, item, f"write one of {', '.join(ALONE)}, or languages=en")
        _set(made, name, value if equals else ALONE[name])
    try:
        return Clean.model_validate(made)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _usage(option, where, first["msg"].removeprefix("Value error, ")) from None


def _set(made: dict[str, Any], name: str, value: Any) -> None:
    step, dot, field = name.partition(".")
    if name in LISTS:
        value = value.split(",")
    if name == "personalData" and isinstance(value, str):
        step, dot, field = name, ".", "action"
    if not dot:
        made[step] = {**made.get(step, {}), **value} if isinstance(value, dict) else value
    else:
        part = made.setdefault(step, {})
        if isinstance(part, dict):
            part[field] = value


def _usage(option: str, item: str, message: str) -> Refused:
    return Refused(
        "InvalidUsage",
        f"{option} {item}: {message}",
        next_step="docs/how-to/clean-data.md has the steps",
    )
