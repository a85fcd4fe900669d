"""Bad input on a real cluster: each refused with a sentence, before any training pod exists.

Runs before the story of test_whole_road.py and leaves nothing behind that it could see.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kit.binaries import binary
from kube import Kube, condition, wait_for
from road import LOADER, NAMESPACE, RESTRICTED, SYSTEM, Road

FOLDER = "/examples/bad"
MODEL = "pvc://examples/text-classification/model"
GOOD = "pvc://examples/text-classification/docstrings.jsonl"

SPOIL = """
import json, os, shutil, sys
folder, model = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
rows = [{"text": f"text number {n}", "label": "ab"[n % 2]} for n in range(200)]
def write(name, rows):
    with open(f"{folder}/{name}", "w") as file:
        file.writelines(json.dumps(row) + "\\n" for row in rows)
open(f"{folder}/empty.jsonl", "w").close()
write("broken.jsonl", rows)
lines = open(f"{folder}/broken.jsonl").read().splitlines()
lines[6] = '{"text": "half a ro'
open(f"{folder}/broken.jsonl", "w").write("\\n".join(lines))
typo = {"text": "one more text", "label": "A "}
write("mistyped.jsonl", rows[:4] + [typo] + rows[4:])
write("single.jsonl", [{**row, "label": "only"} for row in rows])
write("few.jsonl", rows[:40])
for name in ("pickled", "no-config"):
    shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
    shutil.copytree(model, f"{folder}/{name}")
os.remove(f"{folder}/pickled/model.safetensors")
open(f"{folder}/pickled/pytorch_model.bin", "wb").write(b"\\x80\\x04.")
os.remove(f"{folder}/no-config/config.json")
"""


def manifest(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "oikyo.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"base": MODEL},
            "task": "TextClassification",
            "data": {"sources": [{"uri": GOOD}]},
            **spec,
        },
    }


def data(uri: str, **more: Any) -> dict[str, Any]:
    return {"data": {"sources": [{"uri": uri}], **more}}


def bad(name: str) -> str:
    return f"pvc://examples/bad/{name}"


@pytest.fixture(scope="module")
def spoiled(road: Road) -> Iterator[Kube]:
    road.kube.python(LOADER, NAMESPACE, SPOIL, FOLDER, "/examples/text-classification/model")
    yield road.kube
    road.kube("delete", "ftj", "--all", "-n", NAMESPACE, "--timeout=300s")

    def gone() -> bool:
        return not road.kube.items("pods,jobs", NAMESPACE, "oikyo.dev/job")

    wait_for("the pods of refused jobs to go", gone, 300)
    road.kube.python(LOADER, NAMESPACE, "import shutil, sys; shutil.rmtree(sys.argv[1])", FOLDER)


def test_a_release_of_helm_3_is_upgraded_by_helm_4(road: Road) -> None:
    for helm in ("helm3", "helm"):
        command = [str(binary(helm)), f"--kubeconfig={road.kube.kubeconfig}", "history", "oikyo"]
        done = subprocess.run(
            [*command, "-n", SYSTEM, "-o", "json"], capture_output=True, text=True, check=True
        )
        statuses = [revision["status"] for revision in json.loads(done.stdout)]
        assert statuses[-2:] == ["superseded", "deployed"]
    assert RESTRICTED.partition("=")[0] in str(road.kube.get("namespace", SYSTEM, SYSTEM))


@pytest.mark.parametrize(
    ("name", "spec", "says"),
    [
        ("unknown-field", {"trainning": {}}, ['unknown field "spec.trainning"']),
        ("metric", {"evaluation": {"gates": [{"metric": "f1", "min": "0.5"}]}}, ["f1_macro"]),
        ("rank", {"training": {"lora": {"rank": -1}}}, ["rank", "greater than or equal to 1"]),
        ("dots", data("pvc://examples/../x.csv"), ["'..'"]),
        ("n" * 64, {}, ["52 characters"]),
    ],
    ids=["unknown-field", "misspelt-metric", "negative-rank", "dots-in-a-path", "long-name"],
)
def test_a_bad_manifest_is_refused_by_kubectl_apply(
    spoiled: Kube, name: str, spec: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(AssertionError) as refused:
        spoiled.apply(manifest(name, **spec), NAMESPACE)
    assert all(words in str(refused.value) for words in says), refused.value


@pytest.mark.parametrize(
    ("name", "spec", "says"),
    [
        ("missing-file", data(bad("nowhere.jsonl")), ["nowhere.jsonl does not exist"]),
        ("empty-file", data(bad("empty.jsonl")), ["empty.jsonl is empty"]),
        ("unreadable-row", data(bad("broken.jsonl")), ["broken.jsonl:7"]),
        (
            "mistyped-label",
            data(bad("mistyped.jsonl")),
            ["label-typo: 1 of 201 rows", "mistyped.jsonl:5", "Write the label as the others do"],
        ),
        ("single-class", data(bad("single.jsonl")), ["'only'", "nothing to tell apart"]),
        ("few-rows", data(bad("few.jsonl"), minTestRows=30), ["minTestRows is 30"]),
        ("pickled", {"model": {"base": bad("pickled")}}, ["safetensors"]),
        ("no-config", {"model": {"base": bad("no-config")}}, ["config.json"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_data_and_models_end_the_job_before_any_training_pod(
    spoiled: Kube, name: str, spec: dict[str, Any], says: list[str]
) -> None:
    spoiled.apply(manifest(name, **spec), NAMESPACE)

    def failed() -> dict[str, Any] | None:
        job = spoiled.get("ftj", name, NAMESPACE)
        return job if job.get("status", {}).get("phase") == "Failed" else None

    job = wait_for(f"the refusal of {name}", failed, 600)
    diagnosis = job["status"]["diagnosis"]
    assert all(words in str(diagnosis) for words in says), diagnosis
    assert diagnosis["nextStep"]
    assert condition(job, "Succeeded")["status"] == "False"
    described = spoiled("describe", "ftj", name, "-n", NAMESPACE)
    assert all(words in described for words in says), described
    assert not spoiled.items("pods", NAMESPACE, f"oikyo.dev/job={name},oikyo.dev/stage=train")


@pytest.mark.parametrize(
    ("name", "spec", "says"),
    [
        ("no-claim", data("pvc://nowhere/rows.jsonl"), ["nowhere", "does not exist"]),
        ("no-storage", {"storage": {"claimName": "nowhere"}}, ["nowhere does not exist"]),
        ("no-config-map", data("configmap://nowhere/rows.csv"), ['configmap "nowhere" not found']),
        (
            "no-secret",
            {"model": {"base": "hf://org/model@main", "secretName": "nowhere"}},
            ['secret "nowhere" not found'],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_job_waits_for_what_is_missing_and_says_what_it_is(
    spoiled: Kube, name: str, spec: dict[str, Any], says: list[str]
) -> None:
    spoiled.apply(manifest(name, **spec), NAMESPACE)

    def stalled() -> dict[str, Any] | None:
        # A kubelet under load first says "failed to sync configmap cache", then what is missing.
        found = spoiled.get("ftj", name, NAMESPACE).get("status", {}).get("diagnosis") or {}
        return found if all(words in str(found) for words in says) else None

    diagnosis = wait_for(f"the diagnosis of {name}", stalled, 600)
    assert "kubectl" in diagnosis["nextStep"]
    assert not spoiled.items("pods", NAMESPACE, f"oikyo.dev/job={name},oikyo.dev/stage=train")
    spoiled("delete", "ftj", name, "-n", NAMESPACE, "--timeout=300s")
