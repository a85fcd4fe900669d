"""What URIs mean on a desktop: claims and ConfigMaps are folders, file:// is relative to the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from oikyo.api import workspace as layout
from oikyo.api.finetunejob import FineTuneJob
from oikyo.controller.observed import Mounts
from oikyo.controller.resolve import data_sources, in_bucket, resolve_path, secrets_of, split_uri
from oikyo.errors import SpecError

from .home import Home


def mounts_of(
    home: Home, manifest_folder: Path, claims: Mapping[str, Path], configmaps: Mapping[str, Path]
) -> Mounts:
    """Where this desktop puts what a URI names."""
    return Mounts(
        workspace=str(home.workspace),
        claims={name: str(path.absolute()) for name, path in claims.items()},
        claims_root=str(home.claims),
        configmaps={name: str(path.absolute()) for name, path in configmaps.items()},
        configmaps_root=str(home.configmaps),
        secrets_root=str(home.secrets),
        files=str(manifest_folder.absolute()),
    )


def parse_folders(pairs: Iterable[str], option: str) -> dict[str, Path]:
    """`name=folder` options as a mapping."""
    folders: dict[str, Path] = {}
    for pair in pairs:
        name, equals, folder = pair.partition("=")
        if not (name and equals and folder):
            raise SpecError(f"{option} is {pair!r}; write {option} NAME=FOLDER")
        if not Path(folder).is_dir():
            raise SpecError(f"{option} {pair}: {folder} is not a folder; make it, or name another")
        folders[name] = Path(folder)
    return folders


def missing(job: FineTuneJob, mounts: Mounts, home: Home) -> tuple[str, ...]:
    """A sentence for each thing that the spec names and that does not exist here."""
    named = [("spec.model.base", job.spec.model.base)]
    named += [(f"{field}.uri", source.uri) for field, source in data_sources(job.spec)]
    sentences = (_missing(field, uri, mounts) for field, uri in named)
    found = [sentence for sentence in sentences if sentence]
    found += _missing_secrets(job, home)
    secret = None if in_bucket(job.spec.model.base) else job.spec.model.secret_name
    if secret and not home.token(secret).is_file() and not os.environ.get("HF_TOKEN"):
        found.append(
            f"spec.model.secretName is {secret}, which does not exist here: put the hub token into "
            f"{home.token(secret)}, or into the environment as HF_TOKEN"
        )
    return tuple(found)


def _missing_secrets(job: FineTuneJob, home: Home) -> list[str]:
    """The Secrets of buckets and endpoints; the variables that their clients read stand in for them."""
    stands_in = ("AWS_ACCESS_KEY_ID", "OPENAI_API_KEY")
    if any(os.environ.get(name) for name in stands_in):
        return []
    return [
        f"secretName is {name}, which does not exist here: put each key into a file of its name under "
        f"{home.secrets / name} (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY for a bucket, token for a "
        f"model), or set {' or '.join(stands_in)} in the environment"
        for name in secrets_of(job.spec)
        if not (home.secrets / name).is_dir()
    ]


def _missing(field: str, uri: str, mounts: Mounts) -> str:
    scheme, rest = split_uri(uri)
    try:
        path = resolve_path(uri, mounts)
    except SpecError as error:
        return f"{field}: {error}"
    if not path or Path(path).exists():
        return ""
    name = rest.partition("/")[0]
    if scheme == "version":
        model, _, number = rest.partition("/")
        record = Path(mounts.workspace) / layout.version(model, int(number))
        return (
            f"{field} is {uri}, but there is no version {number} of model {model} here ({record} does "
            "not exist): `oikyo list` shows the versions"
        )
    if scheme == "pvc" and not Path(resolve_path(f"pvc://{name}", mounts)).is_dir():
        return (
            f"{field} is {uri}, but claim {name} is not known here: say which folder it is with "
            f"--claim {name}=FOLDER"
        )
    if scheme == "configmap" and name not in mounts.configmaps and not Path(path).parent.is_dir():
        return (
            f"{field} is {uri}, but ConfigMap {name} is not known here: say which folder it is with "
            f"--configmap {name}=FOLDER"
        )
    return f"{field} is {uri}, but {path} does not exist: check the path"
