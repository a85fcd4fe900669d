"""The command line: `python -m kit up|down|status|kubeconfig|load|build|ahead|images|leftovers`."""

import argparse
import os
import sys
from pathlib import Path

from kit import binaries, images, leftovers, places, record
from kit.cluster import Cluster
from kit.commands import say
from kit.errors import KitError


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    root = argparse.ArgumentParser(prog="kit", description="A real Kubernetes for the tests.")
    verbs = root.add_subparsers(dest="verb", required=True)
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument("--state", type=Path, default=places.default_state())
    up = verbs.add_parser("up", parents=[where], help="start a cluster, or find the running one")
    up.add_argument("--nodes", type=int, default=2, help="0 starts only an API server")
    up.add_argument("--gpus", type=int, default=2, help="nvidia.com/gpu offered by each node")
    up.add_argument("--controllers", action="store_true", help="with --nodes 0: GC and the like")
    down = verbs.add_parser("down", parents=[where], help="stop it and leave nothing behind")
    down.add_argument("--purge", action="store_true", help="drop unpacked images and logs too")
    verbs.add_parser("images", parents=[where], help="build both images, bring them to the nodes")
    verbs.add_parser("status", parents=[where], help="say what runs")
    verbs.add_parser("kubeconfig", parents=[where], help="print the path of the kubeconfig")
    load = verbs.add_parser("load", parents=[where], help="import an OCI archive on every node")
    load.add_argument("archive", type=Path)
    build = verbs.add_parser("build", help="only build programs; default: all a cluster needs")
    build.add_argument("programs", nargs="*", default=list(binaries.CLUSTER))
    verbs.add_parser("ahead", help="build all that the tests need, while others run already")
    verbs.add_parser("leftovers", parents=[where], help="print what a cluster left behind")
    return root


def up(options: argparse.Namespace) -> int:
    cluster = Cluster.up(
        options.state,
        node_count=options.nodes,
        controllers=bool(options.nodes) or options.controllers,
        gpus=options.gpus,
    )
    print(cluster.kubeconfig)
    return 0


def down(options: argparse.Namespace) -> int:
    if record.read(options.state.resolve()) is None:
        say(f"no cluster was started in {options.state}")
    else:
        Cluster.open(options.state).down(purge=options.purge)
    return 0


def status(options: argparse.Namespace) -> int:
    cluster = Cluster.open(options.state)
    print(f"{cluster.record.engine}, {cluster.record.node_count} nodes, {cluster.kubeconfig}")
    for server in cluster.servers:
        print(f"{server.name:26} {'runs' if server.alive else 'ENDED'} {server.pid}")
    healthy = cluster.healthy()
    print("the API answers" if healthy else "not whole; `kit up` starts it anew")
    return 0 if healthy else 1


def kubeconfig(options: argparse.Namespace) -> int:
    print(Cluster.open(options.state).kubeconfig)
    return 0


def load(options: argparse.Namespace) -> int:
    Cluster.open(options.state).load(options.archive)
    return 0


def project_images(options: argparse.Namespace) -> int:
    if record.read(options.state.resolve()) is None:
        for target in images.TARGETS:
            images.build(target)
            print(target.image)
    else:
        Cluster.open(options.state).load_images()
    return 0


def build(options: argparse.Namespace) -> int:
    for name in options.programs:
        print(binaries.binary(name))
    return 0


def ahead(options: argparse.Namespace) -> int:
    os.setpgid(0, 0)  # who ends this ends the compilers with it
    binaries.build_all(binaries.ALL_TESTS)
    for target in images.TARGETS:
        images.build(target)
    return 0


def left(options: argparse.Namespace) -> int:
    lines = leftovers.find(options.state.resolve())
    print("\n".join(lines) if lines else "nothing is left behind")
    return 1 if lines else 0


VERBS = {
    "up": up,
    "down": down,
    "status": status,
    "kubeconfig": kubeconfig,
    "load": load,
    "build": build,
    "ahead": ahead,
    "images": project_images,
    "leftovers": left,
}


def main() -> int:
    options = parser().parse_args()
    try:
        return VERBS[options.verb](options)
    except KitError as error:
        say(f"kit: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
