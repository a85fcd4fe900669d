"""Builds each server and client from its pinned Go module, once per digest of what it is built from.

`binary("helm")` is all a test needs: it returns the path, building on the first call.  The module
files under modules/ fix every dependency; nothing here names a version.
"""

import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from kit import places
from kit.commands import run, say
from kit.errors import KitError


@dataclass(frozen=True)
class Tool:
    """One upstream project: its folder under modules/, and the programs taken from it.

    Projects in one folder share one choice of versions, so that what they have in common is compiled
    once: with a folder each, the Kubernetes client alone was compiled five times over.
    """

    folder: str
    module: str
    programs: tuple[tuple[str, str], ...]
    """(file name, Go package) pairs."""
    tags: str = ""
    version_variables: tuple[str, ...] = ()
    """Go variables that the linker sets to the module's version."""


KUBERNETES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)
CONTAINERD = ("containerd", "containerd-shim-runc-v2", "ctr")

TOOLS = (
    Tool("etcd", "go.etcd.io/etcd/server/v3", (("etcd", "go.etcd.io/etcd/server/v3"),)),
    Tool(
        "kubernetes",
        "k8s.io/kubernetes",
        tuple((name, f"k8s.io/kubernetes/cmd/{name}") for name in KUBERNETES),
        version_variables=("k8s.io/component-base/version.gitVersion",),
    ),
    Tool(
        "containerd",
        "github.com/containerd/containerd/v2",
        tuple((name, f"github.com/containerd/containerd/v2/cmd/{name}") for name in CONTAINERD),
        tags="no_btrfs,no_zfs,no_devmapper",
        version_variables=("github.com/containerd/containerd/v2/version.Version",),
    ),
    # A main package of ours: upstream's has all plugins, and with them the SDKs of every cloud.
    Tool("tools", "github.com/coredns/coredns", (("coredns", "oikyo.dev/kit/tools/coredns"),)),
    Tool(
        "tools",
        "sigs.k8s.io/metrics-server",
        (("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),),
    ),
    Tool("kind", "sigs.k8s.io/kind", (("kind", "sigs.k8s.io/kind"),)),
    Tool(
        "tools",
        "helm.sh/helm/v4",
        (("helm", "helm.sh/helm/v4/cmd/helm"),),
        version_variables=("helm.sh/helm/v4/internal/version.version",),
    ),
    Tool(
        "tools",
        "helm.sh/helm/v3",
        (("helm3", "helm.sh/helm/v3/cmd/helm"),),
        version_variables=("helm.sh/helm/v3/internal/version.version",),
    ),
    Tool(
        "tools",
        "github.com/yannh/kubeconform",
        (("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform"),),
        version_variables=("main.version",),
    ),
    Tool(
        "tools",
        "github.com/prometheus/prometheus",
        (
            ("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),
            ("promtool", "github.com/prometheus/prometheus/cmd/promtool"),
        ),
        # The tests find pods by the API server; the SDKs of every cloud are most of Prometheus.
        tags="remove_all_sd,enable_kubernetes_sd",
        version_variables=("github.com/prometheus/common/version.Version",),
    ),
    Tool(
        "versitygw",
        "github.com/versity/versitygw",
        (("versitygw", "github.com/versity/versitygw/cmd/versitygw"),),
        version_variables=("main.Version",),
    ),
)

API_SERVER = ("etcd", "kube-apiserver", "kubectl")
CLUSTER = ("etcd", *KUBERNETES, *CONTAINERD, "coredns", "metrics-server")
"""What a cluster with nodes needs, in the order in which it is built."""
CLIENTS = ("promtool", "helm", "helm3", "kubeconform", "versitygw")
ALL_TESTS = (*CLIENTS, *CLUSTER, "prometheus")
"""What all tests need, in the order in which they ask for it."""


def tool_of(name: str) -> Tool:
    """Return the tool that a program belongs to."""
    for tool in TOOLS:
        if name in dict(tool.programs):
            return tool
    known = ", ".join(sorted(program for tool in TOOLS for program, _ in tool.programs))
    raise KitError(f"{name} is not a program of the kit; it has {known}")


def version(tool: Tool, go_mod: str) -> str:
    """Read from a go.mod the version at which the tool's module is pinned."""
    found = re.search(rf"^(?:require )?\s*{re.escape(tool.module)} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise KitError(f"modules/{tool.folder}/go.mod does not require {tool.module}")
    return found.group(1)


def build_flags(tool: Tool, go_mod: str) -> list[str]:
    """Return the flags of `go build`: static, stripped, and knowing its own version."""
    pinned = version(tool, go_mod)
    settings = [f"-X {variable}={pinned}" for variable in tool.version_variables]
    if tool.folder == "kubernetes":
        major, minor, _ = pinned.removeprefix("v").split(".", 2)
        settings.append(f"-X k8s.io/component-base/version.gitMajor={major}")
        settings.append(f"-X k8s.io/component-base/version.gitMinor={minor}")
    tags = ["-tags", tool.tags] if tool.tags else []
    return [*tags, "-ldflags", " ".join(["-s", "-w", *settings])]


def digest(tool: Tool, go_mod: str, go_sum: str) -> str:
    """Name a build by everything it is made from; the compiler is fixed by go.mod's `go` line."""
    parts = [go_mod, go_sum, repr(tool.programs), repr(build_flags(tool, go_mod)), *own_code(tool)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def own_code(tool: Tool) -> list[str]:
    """Return the Go files of ours that the tool's programs are built from."""
    names = [name for name, package in tool.programs if package.startswith("oikyo.dev/")]
    folders = [places.MODULES / tool.folder / name for name in names]
    return [path.read_text() for one in folders for path in sorted(one.glob("*.go"))]


def folder(tool: Tool) -> Path:
    """Return where the tool's programs are kept."""
    source = places.MODULES / tool.folder
    name = digest(tool, (source / "go.mod").read_text(), (source / "go.sum").read_text())
    return places.cache() / "bin" / f"{tool.folder}-{name}"


def binary(name: str) -> Path:
    """Return the path of a program, building it first where it is missing."""
    tool = tool_of(name)
    path = folder(tool) / name
    if not path.exists():
        with places.alone("build"):  # two at a time would compile what they share twice
            if not path.exists():
                build(tool, name, path)
    return path


def build(tool: Tool, name: str, path: Path) -> None:
    """Compile one program into its cache; the rename makes a half-written one impossible."""
    source = places.MODULES / tool.folder
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{name}.{os.getpid()}")
    began = time.monotonic()
    say(f"building {name} {version(tool, (source / 'go.mod').read_text())} ...")
    command = ["go", "build", "-mod=readonly", "-buildvcs=false"]
    command += [*build_flags(tool, (source / "go.mod").read_text()), "-o", str(unfinished)]
    run(*command, dict(tool.programs)[name], cwd=source, env={"CGO_ENABLED": "0", "GOFLAGS": ""})
    unfinished.replace(path)
    say(f"building {name} ... {time.monotonic() - began:.0f} s")


def build_all(names: tuple[str, ...]) -> None:
    """Build every program named that is not in the cache yet."""
    for name in names:
        binary(name)
        time.sleep(0.1)  # whoever waits for another program is let in between
