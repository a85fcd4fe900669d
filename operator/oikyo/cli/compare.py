"""oikyo compare: the same job with and without a part of its spec, on the same test rows."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import HOME, Claims, ConfigMaps, HomeFolder, Manifest, home_at

if TYPE_CHECKING:
    from oikyo.api.finetunejob import FineTuneJob
    from oikyo.desktop.home import Home

MODULE = "oikyo_trainer.evaluation.compare"


def compare(
    manifest: Manifest,
    without: Annotated[
        str,
        typer.Option(
            "--without", metavar="FIELD", help="Part of the spec to leave out, as data.augment."
        ),
    ] = "data.augment",
    claim: Claims = None,
    configmap: ConfigMaps = None,
    home: HomeFolder = HOME,
    max_rows: Annotated[
        int | None, typer.Option("--max-rows", help="Test rows that are asked at most.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Train both once more; their versions stay.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> int:
    """Train a job with and without a part of its spec, and say whether the difference is chance.

    The second job is called NAME-without-PART, keeps versions of its own and is never deployed. A job that
    is finished here is not trained again.

    Exit codes: 0 compared, 1 a training failed, 64 the input was refused, 130 suspended.
    """
    from oikyo import admission
    from oikyo.desktop import mounts

    from . import exits
    from .run import take

    place = home_at(home)
    claims = mounts.parse_folders(claim or (), "--claim")
    configmaps = mounts.parse_folders(configmap or (), "--configmap")
    where = mounts.mounts_of(place, manifest.parent, claims, configmaps)
    job = admission.load(manifest)
    folders = []
    for one in (job, left_out(job, without)):
        # The story of the trainings is not part of what a program reads.
        with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
            code = take(one, place, where, again=again)
        if code not in (exits.ACCEPTED, exits.REJECTED):
            return code
        folders.append(_version(one, place))
    names = (f"with {without}", "without")
    options = [o for pair in zip(names, folders, strict=True) for o in pair]
    return _compared(place, options, max_rows, as_json=as_json)


def _compared(home: Home, sides: list[str], max_rows: int | None, *, as_json: bool) -> int:
    command = [sys.executable, "-m", MODULE, "--workspace", str(home.workspace)]
    command += ["--one", *sides[:2], "--other", *sides[2:]]
    command += [f"--max-rows={max_rows}"] if max_rows is not None else []
    command += ["--json"] if as_json else []
    sys.stdout.flush()
    return subprocess.run(command, check=False).returncode


def left_out(job: FineTuneJob, field: str) -> FineTuneJob:
    """`job` without the part of its spec, under a name of its own; raises SpecError when it has none."""
    from oikyo import admission
    from oikyo.api.finetunejob import FineTuneJob
    from oikyo.errors import SpecError

    path = field.removeprefix("spec.")
    body = job.wire()
    body.pop("status", None)
    _remove(body["spec"], path)
    word = re.sub("[^a-z0-9]", "", path.rpartition(".")[2].lower())
    name = f"{job.metadata.name[: 52 - len('-without-') - len(word)]}-without-{word}"
    body["metadata"] = {**body["metadata"], "name": name}
    body["spec"]["model"]["name"] = name
    body["spec"].pop("deployment", None)
    if violations := admission.check(body):
        raise SpecError("\n".join([f"without {path} the job is not valid:", *map(str, violations)]))
    other = FineTuneJob.model_validate(admission.with_defaults(body))
    same = other.spec.model_copy(
        update={"model": job.spec.model, "deployment": job.spec.deployment}
    )
    if same == job.spec:
        raise SpecError(
            f"--without {field}: spec.{path} is what it would be without being written, so there is "
            "nothing to compare"
        )
    return other


def _remove(spec: dict[str, Any], path: str) -> None:
    from oikyo.errors import SpecError

    *parents, last = path.split(".")
    part: Any = spec  # JSON
    for parent in parents:
        part = part.get(parent) if isinstance(part, dict) else None
    if not isinstance(part, dict) or last not in part:
        raise SpecError(
            f"--without {path}: the job has no spec.{path}; name a part that it has, such as data.augment"
        )
    del part[last]


def _version(job: FineTuneJob, home: Home) -> str:
    """Folder of the version that the job made, relative to the workspace."""
    from oikyo.api.finetunejob import FineTuneJob
    from oikyo.api.modelversion import ModelVersion
    from oikyo.desktop.objects import Store
    from oikyo.errors import OikyoError

    store = Store(home)
    kept = store.get(FineTuneJob, job.metadata.name)
    name = kept.status.model_version if kept is not None else None
    version = store.get(ModelVersion, name or "")
    if version is None:
        raise OikyoError(f"job {job.metadata.name} has no version here: run it with --again")
    return version.spec.storage.path
