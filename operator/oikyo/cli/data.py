"""oikyo data: check, convert and look at data files without a job."""

from __future__ import annotations

import subprocess
import sys

import typer

MODULE = "oikyo_trainer.data"
"""Run as a program: the command line itself loads none of the libraries that read data."""


def data(context: typer.Context) -> None:
    """Check, convert, compare and review data files; `oikyo data` alone lists the verbs."""
    ended = subprocess.run([sys.executable, "-m", MODULE, *context.args], check=False)
    raise typer.Exit(ended.returncode if ended.returncode >= 0 else 128 - ended.returncode)
