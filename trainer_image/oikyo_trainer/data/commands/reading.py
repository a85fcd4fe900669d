"""How data is read, as far as the command line says it: the same options at every verb."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from oikyo.api.data import Fields
from oikyo.api.preferences import Objective
from oikyo.api.sources import GivenFormat
from oikyo.api.stages import Source
from oikyo.api.tasks import TASKS

from ...errors import Refused
from .. import remote
from ..guess import Said
from ..sources import here

if TYPE_CHECKING:  # pyarrow's tables, which checking and converting have no use for
    from ..insight.source import Opened


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", choices=TASKS, help="default: the one whose columns are there")
    parser.add_argument(
        "--objective", choices=get_args(Objective), help="training.objective; default: as --task"
    )
    add_names(parser)


def add_names(parser: argparse.ArgumentParser) -> None:
    """The options that every shape of rows has."""
    parser.add_argument(
        "--column", action="append", default=[], metavar="ROLE=NAME", help="as data.fields"
    )
    parser.add_argument(
        "--format", choices=get_args(GivenFormat), default="Auto", help="default: told by content"
    )


def said(arguments: argparse.Namespace) -> Said:
    """What the options say; Refused when a role is unknown."""
    fields = fields_of(arguments.column)
    return Said(arguments.task, arguments.objective, fields, arguments.format)


def warn(opened: Opened) -> None:
    """Say what a training would refuse in the data, and a person may look at all the same."""
    if opened.refused is not None:
        why, step = opened.refused.message, opened.refused.next_step
        told = f"warning: {opened.name}: a training would refuse this: {why}\n         {step}"
        print(told, file=sys.stderr)


def source_of(name: str, form: GivenFormat = "Auto") -> Source:
    """A file or folder here, or what is fetched: s3://, gs://, abfs:// and hf://."""
    given = Source(uri=name, format=form)
    return given if remote.is_remote(given) else here(Path(name), form)


def fields_of(given: list[str]) -> Fields:
    """Of --column; Refused when a role is unknown."""
    pairs = dict(pair(item, "--column", "ROLE=NAME") for item in given)
    try:
        return Fields(**pairs)
    except ValidationError as error:
        role = error.errors()[0]["loc"][0]
        known = ", ".join(Fields.model_fields)
        raise usage(f"--column {role}=... names no role; write one of {known}") from None


def pair(item: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = item.partition("=")
    if not (name and equals and value):
        raise usage(f"{option} is {item!r}; write {option} {form}")
    return name, value


def usage(message: str) -> Refused:
    return Refused("InvalidUsage", message, next_step="--help tells what may be written")
