"""A real API server with controllers and no nodes, and a hand that plays the kubelet."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
import yaml

import scenes
from kit.cluster import Cluster
from oikyo.api.stages import LastWords, Stage

REPOSITORY = Path(__file__).resolve().parents[1]
USER_AGENT = "oikyo-controller"
STAGES: tuple[Stage, ...] = ("prepare", "train", "evaluate")
T = TypeVar("T")
Object = dict[str, Any]
_NUMBERS = count(1)
MERGE = {"Content-Type": "application/merge-patch+json"}


def eventually(
    ask: Callable[[], T | Literal[False] | None], what: str, seconds: float = 120.0
) -> T:
    """The first truthy answer; fails naming `what` when none comes in time."""
    end = time.monotonic() + seconds
    while True:
        if answer := ask():
            return answer
        assert time.monotonic() < end, f"waited {seconds:.0f} s in vain: {what}"
        time.sleep(0.1)


class Api:
    """The API server by HTTP, as its administrator."""

    def __init__(self, cluster: Cluster) -> None:
        text = yaml.safe_load(cluster.kubeconfig.read_text())
        pki = cluster.state / "pki"
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        server = text["clusters"][0]["cluster"]["server"]
        self.http = httpx.Client(base_url=server, verify=context, trust_env=False, timeout=60)

    def get(self, path: str) -> Object | None:
        answer = self.http.get(path)
        return None if answer.status_code == 404 else self._good(answer)

    def items(self, path: str, labels: str = "") -> list[Object]:
        found = self._good(self.http.get(path, params={"labelSelector": labels} if labels else {}))
        return list(found["items"])

    def create(self, path: str, body: Object) -> Object:
        return self._good(self.http.post(path, json=body))

    def patch(self, path: str, body: Object) -> Object:
        return self._good(self.http.patch(path, content=json.dumps(body), headers=MERGE))

    def delete(self, path: str, policy: str = "Background") -> None:
        answer = self.http.request("DELETE", path, params={"propagationPolicy": policy})
        if answer.status_code != 404:
            self._good(answer)

    @staticmethod
    def _good(answer: httpx.Response) -> Object:
        assert answer.is_success, f"{answer.request.method} {answer.url}: {answer.text[:600]}"
        found: Object = answer.json()
        return found


@dataclass
class Place:
    """One namespace of the test, and what is done in it."""

    api: Api
    namespace: str

    def path(self, plural: str, name: str = "", group: str = "") -> str:
        root = f"/apis/{group}" if group else "/api/v1"
        tail = f"/{name}" if name else ""
        return f"{root}/namespaces/{self.namespace}/{plural}{tail}"

    def ours(self, plural: str, name: str = "") -> str:
        return self.path(plural, name, "oikyo.dev/v1alpha1")

    def apply_job(self, name: str, **spec: Any) -> Object:
        body = {
            "apiVersion": "oikyo.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": {
                "model": {"base": "hf://example/encoder"},
                "task": "TextClassification",
                "data": {"sources": [{"uri": "configmap://tiny/rows.jsonl"}]},
                **spec,
            },
        }
        return self.api.create(self.ours("finetunejobs"), body)

    def job(self, name: str) -> Object:
        return self.api.get(self.ours("finetunejobs", name)) or {}

    def status(self, name: str) -> Object:
        return dict(self.job(name).get("status", {}))

    def condition(self, name: str, kind: str) -> Object:
        found = self.status(name).get("conditions", ())
        return next((c for c in found if c["type"] == kind), {})

    def phase(self, name: str) -> str:
        return str(self.status(name).get("phase", ""))

    def stage_job(self, name: str) -> Object | None:
        return self.api.get(self.path("jobs", name, "batch/v1"))

    def stage_jobs(self) -> list[str]:
        return [j["metadata"]["name"] for j in self.api.items(self.path("jobs", group="batch/v1"))]

    def pods(self, labels: str) -> list[Object]:
        return self.api.items(self.path("pods"), labels)

    def finish(self, job: str, stage: Stage, attempt: int = 1, *, accepted: bool = True) -> None:
        """Play the kubelet: every pod of this stage runs and ends well, saying what a stage says."""
        said = LastWords(
            stage=stage, attempt=attempt, result=scenes.result(stage, accepted=accepted)
        )
        for pod in self.await_pods(job, stage, attempt):
            self.run_pod(pod)
            self.end_pod(pod, 0, said.json_line())

    def finish_all(self, job: str) -> None:
        """Every stage of a job without a deployment ends well."""
        for stage in STAGES:
            self.finish(job, stage)

    def fail(self, job: str, stage: Stage, attempt: int, code: int, message: str) -> None:
        for pod in self.await_pods(job, stage, attempt):
            self.run_pod(pod)
            self.end_pod(pod, code, message)

    def await_pods(self, job: str, stage: str, attempt: int = 1) -> list[Object]:
        labels = f"oikyo.dev/job={job},oikyo.dev/stage={stage},oikyo.dev/attempt={attempt}"
        return eventually(lambda: self.pods(labels), f"pods of {stage} {attempt} of {job}")

    def run_pod(self, pod: Object, address: str = "127.0.0.1") -> None:
        running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        self._pod_status(pod, "Running", running, podIP=address)

    def end_pod(self, pod: Object, code: int, message: str) -> None:
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "message": message}
        phase = "Failed" if code else "Succeeded"
        self._pod_status(pod, phase, {"terminated": ended})

    def _pod_status(self, pod: Object, phase: str, state: Object, **more: Any) -> None:
        container = pod["spec"]["containers"][0]
        told = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "registry.example/oikyo-trainer@sha256:" + "cd" * 32,
            "ready": phase == "Running",
            "restartCount": 0,
            "state": state,
        }
        ready = {"type": "Ready", "status": "True" if phase == "Running" else "False"}
        before = pod.get("status", {}).get("conditions", ())
        others = [one for one in before if one["type"] != "Ready"]  # who placed it, or took it away
        conditions = [*others, ready]
        status = {"phase": phase, "containerStatuses": [told], "conditions": conditions, **more}
        path = self.path("pods", pod["metadata"]["name"])
        self.api.patch(f"{path}/status", {"status": status})

    def everything(self) -> dict[str, str]:
        """Name -> resource version of what the operator makes: equal means untouched."""
        found: dict[str, str] = {}
        groups = {
            "batch/v1": ("jobs",),
            "": ("services", "persistentvolumeclaims"),
            "apps/v1": ("deployments",),
            "oikyo.dev/v1alpha1": ("finetunejobs", "modelversions", "modelendpoints"),
            "policy/v1": ("poddisruptionbudgets",),
            "autoscaling/v2": ("horizontalpodautoscalers",),
        }
        for group, plurals in groups.items():
            for plural in plurals:
                for item in self.api.items(self.path(plural, group=group)):
                    metadata = item["metadata"]
                    found[f"{plural}/{metadata['name']}"] = metadata["resourceVersion"]
        return found


@contextmanager
def api_server(folder: Path, *, gangs: bool = False) -> Iterator[Cluster]:
    """A cluster without nodes that has the project's kinds; `gangs` as in Cluster.up."""
    made = Cluster.up(folder, node_count=0, controllers=True, gangs=gangs)
    try:
        made.kubectl("apply", "--server-side", "--validate=strict", "-f", str(REPOSITORY / "crds"))
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=180s")
        yield made
    finally:
        made.down()


