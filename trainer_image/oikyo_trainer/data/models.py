"""The base model: found or downloaded, checked, and kept once in the workspace under its digest.

A file of the user's is always copied, never linked: editing it in place would change what every
earlier job was trained from. Where the file system can share blocks, copying takes no space.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from oikyo.api import workspace as layout
from oikyo.api.jobstatus import Resolved
from oikyo.api.stages import Source

from ..errors import Refused, Retry
from ..files import digest_line, file_digest, write_atomic
from . import hub, remote
from .buckets import in_bucket, open_bucket
from .model_files import CONVERT, PICKLED, check_model, wanted
from .plain import open_plain
from .sources import locate
from .version import is_whole, pretty, replace_folder

log = logging.getLogger("oikyo.data")

COPY_CHUNK = 16 << 20
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class BaseModel:
    """A base model that was checked and is not yet in the workspace."""

    uri: str
    files: dict[str, Path]
    resolved: tuple[Resolved, ...] = ()
    downloaded: Path | None = None
    """Our own download folder, which goes when the model is stored."""


Tell = Callable[[float], None]
"""Told the share of the bytes that are done."""


def find(source: Source, workspace: Path) -> BaseModel:
    """Check the base model that `source` names; fetches one of the hub or a bucket first."""
    if in_bucket(source.uri):
        return _of_bucket(source, workspace)
    if not source.uri.startswith("hf://"):
        folder, _ = locate(source)
        if not folder.is_dir():
            raise Refused(
                "InvalidModel",
                f"{source.uri} is a file; a base model is a folder with config.json and weights",
                next_step="Name the folder",
            )
        if (folder / ADAPTER_CONFIG).is_file() and source.uri.startswith("version://"):
            return _merged(source.uri, folder, workspace)
        return BaseModel(source.uri, check_model(folder, source.uri))
    place = hub.parse(source.uri, "model")
    revision = hub.revision(place)
    # The name depends on the revision alone, so a download that was cut off is gone on with.
    name = sha256(f"{place.repository}@{revision}".encode()).hexdigest()[:16]
    folder = workspace / "models" / f".download-{name}"
    names = hub.names(place, revision)
    _refuse_pickled_repository(place.uri, names)
    hub.download(place, revision, folder, [name for name in names if wanted(name)])
    reason = f"what {place.revision} of {source.uri} was when the data was prepared"
    resolved = Resolved(name="model.revision", value=revision, reason=reason)
    return BaseModel(source.uri, check_model(folder, source.uri), (resolved,), folder)


def _merged(uri: str, folder: Path, workspace: Path) -> BaseModel:
    """A version that was released as an adapter: a whole model of it and its base, made for this job."""
    from ..training.methods.merge import merge_version  # torch, which no other base needs here

    target = workspace / "models" / f".download-{sha256(uri.encode()).hexdigest()[:16]}"
    shutil.rmtree(target, ignore_errors=True)
    merge_version(folder, target)
    reason = f"{uri} is an adapter: it was merged into its base to go on from both"
    resolved = Resolved(name="model.base", value="merged", reason=reason)
    return BaseModel(uri, check_model(target, uri), (resolved,), target)


def _of_bucket(source: Source, workspace: Path) -> BaseModel:
    bucket = open_bucket(source)
    items = remote.every(bucket)
    _refuse_pickled_repository(source.uri, [item.key for item in items])
    base = bucket.key.rstrip("/")
    mine = [item for item in items if wanted(item.key.removeprefix(f"{base}/"))]
    # Named by what the bucket holds now, so a download that was cut off is gone on with.
    listed = repr((bucket.name, mine)).encode()
    folder = workspace / "models" / f".download-{sha256(listed).hexdigest()[:16]}"
    tags = remote.fetch(bucket, mine, base, folder)
    pin = remote.pin(source.uri, mine, tags, "model.revision")
    return BaseModel(source.uri, check_model(folder, source.uri), (pin,), folder)


def _refuse_pickled_repository(uri: str, names: list[str]) -> None:
    """Say so before gigabytes are fetched."""
    if any(name.endswith(".safetensors") for name in names):
        return
    if pickled := [name for name in names if Path(name).suffix.lower() in PICKLED]:
        raise Refused(
            "PickledWeights",
            f"{uri} holds only pickled weights ({pickled[0]}); only safetensors are loaded",
            next_step=CONVERT,
        )


def store(model: BaseModel, workspace: Path, staging: Path, tell: Tell) -> str:
    """Keep the model under models/<digest>/ unless it is there already; returns the digest."""
    facts: dict[str, dict[str, object]] = {}
    sizes = {name: path.stat().st_size for name, path in model.files.items()}
    total, done = 2 * sum(sizes.values()) or 1, 0
    folder = sha256()
    for name, path in sorted(model.files.items()):
        facts[name] = {"size": sizes[name], "sha256": file_digest(path)}
        folder.update(digest_line(name, sizes[name], str(facts[name]["sha256"])))
        done += sizes[name]
        tell(done / total)
    digest = "sha256:" + folder.hexdigest()
    target = workspace / layout.model(digest)
    if is_whole(target):
        log.info("base model %s is there already", digest)
    else:
        for name, path in sorted(model.files.items()):
            _place(path, staging / name, move=model.downloaded is not None)
            _compare(model, name, staging / name, facts[name])
            done += sizes[name]
            tell(done / total)
        manifest = {"format": 1, "digest": digest, "uri": model.uri, "files": facts}
        write_atomic(staging / layout.MANIFEST, pretty(manifest))
        replace_folder(staging, target)
    if model.downloaded is not None:
        shutil.rmtree(model.downloaded, ignore_errors=True)
    return digest


def _compare(model: BaseModel, name: str, copy: Path, fact: dict[str, object]) -> None:
    # A download is ours and nobody writes to it; a file of the user's may change under the copy.
    if model.downloaded is None and file_digest(copy) != fact["sha256"]:
        raise Retry(
            "SourceChanged",
            f"{model.uri}/{name} changed while it was copied",
            next_step="Nothing: the stage is tried again; do not write to the base model meanwhile",
        )


def _place(source: Path, target: Path, *, move: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if move:
        os.replace(source, target)
        return
    with open_plain(str(source), source) as given, target.open("wb") as copy:
        try:
            while os.copy_file_range(given.fileno(), copy.fileno(), COPY_CHUNK):
                pass
        except OSError:
            # Not every file system can: from the beginning, by hand.
            given.seek(0)
            copy.seek(0)
            copy.truncate()
            shutil.copyfileobj(given, copy, COPY_CHUNK)
    os.chmod(target, 0o644)
