"""oikyo export: a model out of a checkpoint, at any moment of a training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from .options import HOME, HomeFolder, Name, home_at

MODULE = "oikyo_trainer.training.export"


def export(
    name: Name,
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write; it must not exist.")
    ],
    checkpoint: Annotated[
        int | None,
        typer.Option("--checkpoint", min=1, help="Step; default: the newest good checkpoint."),
    ] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The adapter alone, not merged into its base.")
    ] = False,
    home: HomeFolder = HOME,
) -> int:
    """Write safetensors, tokenizer and a card from a checkpoint of a job, while it trains or later.

    A running training is not disturbed. No gate has judged what is exported.
    """
    from oikyo.controller.resolve import run_id
    from oikyo.desktop.finding import the_job
    from oikyo.errors import SpecError

    place = home_at(home)
    job = the_job(name, place)
    specs = sorted(
        place.attempts(run_id(job)).glob("train-*/spec.json"),
        key=lambda path: int(path.parent.name.rpartition("-")[2]),
    )
    if not specs:
        raise SpecError(f"job {name} has not begun to train\nnext: oikyo get {name}")
    options = ["--spec", str(specs[-1]), "--workspace", str(place.workspace)]
    options += [f"--checkpoint={checkpoint}"] if checkpoint is not None else []
    options += ["--adapter"] if adapter else []
    command = [sys.executable, "-m", MODULE, *options, "--", str(output)]
    return subprocess.run(command, check=False).returncode
