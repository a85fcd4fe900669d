"""Manifests are pure: what a plan becomes on the wire."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenes
from oikyo.api.finetunejob import FineTuneJob
from oikyo.api.meta import ANNOTATION_HASH, ANNOTATION_SPEC
from oikyo.api.modelendpoint import ModelEndpointSpec
from oikyo.api.stages import AdapterSpec, EvaluateSpec, PrepareSpec, ServeSpec, TrainSpec
from oikyo.controller import manifests
from oikyo.controller.manifests import Manifest, Settings, pod
from oikyo.controller.observed import ClaimPlan, Mounts, ServerPlan, StagePlan
from oikyo.controller.resolve import prepare_spec, train_spec

IMAGES = Settings("trainer:1", "vllm:1")


def prepared(job: FineTuneJob, attempt: int = 1) -> StagePlan:
    return StagePlan(prepare_spec(job, Mounts(), attempt))


def trained(job: FineTuneJob, nodes: int = 1, processes: int = 1) -> StagePlan:
    result = scenes.result("prepare")
    return StagePlan(train_spec(job, result, 1), nodes, processes)  # type: ignore[arg-type]


def only_container(manifest: Manifest) -> Manifest:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return dict(container)


def environment(manifest: Manifest) -> dict[str, object]:
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in only_container(manifest)["env"]}


def places(manifest: Manifest) -> dict[str, str]:
    return {m["mountPath"]: m["name"] for m in only_container(manifest)["volumeMounts"]}


def test_one_worker_runs_the_stage_command_without_torchrun() -> None:
    job = scenes.job()
    (made,) = manifests.stage(job, trained(job), IMAGES)
    assert " ".join(only_container(made)["command"]) == (
        "python -m oikyo_trainer train --spec /etc/oikyo/spec.json --workspace /workspace"
    )


def test_two_nodes_get_a_headless_service_and_a_rendezvous_at_worker_zero() -> None:
    job = scenes.job(training={"nodes": 2}, storage={"accessMode": "ReadWriteMany"})
    service, made = manifests.stage(job, trained(job, 2, 3), IMAGES)
    command = " ".join(only_container(made)["command"])
    assert "--nnodes 2 --nproc-per-node 3 --node-rank $(JOB_COMPLETION_INDEX)" in command
    assert "--rdzv-endpoint tickets-train-1-0.tickets-train-1:29500" in command
    # Seven days, as the job: whoever gives a waiting gang up is the controller.
    assert "--rdzv-conf timeout=604800 " in command
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    spec = made["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (2, 2, 0)
    template = spec["template"]
    assert template["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()


def test_no_stage_is_the_first_process_of_its_namespace_which_would_ignore_a_stop() -> None:
    job = scenes.job(training={"nodes": 2}, storage={"accessMode": "ReadWriteMany"})
    for plan in (prepared(job), trained(job), trained(job, 2, 3)):
        made = manifests.stage(job, plan, IMAGES)[-1]
        assert made["spec"]["template"]["spec"]["shareProcessNamespace"] is True


def test_a_queue_gets_a_suspended_job_with_its_label_and_no_other_job_is_held() -> None:
    queued = scenes.job(scheduling={"queueName": "team-a", "priorityClassName": "high"})
    for plan in (prepared(queued), trained(queued)):
        (made,) = manifests.stage(queued, plan, IMAGES)
        assert made["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
        assert made["spec"]["suspend"] is True
        assert made["spec"]["template"]["spec"]["priorityClassName"] == "high"
    (free,) = manifests.stage(scenes.job(), prepared(scenes.job()), IMAGES)
    assert "suspend" not in free["spec"]


def test_training_stands_on_the_nodes_that_were_asked_for_and_data_is_prepared_anywhere() -> None:
    job = scenes.job(
        training={"nodes": 2},
        storage={"accessMode": "ReadWriteMany"},
        scheduling={
            "nodeSelector": {"gpu": "h100"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "topologyKey": "topology.kubernetes.io/zone",
        },
    )
    made = manifests.stage(job, trained(job, 2), IMAGES)[-1]["spec"]["template"]["spec"]
    assert made["nodeSelector"] == {"gpu": "h100"}
    assert made["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert made["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/zone"
    (anywhere,) = manifests.stage(job, prepared(job), IMAGES)
    assert not {"nodeSelector", "tolerations"} & anywhere["spec"]["template"]["spec"].keys()


def test_several_processes_of_one_node_meet_on_the_loopback() -> None:
    job = scenes.job()
    (made,) = manifests.stage(job, trained(job, 1, 2), IMAGES)
    assert "--rdzv-endpoint localhost:29500" in " ".join(only_container(made)["command"])


def test_the_pod_carries_its_spec_and_reads_the_same_back() -> None:
    job = scenes.job()
    plan = prepared(job)
    (made,) = manifests.stage(job, plan, IMAGES)
    text = made["spec"]["template"]["metadata"]["annotations"][ANNOTATION_SPEC]
    assert PrepareSpec.model_validate_json(text) == plan.spec
    (volume,) = [v for v in made["spec"]["template"]["spec"]["volumes"] if v["name"] == "spec"]
    (item,) = volume["downwardAPI"]["items"]
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{ANNOTATION_SPEC}']"


def test_only_prepare_sees_sources_and_the_hub_token() -> None:
    sources = [{"uri": "pvc://datasets/a.jsonl"}, {"uri": "configmap://tiny/rows.jsonl"}]
    model = {"base": "pvc://models/minilm", "secretName": "hub"}
    job = scenes.job(model=model, data={"sources": sources})
    (first,) = manifests.stage(job, prepared(job), IMAGES)
    (second,) = manifests.stage(job, trained(job), IMAGES)
    assert {"/mnt/claims/datasets", "/mnt/claims/models", "/mnt/configmaps/tiny"} <= set(
        places(first)
    )
    assert environment(first)["HF_TOKEN"] == {"secretKeyRef": {"name": "hub", "key": "token"}}
    assert not any(path.startswith("/mnt") for path in places(second))
    assert "HF_TOKEN" not in environment(second)
    assert environment(second)["HF_HUB_OFFLINE"] == "1"


def test_only_prepare_gets_the_secrets_of_buckets_and_as_files() -> None:
    sources = [
        {"uri": "s3://tickets/a.jsonl", "secretName": "tickets"},
        {"uri": "s3://mails/b.jsonl", "secretName": "mails"},
        {"uri": "s3://mails/c.jsonl", "secretName": "mails"},
    ]
    model = {"base": "s3://models/minilm", "secretName": "models"}
    job = scenes.job(model=model, data={"sources": sources})
    plan = prepared(job)
    (first,) = manifests.stage(job, plan, IMAGES)
    (second,) = manifests.stage(job, trained(job), IMAGES)
    volumes = first["spec"]["template"]["spec"]["volumes"]
    named = [v["secret"]["secretName"] for v in volumes if "secret" in v]
    assert named == ["tickets", "mails", "models"]
    assert isinstance(plan.spec, PrepareSpec)
    for source in (plan.spec.model, *plan.spec.sources):
        assert source.secret in places(first)
        assert source.path == ""
    assert environment(first)["HF_TOKEN"] == {
        "secretKeyRef": {"name": "models", "key": "token", "optional": True}
    }
    assert "secret" not in json.dumps(second["spec"]["template"]["spec"]["volumes"])


def test_only_prepare_gets_the_token_of_the_model_that_augments() -> None:
    endpoint = {"url": "http://paraphraser/v1", "model": "m", "secretName": "paraphraser"}
    data = {"sources": [{"uri": "pvc://d/a.jsonl"}], "augment": {"endpoint": endpoint}}
    job = scenes.job(data=data)
    plan = prepared(job)
    (first,) = manifests.stage(job, plan, IMAGES)
    (second,) = manifests.stage(job, trained(job), IMAGES)
    assert isinstance(plan.spec, PrepareSpec)
    assert plan.spec.augment_secret in places(first)
    assert "paraphraser" not in json.dumps(second["spec"]["template"]["spec"]["volumes"])


def test_sources_are_mounted_where_the_decision_says_they_are() -> None:
    job = scenes.job(data={"sources": [{"uri": "pvc://datasets/a/b.jsonl"}]})
    plan = prepared(job)
    (made,) = manifests.stage(job, plan, IMAGES)
    assert isinstance(plan.spec, PrepareSpec)
    for source in (plan.spec.model, *plan.spec.sources):
        assert any(source.path.startswith(f"{place}/") for place in places(made)), source.path


def test_a_source_on_the_workspace_claim_is_mounted_once_more_not_claimed_twice() -> None:
    job = scenes.job(
        storage={"claimName": "datasets"}, data={"sources": [{"uri": "pvc://datasets/a.jsonl"}]}
    )
    (made,) = manifests.stage(job, prepared(job), IMAGES)
    volumes = made["spec"]["template"]["spec"]["volumes"]
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v
    ]
    assert sorted(claims) == ["datasets", "models"]
    assert places(made)["/mnt/claims/datasets"] == "workspace"


@pytest.mark.parametrize(
    ("stage", "cpu", "gpus"),
    [("prepare", "500m", None), ("train", "8", "2"), ("evaluate", "500m", "1")],
)
def test_gpus_are_held_only_by_stages_that_compute(stage: str, cpu: str, gpus: str | None) -> None:
    job = scenes.job(training={"resources": {"cpu": "8", "memory": "32Gi", "gpus": 2}})
    spec = {
        "prepare": prepared(job).spec,
        "train": trained(job).spec,
        "evaluate": evaluate_spec(job),
    }[stage]
    (made,) = manifests.stage(job, StagePlan(spec), IMAGES)
    resources = only_container(made)["resources"]
    assert resources["requests"]["cpu"] == cpu
    assert "cpu" not in resources["limits"]
    assert resources["limits"]["memory"] == "32Gi"
    assert resources["limits"].get("nvidia.com/gpu") == gpus


def evaluate_spec(job: FineTuneJob) -> EvaluateSpec:
    return EvaluateSpec(
        run="tickets-01234567",
        task=job.spec.task,
        job="tickets",
        job_uid="u",
        dataset_digest=scenes.DIGEST,
        model_digest=scenes.DIGEST,
        base_uri=job.spec.model.base,
        model_name="tickets",
        training=job.spec.training,
        evaluation=job.spec.evaluation,
    )


def serving(**spec: object) -> tuple[Manifest, ...]:
    endpoint = scenes.endpoint(**spec)
    told = ServeSpec(
        model_name="tickets", version=3, task="TextClassification", path="versions/tickets/3"
    )
    plan = ServerPlan(told, "tickets-workspace", endpoint.spec)
    return manifests.server(endpoint, plan, IMAGES)


def of_kind(made: tuple[Manifest, ...], kind: str) -> Manifest | None:
    return next((m for m in made if m["kind"] == kind), None)


def test_with_an_autoscaler_nobody_else_writes_the_number_of_replicas() -> None:
    made = serving(replicas={"min": 2, "max": 5})
    deployment, scaler = of_kind(made, "Deployment"), of_kind(made, "HorizontalPodAutoscaler")
    assert deployment is not None
    assert scaler is not None
    assert "replicas" not in deployment["spec"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (2, 5)


def test_without_a_range_the_replicas_are_fixed_and_there_is_no_autoscaler() -> None:
    made = serving(replicas={"min": 2, "max": 2})
    deployment = of_kind(made, "Deployment")
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 2
    assert of_kind(made, "HorizontalPodAutoscaler") is None


def test_a_server_reads_the_workspace_and_never_writes_it() -> None:
    deployment = of_kind(serving(), "Deployment")
    assert deployment is not None
    mounts = {m["mountPath"]: m for m in only_container(deployment)["volumeMounts"]}
    assert mounts["/workspace"]["readOnly"] is True


def test_vllm_serves_the_folder_of_the_version_from_its_own_image() -> None:
    deployment = of_kind(serving(runtime="VLLM", resources={"gpus": 2}), "Deployment")
    assert deployment is not None
    container = only_container(deployment)
    assert container["image"] == "vllm:1"
    assert " ".join(container["command"]) == (
        "vllm serve /workspace/versions/tickets/3 --served-model-name tickets --port 8000 "
        "--tensor-parallel-size 2"
    )
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"


def test_vllm_serves_adapters_by_name_on_their_base() -> None:
    endpoint = scenes.endpoint(runtime="VLLM")
    refunds = AdapterSpec(name="refunds", model_name="r", version=1, path="versions/r/1")
    told = ServeSpec(
        model_name="tickets",
        version=3,
        task="TextGeneration",
        path="versions/tickets/3",
        adapters=(refunds,),
        base="models/abcd",
        lora_rank=48,
    )
    made = manifests.server(endpoint, ServerPlan(told, "workspace", endpoint.spec), IMAGES)
    deployment = of_kind(made, "Deployment")
    assert deployment is not None
    assert " ".join(only_container(deployment)["command"]) == (
        "vllm serve /workspace/models/abcd --served-model-name models/abcd --port 8000 "
        "--tensor-parallel-size 1 --enable-lora --max-loras 2 --max-lora-rank 64 "
        "--lora-modules tickets=/workspace/versions/tickets/3 refunds=/workspace/versions/r/1"
    )


def every_template() -> list[Manifest]:
    job = scenes.job()
    made = [
        *manifests.stage(job, prepared(job), IMAGES),
        *manifests.stage(job, trained(job, 2, 2), IMAGES),
        *serving(),
        *serving(runtime="VLLM"),
    ]
    return [m["spec"]["template"]["spec"] for m in made if "template" in m["spec"]]


@pytest.mark.parametrize("spec", every_template())
def test_every_pod_is_restricted_and_carries_no_credentials(spec: Manifest) -> None:
    (container,) = spec["containers"]
    security = container["securityContext"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsUser"] >= 10000
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "/tmp" in [m["mountPath"] for m in container["volumeMounts"]]


NAMES = st.from_regex(re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII), fullmatch=True)


@given(name=NAMES, attempt=st.integers(1, 9999), index=st.integers(0, 511))
def test_a_worker_host_name_is_a_dns_label_whatever_the_job_is_called(
    name: str, attempt: int, index: int
) -> None:
    made = manifests.stage_name(name, "evaluate", attempt)
    host = f"{made}-{index}"
    assert len(host) <= 63
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", made)
    assert made == manifests.stage_name(name, "evaluate", attempt)


@given(first=NAMES, second=NAMES)
def test_two_jobs_never_share_a_stage_name(first: str, second: str) -> None:
    if first != second and f"j{first}" != second and f"j{second}" != first:
        assert manifests.stage_name(first, "train", 1) != manifests.stage_name(second, "train", 1)


def test_the_digest_moves_with_the_intent_and_only_with_it() -> None:
    job = scenes.job()

    def digest(attempt: int) -> str:
        (made,) = manifests.stage(job, prepared(job, attempt), IMAGES)
        return str(made["metadata"]["annotations"][ANNOTATION_HASH])

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


@pytest.mark.parametrize("owned", [True, False])
def test_a_retained_claim_has_no_owner_and_a_deleted_one_has(owned: bool) -> None:
    made = manifests.claim(scenes.job(), ClaimPlan("c", "1Gi", "ReadWriteOnce", None, owned))
    owners = made["metadata"].get("ownerReferences", [])
    assert [o["uid"] for o in owners] == (["0123456789ab"] if owned else [])
    assert "storageClassName" not in made["spec"]


@pytest.mark.parametrize(
    ("cpu", "processes", "threads"),
    [("500m", 1, "1"), ("8", 1, "8"), ("8", 4, "2"), ("1", 4, "1"), ("2500m", 1, "2")],
)
def test_threads_follow_the_cpu_request(cpu: str, processes: int, threads: str) -> None:
    assert pod.threads(cpu, processes) == threads


def test_every_manifest_is_plain_json() -> None:
    job = scenes.job()
    for made in (*manifests.stage(job, trained(job, 2), IMAGES), *serving()):
        assert json.loads(json.dumps(made)) == made


def test_the_endpoint_spec_of_a_plan_is_what_the_user_wrote() -> None:
    spec = ModelEndpointSpec.model_validate({"model": "tickets", "targetCpuPercent": 55})
    scaler = of_kind(
        serving(replicas={"min": 1, "max": 2}, targetCpuPercent=spec.target_cpu_percent),
        "HorizontalPodAutoscaler",
    )
    assert scaler is not None
    (metric,) = scaler["spec"]["metrics"]
    assert metric["resource"]["target"]["averageUtilization"] == 55


def test_train_specs_reach_the_pod_whole() -> None:
    job = scenes.job(training={"learningRate": "2e-4"})
    (made,) = manifests.stage(job, trained(job), IMAGES)
    text = made["spec"]["template"]["metadata"]["annotations"][ANNOTATION_SPEC]
    assert TrainSpec.model_validate_json(text).training.learning_rate == "2e-4"
