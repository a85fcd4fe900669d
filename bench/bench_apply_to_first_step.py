"""From `kubectl apply` to the first optimizer step, split into its parts, against a plain batch/v1 Job.

    make cluster-up && PYTHONPATH=tests:tests/cluster python bench/bench_apply_to_first_step.py [PAIRS]

needs the chart, a claim `examples` with the data of examples/text-classification and the pod `loader`,
as tests/cluster/road.py puts them there (OIKYO_KEEP_CLUSTER=1 keeps them after the test). The peer runs
the same train command in the same image on the data that oikyo has just prepared. One JSON line a pair,
then the medians. Wall times of pods and steps; the parts come from the API server's own timestamps,
which are whole seconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from datetime import datetime
from functools import partial
from typing import Any

import yaml

from kit import places
from kit.binaries import binary
from kit.cluster import Cluster
from kube import Kube, wait_for
from road import LOADER, NAMESPACE, ROOT

FIRST_STEP = "import json,sys;print(json.loads(open(sys.argv[1]).readline())['time'])"


def manifest(name: str) -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(
        (ROOT / "examples/text-classification/job.yaml").read_text()
    )
    job["metadata"]["name"] = name
    job["spec"].pop("deployment", None)
    job["spec"]["training"] = {"method": "LoRA", "maxSteps": 3, "maxLength": 64}
    job["spec"]["evaluation"] = {"gates": [{"metric": "f1_macro", "min": "0.0"}]}
    # The loader sees the history because the workspace is its own claim.
    job["spec"]["storage"] = {"claimName": "examples"}
    return job


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def first_step(kube: Kube, run: str) -> float:
    """When the first step was logged, by the trainer's clock, which is this machine's."""
    path = f"/examples/runs/{run}/train/history.jsonl"

    def look() -> float | None:
        text = kube(
            "exec", "-n", NAMESPACE, LOADER, "--", "python", "-c", FIRST_STEP, path, check=False
        )
        return float(text) if text.strip() else None

    return wait_for(f"the first step of {run}", look, 300, every=1)


def pod_of(kube: Kube, selector: str) -> dict[str, Any]:
    return kube.items("pods", NAMESPACE, selector)[0]


def started(pod: dict[str, Any]) -> float:
    state = pod["status"]["containerStatuses"][0]["state"]
    return moment((state.get("running") or state["terminated"])["startedAt"])


def ours(kube: Kube, name: str) -> tuple[dict[str, float], dict[str, Any]]:
    """The parts of oikyo's way, and the train pod as a pattern for the peer."""
    begun = time.time()
    kube.apply(manifest(name), NAMESPACE)
    uid = kube.get("ftj", name, NAMESPACE)["metadata"]["uid"]
    step = first_step(kube, f"{name}-{uid[:8]}")
    prepare = pod_of(kube, f"oikyo.dev/job={name},oikyo.dev/stage=prepare")
    train = pod_of(kube, f"oikyo.dev/job={name},oikyo.dev/stage=train")
    prepared = moment(
        prepare["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"]
    )
    parts = {
        "decide_and_create": moment(prepare["metadata"]["creationTimestamp"]) - begun,
        "prepare_pod_start": started(prepare) - moment(prepare["metadata"]["creationTimestamp"]),
        "prepare_work": prepared - started(prepare),
        "hand_over": moment(train["metadata"]["creationTimestamp"]) - prepared,
        "train_pod_start": started(train) - moment(train["metadata"]["creationTimestamp"]),
        "import_load_first_step": step - started(train),
        "apply_to_first_step": step - begun,
        "train_create_to_first_step": step - moment(train["metadata"]["creationTimestamp"]),
    }
    return parts, train


def peer(kube: Kube, name: str, pattern: dict[str, Any]) -> float:
    """The same train command as a plain Job; seconds from its creation to the first step."""
    spec = json.loads(pattern["metadata"]["annotations"]["oikyo.dev/spec"])
    spec["run"] = name
    template = {
        "metadata": {"annotations": {"oikyo.dev/spec": json.dumps(spec)}},
        "spec": {
            key: pattern["spec"][key]
            for key in ("containers", "volumes", "securityContext", "restartPolicy")
        },
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}
    begun = time.time()
    kube.apply({**job, "spec": {"backoffLimit": 0, "template": template}}, NAMESPACE)
    took = first_step(kube, name) - begun
    kube("delete", "job", name, "-n", NAMESPACE, "--wait=true")
    return took


def completed(kube: Kube, name: str) -> str | None:
    """When the job ended, or None."""
    ended: str | None = kube.get("ftj", name, NAMESPACE)["status"].get("completionTime")
    return ended


def main(pairs: int) -> None:
    cluster = Cluster.open(places.default_state())
    kube = Kube(binary("kubectl"), cluster.kubeconfig)
    lines = []
    for number in range(pairs):
        name = f"bench-{int(time.time())}-{number}"
        parts, pattern = ours(kube, name)
        wait_for("the end", partial(completed, kube, name), 300)
        parts["peer_create_to_first_step"] = peer(kube, f"{name}-peer", pattern)
        parts["ratio"] = parts["train_create_to_first_step"] / parts["peer_create_to_first_step"]
        kube("delete", "ftj", name, "-n", NAMESPACE)
        lines.append(parts)
        print(json.dumps({key: round(value, 2) for key, value in parts.items()}), flush=True)
    medians = {key: round(statistics.median(line[key] for line in lines), 2) for key in lines[0]}
    print(json.dumps({"pairs": pairs, "median": medians}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
