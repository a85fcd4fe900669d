"""Renders the configuration files of a node and of the control plane; pure.

Every line that is not Kubernetes' default has its reason beside it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from kit.layout import DOMAIN, SERVICES, Layout, NodeLayout

PAUSE_IMAGE = "localhost/oikyo-pause:1"
# Inside a node's mount namespace this well-known path is the node's own folder.
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
GANG_GATE = "--feature-gates=GenericWorkload=true"
"""PodGroups are beta in 1.37, and off unless asked for."""
GANG_API = "--runtime-config=scheduling.k8s.io/v1beta1=true"
LIFELESS_NODES = "--controllers=*,-node-lifecycle-controller"
"""Nobody taints nodes that are only objects, and send no heartbeat."""


@dataclass(frozen=True)
class NodeFiles:
    """The files of one node, all under the cluster's state folder."""

    folder: Path
    authority: Path

    @property
    def containerd_root(self) -> Path:
        """Images live here and outlast `down`, as they would on a machine that is switched off."""
        return self.folder.parent / "images" / self.folder.name

    @property
    def certificate(self) -> Path:
        return self.folder / "pki" / "kubelet.crt"

    @property
    def key(self) -> Path:
        return self.folder / "pki" / "kubelet.key"


def containerd(files: NodeFiles) -> str:
    """Return containerd's config.toml."""
    return f"""version = 3
root = "{files.containerd_root}"
state = "{files.folder}/run"
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE lowering oom_score_adj is refused, and runc then dies at every start.
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "{files.folder}/cni"
"""


def pod_network(files: NodeFiles, node: NodeLayout) -> str:
    """Return the CNI list: a bridge in the node's namespace, addresses from the node's range."""
    addresses = {
        "type": "host-local",
        "dataDir": f"{files.folder}/ipam",
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    plugins = [{**bridge, "ipam": addresses}, ports]
    return json.dumps({"cniVersion": "1.0.0", "name": "oikyo", "plugins": plugins}, indent=1)


def kubelet(files: NodeFiles, node: NodeLayout, gateway: str, *, cgroup_v1: bool) -> str:
    """Return the kubelet's configuration."""
    config: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(files.authority)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(files.certificate),
        "tlsPrivateKeyFile": str(files.key),
        "clusterDNS": [gateway],
        "clusterDomain": DOMAIN,
        "failSwapOn": False,
        # The disk is the machine's own and may be rather full: only a real shortage evicts.
        "evictionHard": {
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "memory.available": "100Mi",
        },
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
        "podLogsDir": f"{files.folder}/podlogs",
        "volumePluginDir": f"{files.folder}/volumeplugins",
        "shutdownGracePeriod": "0s",
    }
    if cgroup_v1:
        config["failCgroupV1"] = False
    return yaml.safe_dump(config, sort_keys=False)


def kube_proxy(files: NodeFiles, node: NodeLayout, layout: Layout) -> str:
    """Return kube-proxy's configuration."""
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "hostnameOverride": node.name,
            "clientConnection": {"kubeconfig": f"{files.folder}/kube-proxy.conf"},
            # Zero leaves the machine's connection tracking limits as they are.
            "conntrack": {"maxPerCore": 0, "min": 0},
            "clusterCIDR": layout.pods,
            "metricsBindAddress": "",
        },
        sort_keys=False,
    )


def corefile(layout: Layout, credentials: Path) -> str:
    """Return CoreDNS's configuration: cluster names from the API, the rest from the host."""
    return f""".:53 {{
  bind {layout.gateway}
  errors
  kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
    kubeconfig {credentials}
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
  }}
  forward . /etc/resolv.conf
}}
"""


def audit_policy() -> str:
    """Return the audit policy: who did what to which object, without bodies.

    The kit's own keeper watches for ever, which would drown what tests count.
    """
    keeper = {"level": "None", "users": ["oikyo:keeper"], "verbs": ["get", "list", "watch"]}
    return yaml.safe_dump(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [keeper, {"level": "Metadata"}],
        },
        sort_keys=False,
    )


def etcd_flags(folder: Path, pki: Path, client_port: int, peer_port: int) -> list[str]:
    """Return etcd's flags: loopback only, certificates both ways, no fsync (nothing to keep)."""
    client, peer = f"https://127.0.0.1:{client_port}", f"https://127.0.0.1:{peer_port}"
    certificate, key, authority = pki / "etcd.crt", pki / "etcd.key", pki / "etcd-ca.crt"
    return [
        f"--data-dir={folder}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--cert-file={certificate}",
        f"--key-file={key}",
        f"--trusted-ca-file={authority}",
        "--client-cert-auth",
        f"--peer-cert-file={certificate}",
        f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={authority}",
        "--peer-client-cert-auth",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server_flags(state: Path, address: str, port: int, etcd_port: int) -> list[str]:
    """Return the flags of every API server of the kit, with nodes or without."""
    pki = state / "pki"
    return [
        f"--bind-address={address}",
        f"--secure-port={port}",
        f"--etcd-servers=https://127.0.0.1:{etcd_port}",
        f"--etcd-cafile={pki}/etcd-ca.crt",
        f"--etcd-certfile={pki}/etcd.crt",
        f"--etcd-keyfile={pki}/etcd.key",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        # Pods trust the CA that their service account carries, so the server must have it too.
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/ca.crt",
        f"--service-cluster-ip-range={SERVICES}",
        f"--service-account-key-file={pki}/sa.pub",
        f"--service-account-signing-key-file={pki}/sa.key",
        f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}",
        # A pod's token ends after its 3607 s; by default it would be taken for a year.
        "--service-account-extend-token-expiration=false",
        "--allow-privileged",
        f"--audit-policy-file={state}/audit-policy.yaml",
        f"--audit-log-path={state}/log/audit.log",
        f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
    ]


def api_server_with_nodes(state: Path, layout: Layout) -> list[str]:
    """Return what an API server needs on top to speak to kubelets and aggregated APIs."""
    pki = state / "pki"
    return [
        f"--advertise-address={layout.gateway}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        # The host has no route to ClusterIPs: go to the pods behind metrics.k8s.io instead.
        "--enable-aggregator-routing",
    ]


def api_server_alone(*, controllers: bool) -> list[str]:
    """Return what fits an API server without nodes."""
    # Nobody would reach the `kubernetes` Service, and loopback may not stand in its endpoints.
    flags = ["--endpoint-reconciler-type=none"]
    if not controllers:
        # Nobody makes the default accounts either, and without one no pod would be accepted.
        flags.append("--disable-admission-plugins=ServiceAccount")
    return flags


def controller_manager_flags(state: Path) -> list[str]:
    """Return the flags of kube-controller-manager."""
    pki = state / "pki"
    return [
        f"--kubeconfig={state}/kube-controller-manager.conf",
        f"--service-account-private-key-file={pki}/sa.key",
        f"--root-ca-file={pki}/ca.crt",
        "--use-service-account-credentials",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def scheduler_flags(state: Path) -> list[str]:
    """Return the flags of kube-scheduler."""
    return [f"--kubeconfig={state}/kube-scheduler.conf", "--leader-elect=false", "--secure-port=0"]
