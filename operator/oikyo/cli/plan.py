"""oikyo plan: whether a job fits in memory, before anything is loaded."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from .options import HOME, Claims, HomeFolder, Manifest, home_at

MODULE = "oikyo_trainer.planning"


def plan(
    manifest: Manifest,
    claim: Claims = None,
    home: HomeFolder = HOME,
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            help="Folder of the base model, where it is not on this machine's "
            "claims; config.json and safetensors suffice.",
        ),
    ] = None,
    memory: Annotated[
        str, typer.Option("--memory", help="Memory of one worker, for example 16Gi.")
    ] = "",
    gpu_memory: Annotated[
        str, typer.Option("--gpu-memory", help="Memory of one GPU, for example 80Gi.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs; sizes in bytes.")] = False,
) -> int:
    """Predict the peak memory of a job, from the files of its base model alone.

    Exit codes: 0 it fits, 64 it does not, or the manifest is not valid.
    """
    from oikyo import admission
    from oikyo.controller.resolve import resolve_path
    from oikyo.desktop import mounts
    from oikyo.errors import SpecError

    job = admission.load(manifest)
    claims = mounts.parse_folders(claim or (), "--claim")
    where = mounts.mounts_of(home_at(home), manifest.parent, claims, {})
    folder = model or Path(resolve_path(job.spec.model.base, where) or ".hub")
    if not folder.is_dir():
        raise SpecError(
            f"spec.model.base is {job.spec.model.base}, and its files are not here: say where they "
            "lie with --model FOLDER or --claim NAME=FOLDER"
        )
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(job.json_line())
        file.flush()
        options = ["--job", file.name, "--model", str(folder)]
        options += [f"--memory={memory}"] if memory else []
        options += [f"--gpu-memory={gpu_memory}"] if gpu_memory else []
        options += ["--json"] if as_json else []
        return subprocess.run([sys.executable, "-m", MODULE, *options], check=False).returncode
