"""The Kubernetes API: typed errors, one place that sends requests. The only file that imports kubernetes.

Mutating requests pass three doors: this process must hold the lease, a limiter keeps them to 20 a
second, and every error becomes one of ours, so that no caller reads status codes.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.config import load_incluster_config, load_kube_config
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import DynamicApiError

from oikyo.errors import ClusterError

from .clock import ServerClock
from .kinds import PODS, Kind, Object

FIELD_MANAGER = "oikyo"
USER_AGENT = "oikyo-controller"
"""By which audit logs tell the controller's writes."""
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
PAGE = 500
_TIMEOUT = aiohttp.ClientTimeout(total=15, sock_connect=5)


class NotFoundError(ClusterError):
    """The object does not exist."""


class ConflictError(ClusterError):
    """Somebody was faster, or the name is taken: look again, then decide again."""


class RefusedError(ClusterError):
    """The cluster will not have it (403, 422, 400): a person must act; slow retries."""


class NotLeaderError(ClusterError):
    """This process does not hold the lease, so it must not write."""


class BusyError(ClusterError):
    """The API server cannot answer now."""

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Credentials:
    """How to reach the API server; kopf's watches get the same."""

    server: str
    ca_path: str | None
    insecure: bool
    token: str | None
    certificate_path: str | None
    key_path: str | None


@dataclass
class Limiter:
    """At most `rate` a second in the long run, `burst` at once. Monotonic: no wall clock."""

    rate: float = 20.0
    burst: float = 40.0
    _tokens: float = 40.0
    _at: float = field(default_factory=time.monotonic)

    async def take(self) -> None:
        now = time.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        self._tokens -= 1
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self.rate)


