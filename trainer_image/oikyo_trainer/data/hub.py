"""hf:// sources: the real hub client, a revision that is pinned before anything is fetched.

HF_ENDPOINT and HF_TOKEN count as everywhere. What the hub says is sorted into what the user must
change (name, revision, licence, token) and what passes (network, rate limit, a fault of the hub).
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ..errors import Refused, Retry
from .detect import ENDINGS, KNOWN, ending_of
from .findings import excerpt
from .folders import DESCRIPTIONS, one_split

Kind = Literal["model", "dataset"]
PART = r"[A-Za-z0-9][\w.-]{0,95}"
SHAPES = {
    "model": re.compile(rf"hf://({PART}/{PART})(?:@([^/@]+))?/?()"),
    "dataset": re.compile(rf"hf://datasets/({PART}/{PART})(?:@([^/@]+))?(?:/(.*))?"),
}
FORMS = {
    "model": "hf://org/name or hf://org/name@revision",
    "dataset": "hf://datasets/org/name@revision/path/to/file.jsonl",
}
WORKERS = 4


@dataclass(frozen=True)
class Place:
    """A repository on the hub and what of it is meant."""

    uri: str
    kind: Kind
    repository: str
    revision: str
    path: str


def parse(uri: str, kind: Kind) -> Place:
    """Read an hf:// URI; Refused when it has another form."""
    match = SHAPES[kind].fullmatch(uri)
    if match is None or ".." in uri.split("/"):
        raise Refused(
            "InvalidUri",
            f"{excerpt(uri)} is no {kind} on the hub",
            next_step=f"Write {FORMS[kind]}",
        )
    repository, revision, path = match.groups()
    return Place(uri, kind, repository, revision or "main", (path or "").strip("/"))


def revision(place: Place) -> str:
    """The commit that the revision names now."""
    with _sorted_errors(place):
        info = _api().repo_info(place.repository, repo_type=place.kind, revision=place.revision)
        return str(info.sha)


def names(place: Place, commit: str) -> list[str]:
    """Every file of the repository at `commit`, sorted."""
    with _sorted_errors(place):
        found = _api().list_repo_files(place.repository, repo_type=place.kind, revision=commit)
        return sorted(str(name) for name in found)


def data_names(place: Place, commit: str, *, test: bool = False) -> list[str]:
    """The data files that the URI means: one file, the files of one folder, or the wanted split.

    A repository without a path means its only file, or those of the split in its root or `data/`.
    """
    data = [name for name in names(place, commit) if _is_data(name)]
    own = [n for n in data if n == place.path or _parent(n) == place.path] if place.path else data
    if not place.path and len(data) > 1:
        own = _split_files(place, data, test)
    if not own:
        there = ", ".join(excerpt(name) for name in data[:8]) or f"none of {KNOWN}"
        what = f"has no data file {place.path}" if place.path else "has several data files"
        raise Refused(
            "SourceMissing",
            f"{place.uri} {what if data else 'has no data file'}; its files: {there}",
            next_step=f"Name the file or its folder: {FORMS['dataset']}",
        )
    return own


def _is_data(name: str) -> bool:
    return ending_of(name) in ENDINGS and PurePosixPath(name).name not in DESCRIPTIONS


def _parent(name: str) -> str:
    return str(PurePosixPath(name).parent)


def _split_files(place: Place, data: Sequence[str], test: bool) -> list[str]:
    """Files in the root or in data/ that are named for the wanted split; none where others are there."""
    for folder in (".", "data"):
        paths = [PurePosixPath(n) for n in data if _parent(n) == folder and not n.endswith(".txt")]
        split, found = one_split(paths, place.uri, test=test)
        if split:
            return [str(path) for path in found[split]]
    return []


def download(place: Place, commit: str, folder: Path, wanted: Sequence[str]) -> None:
    """Fetch the files `wanted` into `folder`, under their own names; goes on with an earlier try."""
    with _sorted_errors(place):
        _api().snapshot_download(
            place.repository,
            repo_type=place.kind,
            revision=commit,
            local_dir=str(folder),
            allow_patterns=[_literal(name) for name in wanted],
            max_workers=WORKERS,
        )
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise Retry("HubUnavailable", f"{place.uri}: {excerpt(missing[0])} did not arrive")
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _literal(name: str) -> str:
    """The pattern that matches this name alone."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _api() -> Any:  # HfApi; the client ships no types
    from huggingface_hub import HfApi  # imported late: only hf:// pays for it
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="oikyo")


@contextmanager
def _sorted_errors(place: Place) -> Iterator[None]:
    from huggingface_hub import errors as hub_errors

    try:
        yield
    except hub_errors.GatedRepoError:
        raise _refused(
            place,
            "is gated",
            "Accept its terms on the hub and name a Secret with the token in spec.model.secretName",
        ) from None
    except hub_errors.RepositoryNotFoundError:
        step = "Correct the name; a private one needs a Secret with a token (spec.model.secretName)"
        raise _refused(
            place, "does not exist on the hub, or the token may not see it", step
        ) from None
    except hub_errors.RevisionNotFoundError:
        raise _refused(
            place, f"has no revision {place.revision}", "Name a branch, tag or commit that it has"
        ) from None
    except hub_errors.HfHubHTTPError as error:
        raise _http(place, error) from None
    except hub_errors.LocalEntryNotFoundError as error:
        raise _unreachable(place, error) from None
    except Exception as error:
        # The client lets errors of its HTTP library through, whose name changed between versions.
        if not type(error).__module__.startswith(
            ("http", "requests", "urllib3")
        ) and not isinstance(error, ConnectionError | TimeoutError):
            raise
        raise _unreachable(place, error) from None


def _refused(place: Place, what: str, step: str) -> Refused:
    return Refused("SourceMissing", f"{place.uri} {what}", next_step=step)


def _http(place: Place, error: Any) -> Refused | Retry:
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        step = "Name a Secret with a token that may read it (spec.model.secretName)"
        return _refused(place, f"is not open to this token (HTTP {status})", step)
    return Retry(
        "HubUnavailable",
        f"the hub answered HTTP {status} for {place.uri}",
        evidence=excerpt(str(error)),
        next_step="The stage is tried again; set HF_ENDPOINT to use a mirror",
    )


def _unreachable(place: Place, error: Exception) -> Retry:
    return Retry(
        "HubUnavailable",
        f"the hub cannot be reached for {place.uri}",
        evidence=f"{type(error).__name__}: {excerpt(str(error))}",
        next_step="Give the stage a way to the hub (HF_ENDPOINT, proxy), or copy the files to a "
        "volume and name them with pvc://",
    )
