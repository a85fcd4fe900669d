"""Object stores: what a bucket URI names, how it is opened, and what its errors mean for a person.

s3:// goes through Arrow's own client, gs:// and abfs:// through the fsspec library that the image has.
Credentials come from the files of a Secret, else from the environment; they reach no log and no message."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oikyo.api.stages import Source

from ..errors import STORAGE_FAULTS, Refused, Retry
from .findings import excerpt

SHAPE = re.compile(r"(s3|gs|abfs)://([a-z0-9][a-z0-9._@-]+)(?:/(.*))?")
KEY_ID, KEY, TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
ENDPOINT, REGION = "AWS_ENDPOINT_URL", "AWS_REGION"
S3_KEYS = (KEY_ID, KEY, TOKEN, ENDPOINT, REGION)
PACKAGES = {"gs": "gcsfs", "abfs": "adlfs"}
LONGEST_VALUE = 1 << 16
SHOWN = 240
"""Characters of a store's message."""
ATTEMPTS, CONNECT_SECONDS, REQUEST_SECONDS = 4, 10, 60
WRONG_KEYS = {
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_SIGNATURE",
    "INCOMPLETE_SIGNATURE",
    "INVALID_ACCESS_KEY_ID",
    "INVALID_CLIENT_TOKEN_ID",
    "MISSING_AUTHENTICATION_TOKEN",
    "UNRECOGNIZED_CLIENT",
}
ABSENT = {"NO_SUCH_BUCKET", "NO_SUCH_KEY", "RESOURCE_NOT_FOUND"}
AWS_ERROR = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))? during")
BACK = {"PermanentRedirect", "AuthorizationHeaderMalformed"}


@dataclass(frozen=True)
class Bucket:
    """An opened bucket and the place in it that a URI names."""

    uri: str
    name: str
    key: str
    files: Any
    """pyarrow.fs.FileSystem; pyarrow is untyped."""
    secrets: tuple[str, ...] = field(repr=False, default=())
    """Values that no message may hold."""
    secret: str = ""
    """Name of the Secret, for messages."""

    def path(self, key: str) -> str:
        """`key` as the file system names it."""
        return f"{self.name}/{key}".rstrip("/")


def in_bucket(uri: str) -> bool:
    return SHAPE.match(uri) is not None