@contextmanager
def a_place(api: Api) -> Iterator[Place]:
    """A namespace of its own, with the default account that pods need."""
    made = Place(api, f"wire-{next(_NUMBERS)}")
    api.create("/api/v1/namespaces", {"metadata": {"name": made.namespace}})
    eventually(lambda: api.get(made.path("serviceaccounts", "default")), "the default account")
    yield made
    api.delete(f"/api/v1/namespaces/{made.namespace}")


@dataclass
class Audit:
    """What the operator sent, by the API server's own audit log."""

    log: Path
    start: int = field(default=0)

    def mark(self) -> None:
        self.start = self.log.stat().st_size

    def settle(self, namespace: str) -> None:
        """Wait until two seconds have passed without a write, and mark: what comes later is new."""

        def still() -> bool:
            self.mark()
            time.sleep(2)
            return not self.writes(namespace)

        eventually(still, "the writes to end")
        self.mark()

    def refused(self) -> int:
        """Requests since the mark that the server took for nobody's."""
        time.sleep(0.3)
        with self.log.open("rb") as log:
            log.seek(self.start)
            entries = map(json.loads, log)
            return sum(one.get("responseStatus", {}).get("code") == 401 for one in entries)

    def writes(self, namespace: str) -> list[str]:
        """Mutating requests since the mark, leases left out: "create jobs prep-1"."""
        time.sleep(0.3)  # the log is written behind the answer
        told: list[str] = []
        with self.log.open("rb") as log:
            log.seek(self.start)
            for line in log:
                entry = json.loads(line)
                about = entry.get("objectRef", {})
                if entry["verb"] in ("get", "list", "watch") or about.get("resource") == "leases":
                    continue
                if entry.get("userAgent") != USER_AGENT or about.get("namespace") != namespace:
                    continue
                parts = (entry["verb"], about.get("resource"), about.get("subresource"))
                name = about.get("name", "")
                told.append(" ".join(p for p in parts if p) + f" {name}".rstrip())
        return told
