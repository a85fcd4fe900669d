"""Two small duties that go on while a cluster is up: GPUs on the nodes, volumes for the claims.

Runs as a server of its own (`python -m kit.keeper`).  Watches only wake it; each round lists
what there is and makes it so, which needs no memory and survives any restart.
"""

import json
import shutil
import ssl
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError

STORAGE_CLASS = "oikyo-local"
PROVISIONER = "oikyo.dev/local"
GPU = "nvidia.com/gpu"
Json = dict[str, Any]  # objects of the Kubernetes API, read here only by key


class Api:
    """The API server, spoken to over plain HTTPS with the client certificate keeper.crt."""

    def __init__(self, server: str, pki: Path) -> None:
        self.server = server
        self.context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self.context.load_cert_chain(pki / "keeper.crt", pki / "keeper.key")

    def open(self, method: str, path: str, body: object = None, kind: str = "json") -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": f"application/{kind}", "Accept": "application/json"}
        request = urllib.request.Request(self.server + path, data, headers, method=method)
        return urllib.request.urlopen(request, context=self.context, timeout=400)

    def call(self, method: str, path: str, body: object = None, kind: str = "json") -> Json:
        with self.open(method, path, body, kind) as answer:
            return cast(Json, json.load(answer))

    def list(self, path: str) -> list[Json]:
        return cast(list[Json], self.call("GET", path)["items"])

    def watch(self, path: str) -> Iterator[bytes]:
        with self.open("GET", f"{path}?watch=true&timeoutSeconds=300") as lines:
            yield from lines


def capacity_patch(node: Json, count: int) -> list[Json]:
    """Return the JSON patch that gives a node its GPUs, empty where it has them."""
    patch = []
    for field in ("capacity", "allocatable"):
        present = node.get("status", {}).get(field)
        if present is not None and present.get(GPU) != str(count):
            path = f"/status/{field}/{GPU.replace('/', '~1')}"
            patch.append({"op": "add", "path": path, "value": str(count)})
    return patch


def volume_for(claim: Json, folder: Path) -> Json:
    """Return the volume of a claim: a folder of the machine, which every node sees."""
    about, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{about['uid']}",
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "uid": about["uid"],
                "namespace": about["namespace"],
                "name": about["name"],
            },
        },
    }


def waits_for_volume(claim: Json) -> bool:
    """Tell whether a claim is ours to serve."""
    spec = claim["spec"]
    fresh = not spec.get("volumeName") and "deletionTimestamp" not in claim["metadata"]
    return fresh and spec.get("storageClassName") == STORAGE_CLASS


def to_delete(volume: Json) -> bool:
    """Tell whether a volume of ours has lost its claim and is not to be retained."""
    notes = volume["metadata"].get("annotations", {})
    ours = notes.get("pv.kubernetes.io/provisioned-by") == PROVISIONER
    released = volume.get("status", {}).get("phase") in ("Released", "Failed")
    return ours and released and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"


class Keeper:
    """The rounds."""

    def __init__(self, api: Api, volumes: Path, gpus: int) -> None:
        self.api, self.volumes, self.gpus = api, volumes, gpus
        self.wake = threading.Event()

    def round(self) -> None:
        for node in self.api.list("/api/v1/nodes"):
            if patch := capacity_patch(node, self.gpus):
                path = f"/api/v1/nodes/{node['metadata']['name']}/status"
                self.api.call("PATCH", path, patch, kind="json-patch+json")
        for claim in self.api.list("/api/v1/persistentvolumeclaims"):
            if waits_for_volume(claim):
                self.provide(claim)
        for volume in self.api.list("/api/v1/persistentvolumes"):
            if to_delete(volume):
                shutil.rmtree(self.volumes / volume["metadata"]["name"], ignore_errors=True)
                name = volume["metadata"]["name"]
                self.api.call("DELETE", f"/api/v1/persistentvolumes/{name}")

    def provide(self, claim: Json) -> None:
        folder = self.volumes / f"pvc-{claim['metadata']['uid']}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)  # a hostPath knows no fsGroup, and pods here are not root
        try:
            self.api.call("POST", "/api/v1/persistentvolumes", volume_for(claim, folder))
        except HTTPError as error:
            if error.code != 409:  # made in an earlier round, not bound yet
                raise

    def watch(self, path: str) -> None:
        while True:
            try:
                for _ in self.api.watch(path):
                    self.wake.set()
            except OSError:
                time.sleep(1)  # the API server is away; the rounds say so

    def run(self) -> None:
        for path in ("nodes", "persistentvolumeclaims", "persistentvolumes"):
            threading.Thread(target=self.watch, args=(f"/api/v1/{path}",), daemon=True).start()
        while True:
            try:
                self.wake.clear()
                self.round()
            except OSError as error:
                print(f"this round failed, the next is in 1 s: {error}", flush=True)
                time.sleep(1)
            self.wake.wait(5)


if __name__ == "__main__":
    Keeper(Api(sys.argv[1], Path(sys.argv[2])), Path(sys.argv[3]), int(sys.argv[4])).run()
