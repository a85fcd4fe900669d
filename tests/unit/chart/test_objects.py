"""What the rendered objects grant, run and show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from oikyo.controller.config import parse
from oikyo.controller.kinds import GROUPS, WATCHED

pytestmark = pytest.mark.tools

CHART = Path(__file__).parents[3] / "charts" / "oikyo"
MONITORING = ("--api-versions", "monitoring.coreos.com/v1")
Object = dict[str, Any]
Render = Callable[..., list[Object]]
SCOPES = {"namespaced": (), "cluster": ("--set", "scope=Cluster")}


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [item for item in objects if item["kind"] == kind]


def granted(objects: list[Object]) -> set[tuple[str, str, str]]:
    """(group, resource, verb) of every rule of every role."""
    rules = [
        r for kind in ("Role", "ClusterRole") for o in of_kind(objects, kind) for r in o["rules"]
    ]
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


@pytest.fixture(params=list(SCOPES.values()), ids=list(SCOPES))
def objects(request: pytest.FixtureRequest, render: Render) -> list[Object]:
    return render(*request.param)


def test_no_rule_has_a_wildcard_or_reads_secrets(objects: list[Object]) -> None:
    rights = granted(objects)
    assert not [right for right in rights if any("*" in part for part in right)]
    closed = {"secrets", "configmaps", "nodes", "customresourcedefinitions", "namespaces"}
    assert not [right for right in rights if right[1] in closed]
    assert not [right for right in rights if right[2] in {"escalate", "bind", "impersonate"}]
    assert not [right for right in rights if right[1] in {"pods/exec", "serviceaccounts/token"}]


def test_everything_that_the_controller_watches_may_be_watched(objects: list[Object]) -> None:
    rights = granted(objects)
    needed = {(k.group, k.plural, verb) for k in WATCHED for verb in ("list", "watch")}
    assert needed <= rights


def test_groups_of_pods_may_be_asked_for_made_and_removed_and_nothing_else(
    objects: list[Object],
) -> None:
    rights = granted(objects)
    for group in GROUPS:
        verbs = {
            verb for api, plural, verb in rights if (api, plural) == (group.group, group.plural)
        }
        assert verbs == {"get", "create", "delete"}
    apis = {group.group for group in GROUPS}
    assert {plural for api, plural, _ in rights if api in apis} == {"podgroups"}


def test_roles_exist_in_every_served_namespace_and_nowhere_else(render: Render) -> None:
    objects = render("--set", "watchNamespaces={a,b}")
    places = {(o["metadata"]["name"], o["metadata"]["namespace"]) for o in of_kind(objects, "Role")}
    assert places == {("oikyo", "a"), ("oikyo", "b"), ("oikyo-lease", "ml")}
    assert not of_kind(objects, "ClusterRole")
    subjects = [s for o in of_kind(objects, "RoleBinding") for s in o["subjects"]]
    account = {"kind": "ServiceAccount", "name": "oikyo", "namespace": "ml"}
    assert all(subject == account for subject in subjects)


def test_only_cluster_scope_makes_cluster_wide_rights(render: Render) -> None:
    rules = [o for o in render("--set", "scope=Cluster") if o["kind"].startswith("ClusterRole")]
    assert [o["metadata"]["name"] for o in rules] == ["ml-oikyo", "ml-oikyo"]


@pytest.mark.parametrize(
    ("values", "served"),
    [
        ("replicas=1", ("ml",)),
        ("watchNamespaces={a,b}", ("a", "b")),
        ("scope=Cluster", ()),
    ],
)
def test_the_controller_understands_its_arguments(
    render: Render, values: str, served: tuple[str, ...]
) -> None:
    container = pod_of(render("--set", values))["containers"][0]
    config = parse(container["args"], env={"POD_NAMESPACE": "ml", "POD_NAME": "oikyo-0"})
    assert config.namespaces == served
    assert config.trainer_image == "oikyo/oikyo-trainer:0.1.0"
    assert config.lease_namespace == "ml"
    assert config.identity == "oikyo-0"


def pod_of(objects: list[Object]) -> Object:
    spec: Object = of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]
    return spec


def test_the_operator_fits_pod_security_restricted(objects: list[Object]) -> None:
    pod = pod_of(objects)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"] is True
        assert security["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all(set(volume) == {"name", "emptyDir"} for volume in pod["volumes"])


@pytest.mark.parametrize(("replicas", "budgets"), [(0, 0), (1, 0), (2, 1)])
def test_a_disruption_budget_needs_a_second_replica(
    render: Render, replicas: int, budgets: int
) -> None:
    objects = render("--set", f"replicas={replicas}")
    assert len(of_kind(objects, "PodDisruptionBudget")) == budgets


@pytest.mark.parametrize("keep", [True, False])
def test_crds_are_the_generated_ones_and_stay_when_asked(render: Render, keep: bool) -> None:
    made = of_kind(render("--set", f"crds.keep={str(keep).lower()}"), "CustomResourceDefinition")
    sources = [yaml.safe_load(p.read_text()) for p in sorted((CHART / "files/crds").glob("*.yaml"))]
    assert [o["spec"] for o in made] == [o["spec"] for o in sources]
    assert len(made) == 3
    for item in made:
        policy = item["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        assert policy == ("keep" if keep else None)


def test_crds_can_be_left_to_somebody_else(render: Render) -> None:
    assert not of_kind(render("--set", "crds.enabled=false"), "CustomResourceDefinition")


MONITORS = {"ServiceMonitor": 1, "PodMonitor": 2, "PrometheusRule": 1}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((), False),
        (MONITORING, True),
        (("--set", "{0}.serviceMonitor.{1},{0}.podMonitor.{1},{0}.prometheusRule.{1}"), True),
        (
            (
                *MONITORING,
                "--set",
                "{0}.serviceMonitor.{2},{0}.podMonitor.{2},{0}.prometheusRule.{2}",
            ),
            False,
        ),
    ],
    ids=["API absent", "API present", "forced", "refused"],
)
def test_monitors_exist_where_their_api_does(
    render: Render, flags: tuple[str, ...], expected: bool
) -> None:
    words = ("monitoring", "enabled=Always", "enabled=Never")
    objects = render(*(flag.format(*words) for flag in flags))
    counts = {kind: len(of_kind(objects, kind)) for kind in MONITORS}
    assert counts == (MONITORS if expected else dict.fromkeys(MONITORS, 0))


def test_monitors_carry_the_labels_that_a_prometheus_selects_by(render: Render) -> None:
    objects = render(*MONITORING, "--set", "monitoring.labels.release=stack")
    monitors = [o for o in objects if o["kind"] in MONITORS]
    assert {o["metadata"]["labels"]["release"] for o in monitors} == {"stack"}


def test_pod_monitors_name_ports_and_labels_that_the_controllers_pods_have(render: Render) -> None:
    manifests = CHART.parents[1] / "operator/oikyo/controller/manifests"
    stage, server = (manifests / f"{name}.py" for name in ("stage", "server"))
    monitors = of_kind(render(*MONITORING), "PodMonitor")
    ports = [o["spec"]["podMetricsEndpoints"][0]["port"] for o in monitors]
    assert ports == ["progress", "http"]
    assert f'"name": "{ports[0]}"' in stage.read_text()
    assert f'"name": "{ports[1]}", "containerPort"' in server.read_text()


def test_the_rules_shipped_are_the_rules_tested(render: Render) -> None:
    (rule,) = of_kind(render(*MONITORING), "PrometheusRule")
    text = (CHART / "files/alerts.yaml").read_text()
    page = "https://github.com/oikyo/oikyo/blob/main/docs/reference/alerts.md"
    assert rule["spec"] == yaml.safe_load(text.replace("RUNBOOK_URL", page))


def policies(objects: list[Object]) -> dict[str, Object]:
    return {o["metadata"]["name"]: o["spec"] for o in of_kind(objects, "NetworkPolicy")}


def test_stages_are_reached_by_each_other_and_for_metrics_only(render: Render) -> None:
    spec = policies(render())["oikyo-stages"]
    peers, metrics = spec["ingress"]
    assert peers == {"from": [{"podSelector": spec["podSelector"]}]}
    assert metrics["ports"] == [{"port": 9400, "protocol": "TCP"}]
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_only_preparation_reaches_the_world_and_never_the_machines_credentials(
    render: Render,
) -> None:
    found = policies(render())
    assert found["oikyo-prepare"]["podSelector"] == {"matchLabels": {"oikyo.dev/stage": "prepare"}}
    (rule,) = found["oikyo-prepare"]["egress"]
    assert "169.254.169.254/32" in rule["to"][0]["ipBlock"]["except"]
    for name in ("oikyo-stages", "oikyo-servers"):
        open_ports = [r["ports"] for r in found[name]["egress"] if "to" not in r]
        assert [sorted({p["port"] for p in ports}) for ports in open_ports] == [[53]]


def test_the_selectors_of_policies_match_the_operators_pods(render: Render) -> None:
    objects = render()
    labels = of_kind(objects, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
    own = policies(objects)["oikyo"]["podSelector"]["matchLabels"]
    operator = policies(objects)["oikyo-stages"]["ingress"][1]["from"][0]["podSelector"]
    assert own.items() <= labels.items()
    assert operator["matchLabels"].items() <= labels.items()


def test_object_names_fit_a_label_however_long_the_release_is(render: Render) -> None:
    objects = render("--set", f"fullnameOverride={'x' * 90}")
    assert max(len(o["metadata"]["name"]) for o in objects) <= 63
    assert of_kind(objects, "Deployment")[0]["metadata"]["name"] == "x" * 52