def parse(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and key of a URI; Refused when it has another form or climbs."""
    match = SHAPE.fullmatch(uri)
    if match is None:
        raise Refused(
            "InvalidUri",
            f"{excerpt(uri)} names no bucket",
            next_step="Write s3://bucket/path/rows.jsonl",
        )
    scheme, bucket, key = match.groups(default="")
    safe_parts(uri, key.rstrip("/"))
    return scheme, bucket, key


def safe_parts(uri: str, key: str) -> tuple[str, ...]:
    """The parts of a key as names of files; Refused when one could lead out of a folder."""
    parts = tuple(key.split("/")) if key else ()
    for part in parts:
        if part in ("", ".", "..") or len(part.encode()) > 255 or not part.isprintable():
            raise Refused(
                "PathEscapes",
                f"{excerpt(uri)} has the key {excerpt(key)!r}, which is no path below a folder",
                next_step="Rename the object: no empty part, no '.', no '..', no control character",
            )
    return parts


def open_bucket(source: Source) -> Bucket:
    """Open what `source` names, with its Secret or the environment; asks the store nothing yet."""
    scheme, name, key = parse(source.uri)
    secret = Path(source.secret).name if source.secret else ""
    given = _values(Path(source.secret)) if source.secret else {}
    if scheme == "s3":
        values = given or {k: v for k in S3_KEYS if (v := _from_environment(k))}
        files = _s3(source.uri, name, values, secret)
    else:
        values, files = given, _fsspec(source.uri, scheme, given)
    hidden = tuple(v for k, v in values.items() if k not in (ENDPOINT, REGION) and len(v) > 3)
    return Bucket(source.uri, name, key, files, hidden, secret)


def _values(folder: Path) -> dict[str, str]:
    """The keys of a Secret as its volume shows them; none where there is no folder (a desktop)."""
    if not folder.is_dir():
        return {}
    found = {}
    for path in sorted(folder.iterdir()):
        if not path.name.startswith(".") and path.is_file():
            with path.open(encoding="utf-8", errors="replace") as file:
                found[path.name] = file.read(LONGEST_VALUE).strip()
    return found


def _from_environment(name: str) -> str:
    if name == REGION:
        return os.environ.get(REGION) or os.environ.get("AWS_DEFAULT_REGION", "")
    return os.environ.get(name, "")


def _s3(uri: str, bucket: str, values: Mapping[str, str], secret: str) -> Any:
    from pyarrow import fs  # imported late: only buckets pay for it

    # A pod must not fall back on the machine's own credentials, nor wait for them.
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    options: dict[str, Any] = {
        "request_timeout": REQUEST_SECONDS,
        "connect_timeout": CONNECT_SECONDS,
        "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        **_credentials(uri, values, secret),
        **_endpoint(uri, values.get(ENDPOINT, "")),
    }
    region = values.get(REGION) or ("us-east-1" if values.get(ENDPOINT) else "")
    if not region:
        with sorted_errors(Bucket(uri, bucket, "", None, secret=secret)):
            region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(region=region, **options)


def _credentials(uri: str, values: Mapping[str, str], secret: str) -> dict[str, Any]:
    if values.get(KEY_ID) and values.get(KEY):
        token = {"session_token": values[TOKEN]} if values.get(TOKEN) else {}
        return {"access_key": values[KEY_ID], "secret_key": values[KEY], **token}
    if secret:
        missing = " and ".join(name for name in (KEY_ID, KEY) if not values.get(name))
        raise Refused(
            "InvalidSecret",
            f"the Secret {secret} of {uri} has no key {missing}",
            next_step=f"kubectl create secret generic {secret} --from-literal={KEY_ID}=... "
            f"--from-literal={KEY}=...",
        )
    profile = os.environ.get("AWS_PROFILE") or Path("~/.aws/credentials").expanduser().is_file()
    return {} if profile else {"anonymous": True}


def _endpoint(uri: str, url: str) -> dict[str, str]:
    if not url:
        return {}
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise Refused(
            "InvalidSecret",
            f"the {ENDPOINT} of {uri} is no address of a store",
            next_step="Write https://host:port, without a user",
        )
    place = parts.netloc + parts.path.rstrip("/")
    return {"endpoint_override": place, "scheme": parts.scheme}


def _fsspec(uri: str, scheme: str, options: Mapping[str, str]) -> Any:
    import fsspec
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    try:
        return PyFileSystem(FSSpecHandler(fsspec.filesystem(scheme, **options)))
    except ImportError:
        package = PACKAGES[scheme]
        raise Refused(
            "MissingLibrary",
            f"{uri} needs the package {package}, which this image does not have",
            next_step=f"Build an image with `pip install {package}` on top of the trainer's, or use the "
            "store's S3 interface: s3:// with AWS_ENDPOINT_URL",
        ) from None


@contextmanager
def sorted_errors(bucket: Bucket) -> Iterator[None]:
    """What the store says, as what a person must change (Refused) or what passes (Retry)."""
    try:
        yield
    except FileNotFoundError:
        raise _absent(bucket) from None
    except PermissionError as error:  # of fsspec; Arrow says it in words
        raise _forbidden(bucket, _said(bucket, error)) from None
    except OSError as error:
        if error.errno in STORAGE_FAULTS:
            raise  # our own disk, not the store
        raise _sorted(bucket, _said(bucket, error)) from None


def _said(bucket: Bucket, error: Exception) -> str:
    text = str(error)
    for value in bucket.secrets:
        text = text.replace(value, "***")
    return text


def _sorted(bucket: Bucket, said: str) -> Refused | Retry:
    match = AWS_ERROR.search(said)
    code, status = (match[1], match[2] or "") if match else ("", "")
    if code in ABSENT or ("Bucket '" in said and "not found" in said):
        return _absent(bucket)
    if "HTTP status 301" in said or any(word in said for word in BACK):
        return Refused(
            "WrongRegion",
            f"{bucket.uri} lies in another region",
            evidence=_evidence(said),
            next_step=f"Write the region of the bucket into the key {REGION} of the Secret",
        )
    if code == "ACCESS_DENIED":
        return _forbidden(bucket, said)
    if code in WRONG_KEYS or (code == "UNKNOWN" and status.startswith("4") and status != "429"):
        return Refused(
            "AccessDenied",
            f"the store does not know the credentials for {bucket.uri}",
            evidence=_evidence(said),
            next_step=_credentials_step(bucket),
        )
    return Retry(
        "BucketUnavailable",
        f"the store of {bucket.uri} cannot be read now",
        evidence=_evidence(said),
        next_step=f"The stage is tried again; check {ENDPOINT} and the way to it (NetworkPolicy, proxy)",
    )


def _evidence(said: str) -> str:
    """The store's own words, without Arrow's: those repeat bucket and key."""
    return excerpt(said[max(0, said.find("AWS Error")) :], SHOWN)


def _absent(bucket: Bucket) -> Refused:
    return Refused(
        "SourceMissing",
        f"{bucket.uri} does not exist: neither a file nor a folder of that name",
        next_step="Correct bucket and path; the store may also be another one (AWS_ENDPOINT_URL)",
    )


def _forbidden(bucket: Bucket, said: str) -> Refused:
    return Refused(
        "AccessDenied",
        f"{bucket.uri} may not be read with these credentials",
        evidence=_evidence(said),
        next_step=_credentials_step(bucket),
    )


def _credentials_step(bucket: Bucket) -> str:
    if bucket.secret:
        return (
            f"Correct the keys in Secret {bucket.secret}, and let them list and read "
            f"the bucket {bucket.name}"
        )
    return "Name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in secretName"
