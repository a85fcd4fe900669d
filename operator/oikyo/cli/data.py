"""oikyo data: check, convert and look at data files without a job, and check the data of one."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

from .options import HOME, home_at

MANIFESTS = (".yaml", ".yml")
"""How a job ends, and no data file does."""
MODULE = "oikyo_trainer.data"
"""Run as a program: the command line itself loads none of the libraries that read data."""


def data(context: typer.Context) -> None:
    """Check, convert, compare and review data files; `oikyo data` alone lists the verbs."""
    given = context.args
    of_job = given[:1] == ["check"] and any(name.endswith(MANIFESTS) for name in given[1:])
    code = _check_job(given[1:]) if of_job else _run(given)
    raise typer.Exit(code if code >= 0 else 128 - code)


def _run(given: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", MODULE, *given], check=False).returncode


def _check_job(given: list[str]) -> int:
    """Check what the prepare stage of a job would read."""
    from oikyo import admission
    from oikyo.controller.resolve import prepare_spec
    from oikyo.desktop import mounts

    own, others = _parsed(given)
    claims = mounts.parse_folders(own.claim, "--claim")
    configmaps = mounts.parse_folders(own.configmap, "--configmap")
    where = mounts.mounts_of(home_at(own.home), own.manifest.parent, claims, configmaps)
    spec = prepare_spec(admission.load(own.manifest), where, 1)
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(spec.json_line())
        file.flush()
        return _run(["check", "--spec", file.name, *others])


def _parsed(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What is meant for this program, and what is passed on; SpecError for what a job says itself."""
    from oikyo.errors import SpecError

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--claim", action="append", default=[])
    parser.add_argument("--configmap", action="append", default=[])
    parser.add_argument("--home", type=Path, default=HOME)
    passed = [parser.add_argument(name) for name in ("--model", "--examples")]
    passed.append(parser.add_argument("-o", "--output"))
    parser.add_argument("--json", action="store_true")
    try:
        own, unknown = parser.parse_known_args(given)
    except argparse.ArgumentError as error:
        raise SpecError(f"oikyo data check: {error}") from None
    if unknown:
        raise SpecError(
            f"oikyo data check JOB.yaml knows no {unknown[0]}: the job says what is read and checked; "
            "write it there, or name a file instead of a job"
        )
    values = [(one.option_strings[-1], getattr(own, one.dest)) for one in passed]
    others = [f"{name}={value}" for name, value in values if value is not None]
    return own, [*others, *(["--json"] if own.json else [])]
