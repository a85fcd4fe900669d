"""Which verbs there are, and how an error reads: one clear block, never a traceback."""

from __future__ import annotations

import sys

import typer

from oikyo.errors import OikyoError, SpecError

from . import (
    compare,
    data,
    delete,
    export,
    get,
    history,
    listing,
    logs,
    plan,
    report,
    run,
    serve,
    validate,
    watch,
)
from .exits import FAILED, REFUSED

app = typer.Typer(
    name="oikyo",
    help="From a base model and a data set to a served language model, with one manifest.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("compare")(compare.compare)
app.command("validate")(validate.validate)
app.command("plan")(plan.plan)
app.command("watch")(watch.watch)
app.command("logs")(logs.logs)
app.command("history")(history.history)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("serve")(serve.serve)
app.command(
    "data",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)(data.data)
app.command("list")(listing.list_objects)
app.command("get")(get.get)
app.command("delete")(delete.delete)


def run_command(argv: list[str]) -> int:
    """The exit code of `oikyo ARGV`."""
    try:
        # Not standalone: a usage error must not exit with 2, which means "the gates failed".
        code = app(argv, prog_name="oikyo", standalone_mode=False)
    except typer.TyperException as error:
        return _tell(f"{error.format_message()}\nsee: oikyo --help", REFUSED)
    except typer.Abort:
        return _tell("given up", FAILED)
    except SpecError as error:
        return _tell(str(error), REFUSED)
    except OikyoError as error:
        return _tell(str(error), FAILED)
    return code if isinstance(code, int) else 0


def _tell(sentence: str, code: int) -> int:
    first, *rest = sentence.splitlines() or ["failed"]
    print(f"error: {first}", *(f"       {line}" for line in rest), sep="\n", file=sys.stderr)
    return code