class Cluster:
    """One connection to one API server."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self._configuration.client_session_kwargs = {"trust_env": False}
        self._api = ApiClient(self._configuration)
        self._api.user_agent = USER_AGENT
        self._client = DynamicClient(self._api)
        self._limiter = Limiter()
        self.clock = ServerClock()
        self.may_write: Callable[[], bool] = lambda: False
        """Whether this process holds the lease; set by whoever keeps it."""
        self.writes = 0
        """Mutating requests sent, leases left out."""

    @classmethod
    async def connect(cls, kubeconfig: str | None = None) -> Cluster:
        """By the pod's service account, else by a kubeconfig; sends nothing yet."""
        configuration = Configuration()
        try:
            if kubeconfig is None and TOKEN.exists():
                load_incluster_config(configuration)
            else:
                await load_kube_config(kubeconfig, client_configuration=configuration)
        except ConfigException as error:
            raise ClusterError(f"no way to an API server: {error}; set KUBECONFIG") from error
        return cls(configuration)

    def credentials(self) -> Credentials:
        """Read anew: a projected service account token is replaced every hour."""
        hook = self._configuration.refresh_api_key_hook
        if hook is not None:
            hook(self._configuration)
        bearer = self._configuration.api_key.get("BearerToken")
        return Credentials(
            server=self._configuration.host,
            ca_path=self._configuration.ssl_ca_cert,
            insecure=not self._configuration.verify_ssl,
            token=bearer.split(" ", 1)[-1].strip() if bearer else None,
            certificate_path=self._configuration.cert_file,
            key_path=self._configuration.key_file,
        )

    async def close(self) -> None:
        await self._api.close()

    async def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """A quorum read. Raises NotFoundError."""
        return await self._send("get", kind.path(namespace, name))

    async def list(
        self, kind: Kind, namespace: str | None, labels: str | None = None
    ) -> AsyncIterator[Object]:
        """Every object, page by page, as of now (no resourceVersion: a quorum read)."""
        token: str | None = None
        while True:
            page = await self._send(
                "get",
                kind.path(namespace),
                label_selector=labels or kind.labels or None,
                field_selector=kind.fields or None,
                limit=PAGE,
                _continue=token,
            )
            for item in page.get("items", []):
                yield {"apiVersion": kind.api_version, "kind": kind.kind, **item}
            token = page.get("metadata", {}).get("continue")
            if not token:
                return

    async def log(self, namespace: str, pod: str, *, follow: bool = False) -> AsyncIterator[str]:
        """Lines of a pod's container, each behind its time; until it ends when followed.

        Raises NotFoundError when the pod is gone, RefusedError while it has not begun.
        """
        # Followed, the stream is silent for as long as the pod is.
        patience = aiohttp.ClientTimeout(sock_connect=5) if follow else _TIMEOUT
        query = [("timestamps", "true"), ("follow", str(follow).lower())]
        rest = b""
        async with self._answer(
            "get", f"{PODS.path(namespace, pod)}/log", query_params=query, _request_timeout=patience
        ) as answer:
            async for chunk in answer.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line.decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    async def groups(self) -> frozenset[str]:
        """The API groups that the server offers, by discovery."""
        answer = await self._send("get", "/apis")
        return frozenset(group["name"] for group in answer.get("groups", ()))

    async def resources(self, api_version: str) -> frozenset[str]:
        """Plural names of what the server serves of one group and version; none where it has neither."""
        try:
            answer = await self._send("get", f"/apis/{api_version}")
        except NotFoundError:
            return frozenset()
        return frozenset(resource["name"] for resource in answer.get("resources", ()))

    async def create(self, kind: Kind, body: Object) -> Object:
        """Raises ConflictError when the name is taken."""
        path = kind.path(body["metadata"]["namespace"])
        return await self._write("post", path, body=body, field_manager=FIELD_MANAGER)

    async def apply(self, kind: Kind, body: Object, *, manager: str = FIELD_MANAGER) -> Object:
        """Server-side apply: the whole intent of `manager`; fields left out are given up."""
        metadata = body["metadata"]
        return await self._write(
            "patch",
            kind.path(metadata["namespace"], metadata["name"]),
            body=body,
            content_type="application/apply-patch+yaml",
            field_manager=manager,
            force_conflicts=True,
        )

    async def replace_status(self, kind: Kind, current: Object, status: Object) -> Object:
        """Put the whole status in place of the one in `current`; ConflictError if that is not the newest.

        A JSON patch: unlike an apply it removes what others wrote into the status, and unlike a merge
        patch it cannot mix two reports. The resource version keeps a stale leader out.
        """
        metadata = current["metadata"]
        version = {"path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]}
        patch = [{"op": "replace", **version}, {"op": "add", "path": "/status", "value": status}]
        return await self._write(
            "patch",
            kind.path(metadata["namespace"], metadata["name"]) + "/status",
            body=patch,
            content_type="application/json-patch+json",
            field_manager=FIELD_MANAGER,
        )

    async def delete(self, kind: Kind, target: Object) -> Object | None:
        """Delete exactly `target` (uid and version), children first. None: it was gone already."""
        metadata = target["metadata"]
        only = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": only,
        }
        try:
            path = kind.path(metadata["namespace"], metadata["name"])
            return await self._write("delete", path, body=body)
        except NotFoundError:
            return None

    async def keep_lease(self, verb: str, path: str, body: Object | None = None) -> Object:
        """For the lease alone: it must be written before this process may write anything else."""
        return await self._send(verb, path, body=body)

    async def _write(self, verb: str, path: str, **options: Any) -> Object:
        await self._limiter.take()
        if not self.may_write():
            raise NotLeaderError("this replica does not hold the lease")
        self.writes += 1
        return await self._send(verb, path, **options)

    async def _send(self, verb: str, path: str, body: Any = None, **options: Any) -> Object:
        sent = self._answer(verb, path, body=body, _request_timeout=_TIMEOUT, **options)
        async with sent as response:
            answer: Object = await response.json()
        return answer

    @asynccontextmanager
    async def _answer(
        self, verb: str, path: str, body: Any = None, **options: Any
    ) -> AsyncIterator[Any]:  # Any: aiohttp's response, by way of an untyped client
        """The server's answer, for as long as the block reads it; every error becomes one of ours."""
        try:
            answer = await self._client.request(verb, path, body, serialize=False, **options)
            self.clock.hear(answer.headers.get("Date"))
            yield answer
        except (DynamicApiError, ApiException) as error:
            raise _translated(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BusyError(f"{verb.upper()} {path}: {type(error).__name__}: {error}") from error


def _translated(error: Any) -> ClusterError:
    message = _message(error)
    status = int(error.status or 0)
    if status == 404:
        return NotFoundError(message)
    if status == 409:
        return ConflictError(message)
    if status in (400, 403, 413, 422):
        return RefusedError(message)
    headers = error.headers or {}
    after = headers.get("Retry-After", "0")
    return BusyError(f"{status}: {message}", float(after) if after.isdecimal() else 0.0)


def _message(error: Any) -> str:
    """The API server's own sentence, else the status line."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or error)
